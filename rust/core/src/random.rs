//! Random numbers: PyTorch's mt19937 stream, bit for bit.
//!
//! After the same `manual_seed`, the same calls give the values that PyTorch 2.13 gives on a CPU, so
//! initial weights, shuffles and dropout masks of two programs can be compared one to one.

mod distributions;
mod state;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::kernels::random::{self, Temper, STATE_WORDS};
use crate::par;
use crate::simd::dispatch;

/// Seed of a [`Generator`] that was given none; the default generator starts at a [`fresh_seed`].
pub const DEFAULT_SEED: u64 = 67_280_421_310_721;

/// A stream of random numbers and its place in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Generator {
    seed: u64,
    words: [u32; STATE_WORDS],
    /// Words already used; 0 only right after seeding, when the words must be replaced first.
    next: usize,
    /// Second value of the last pair of normal numbers, if nobody has taken it.
    next_normal: Option<f64>,
}

impl Default for Generator {
    fn default() -> Self {
        Self::new(DEFAULT_SEED)
    }
}

impl Generator {
    /// A generator at the start of the stream of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut generator = Self { seed, words: [0; STATE_WORDS], next: 0, next_normal: None };
        generator.manual_seed(seed);
        generator
    }

    /// Starts the stream of `seed`. Only the lower 32 bits choose the stream, as in PyTorch.
    pub fn manual_seed(&mut self, seed: u64) {
        self.seed = seed;
        let mut word = seed as u32;
        self.words[0] = word;
        for i in 1..STATE_WORDS {
            word = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(i as u32);
            self.words[i] = word;
        }
        self.next = 0;
        self.next_normal = None;
    }

    /// The seed given last.
    pub fn initial_seed(&self) -> u64 {
        self.seed
    }

    /// The next 32 bits.
    #[inline]
    pub fn random(&mut self) -> u32 {
        let at = self.at();
        self.next = at + 1;
        random::temper(self.words[at])
    }

    /// The next 64 bits: two words, the upper one first.
    #[inline]
    pub fn random64(&mut self) -> u64 {
        let high = u64::from(self.random());
        (high << 32) | u64::from(self.random())
    }

    /// Index of the next word, after replacing the words if all are used.
    #[inline]
    fn at(&mut self) -> usize {
        if self.next == 0 || self.next == STATE_WORDS {
            random::twist(&mut self.words);
            self.next = 0;
        }
        self.next
    }

    /// Fills `out` with the next words.
    fn fill_words(&mut self, mut out: &mut [u32]) {
        while !out.is_empty() {
            let at = self.at();
            let len = out.len().min(STATE_WORDS - at);
            let (now, rest) = out.split_at_mut(len);
            dispatch(Temper { words: &self.words[at..at + len], out: now });
            self.next = at + len;
            out = rest;
        }
    }
}

/// A seed that the system chooses: another one in every process, and at every call.
pub fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The default generator that the process's threads share.
static OF_PROCESS: LazyLock<Arc<Mutex<Generator>>> = LazyLock::new(|| {
    par::at_fork(hold_for_fork, let_go_after_fork);
    Arc::new(Mutex::new(Generator::new(fresh_seed())))
});

thread_local! {
    /// The default generator of this thread, where it does not share the process's.
    static OF_THREAD: RefCell<Option<Arc<Mutex<Generator>>>> = const { RefCell::new(None) };
}

/// The generator of everybody who brings none of their own: the calling thread's, if it was given one, else
/// the one that the process's threads share.
///
/// A forked child goes on with a copy of it, as in PyTorch.
pub fn default_generator() -> Arc<Mutex<Generator>> {
    OF_THREAD.with_borrow(Option::clone).unwrap_or_else(|| OF_PROCESS.clone())
}

/// Gives the calling thread a default generator of its own, so that what it draws depends on `seed` alone and
/// leaves the other threads' numbers as they are.
pub fn use_thread_generator(seed: u64) {
    OF_THREAD.set(Some(Arc::new(Mutex::new(Generator::new(seed)))));
}

thread_local! {
    static HELD: Cell<Option<MutexGuard<'static, Generator>>> = const { Cell::new(None) };
}

/// While a process forks, nobody draws from what its threads share: the child has no thread that would unlock
/// its copy.
extern "C" fn hold_for_fork() {
    HELD.set(Some(OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner)));
}

extern "C" fn let_go_after_fork() {
    drop(HELD.take());
}
