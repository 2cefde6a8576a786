//! Threads: the one file that names rayon.
//!
//! A region is a loop over chunks. The caller puts it on the pool's board, makes sure that enough
//! workers are up, and takes chunks itself. Each thread has a share of the chunks, the same in every
//! region of so many chunks, so that it finds in its core's cache what it left there; when its share is
//! done it takes chunks of the others. So a worker that is slow to wake costs nothing: the caller waits
//! only for chunks that a worker has really begun. A worker that finds no work looks at the board for a
//! short while before it goes back to rayon's sleep, which makes the next region cheap to enter.

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{ensure, Result};

/// How long an idle worker looks for the next region: about the time that waking it would take.
const LINGER: Duration = Duration::from_micros(40);
/// Chunks per thread: enough for a late worker to find some left, few enough to claim cheaply.
const CHUNKS_PER_THREAD: usize = 4;
/// Chunks of this many elements or more end on a multiple of it, so that no vector of a kernel is
/// cut in two and rounding does not depend on the number of threads.
const ALIGN: usize = 64;

/// Workers that a pool may start with though nobody has asked for so many threads.
const SPARE_WORKERS: usize = 8;

/// Splits `0..len` into chunks of about `grain` or more and runs `body` on each, on all threads.
///
/// `grain` is the length that is worth a thread; a loop of at most that runs on the caller, and so
/// does a loop inside a loop. Chunks may run in any order. A panic in `body` comes out of this call.
#[inline]
pub fn for_each_chunk(len: usize, grain: usize, body: impl Fn(Range<usize>) + Sync) {
    split(len, grain, &body);
}

fn split(len: usize, grain: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    let threads = num_threads();
    if len <= grain.max(1) || threads == 1 || is_nested() {
        if len > 0 {
            body(0..len);
        }
        return;
    }
    let count = len.div_ceil(grain.max(1)).min(threads * CHUNKS_PER_THREAD);
    let mut chunk = len.div_ceil(count);
    if chunk >= ALIGN {
        chunk = chunk.next_multiple_of(ALIGN);
    }
    run(len.div_ceil(chunk), threads, &|index| {
        let start = index * chunk;
        body(start..len.min(start + chunk));
    });
}

/// Runs `body` on each of `0..count`, on all threads: for tasks that are each worth a thread.
pub fn for_each(count: usize, body: impl Fn(usize) + Sync) {
    let threads = num_threads();
    if count <= 1 || threads == 1 || is_nested() {
        (0..count).for_each(body);
        return;
    }
    run(count, threads, &body);
}

/// Number of threads that kernels may use, the caller included.
///
/// At first this is `FIRESTEEL_NUM_THREADS`, else `OMP_NUM_THREADS`, else what CPU affinity and the
/// container's quota leave.
#[inline]
pub fn num_threads() -> usize {
    match LIMIT.load(Ordering::Relaxed) {
        0 => {
            let _ = LIMIT.compare_exchange(0, default_threads(), Ordering::Relaxed, Ordering::Relaxed);
            LIMIT.load(Ordering::Relaxed)
        }
        limit => limit,
    }
}

/// More threads than any machine that this is meant for has cores; a typing error must not start a million.
const MAX_THREADS: usize = 1024;

/// Sets the number of threads that kernels may use, the caller included.
pub fn set_num_threads(threads: usize) -> Result<()> {
    ensure!(
        (1..=MAX_THREADS).contains(&threads),
        Value,
        "set_num_threads: got {threads}; pass a number from 1 to {MAX_THREADS}"
    );
    LIMIT.store(threads, Ordering::Relaxed);
    Ok(())
}

/// Calls `before` ahead of every fork of this process, and `after` behind it in parent and child: for locks
/// that a child must not find held by a thread that it does not have.
pub(crate) fn at_fork(before: extern "C" fn(), after: extern "C" fn()) {
    #[cfg(unix)]
    // SAFETY: the handlers are functions of this library, which is never unloaded.
    unsafe {
        libc::pthread_atfork(Some(before), Some(after), Some(after));
    }
    #[cfg(not(unix))]
    let _ = (before, after);
}

/// Whether this thread is inside a region, where further regions run on it alone.
fn is_nested() -> bool {
    IN_REGION.with(Cell::get)
}

/// What `num_threads` returns; 0 before the first question.
static LIMIT: AtomicUsize = AtomicUsize::new(0);
/// The pool in use. Pools are never freed: a worker or another caller may still look at one.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    static IN_REGION: Cell<bool> = const { Cell::new(false) };
}

fn default_threads() -> usize {
    let from = |name: &str| std::env::var(name).ok().and_then(|value| parse_threads(&value));
    from("FIRESTEEL_NUM_THREADS").or_else(|| from("OMP_NUM_THREADS")).unwrap_or_else(cores).min(MAX_THREADS)
}

/// What CPU affinity and the container's quota leave.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first number of `4` or of OpenMP's list `4,2`, unless it is 0.
fn parse_threads(value: &str) -> Option<usize> {
    value.split(',').next()?.trim().parse().ok().filter(|threads| *threads >= 1)
}

/// Workers, and the regions that they may join.
struct Pool {
    /// Process that the workers live in: a forked child has none of its parent's threads.
    pid: u32,
    workers: usize,
    /// `None` if the system gave us no threads.
    rayon: Option<rayon::ThreadPool>,
    board: Mutex<Vec<Arc<Region>>>,
    /// Counts the regions put on the board; idle workers watch it.
    posted: AtomicUsize,
    /// Helper jobs that run or wait in rayon's queue.
    up: AtomicUsize,
}

impl Pool {
    /// This process's pool with at least `workers` workers.
    fn get(workers: usize) -> &'static Pool {
        let pid = std::process::id();
        loop {
            let current = POOL.load(Ordering::Acquire);
            // SAFETY: pools are leaked, so the pointer is null or valid for good.
            if let Some(pool) = unsafe { current.as_ref() } {
                if pool.pid == pid && pool.workers >= workers {
                    return pool;
                }
            }
            // A pool that is too small, or a parent's, is forgotten and not dropped: dropping would
            // wait for threads that may not exist here. No lock is held, so a fork at any moment
            // leaves the child able to come through here too.
            // It starts with a worker for every core, up to a few, so that few programs ever need a larger one;
            // on a large machine a program that asks for two threads does not get a hundred.
            let fresh =
                Box::into_raw(Box::new(Pool::new(pid, workers.max((cores() - 1).min(SPARE_WORKERS)))));
            if POOL.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: `fresh` comes from Box::into_raw and was shown to nobody.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    fn new(pid: u32, workers: usize) -> Self {
        let rayon = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|index| format!("firesteel-{index}"))
            .build()
            .ok();
        Self {
            pid,
            workers,
            rayon,
            board: Mutex::default(),
            posted: AtomicUsize::new(0),
            up: AtomicUsize::new(0),
        }
    }

    fn board(&self) -> MutexGuard<'_, Vec<Arc<Region>>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows `region` to the workers and wakes as many as it can use.
    fn post(&'static self, region: &Arc<Region>) {
        let Some(rayon) = &self.rayon else { return };
        let wanted = {
            let mut board = self.board();
            board.retain(|old| !old.is_exhausted());
            board.push(region.clone());
            board.iter().map(|region| region.helpers).sum::<usize>().min(self.workers)
        };
        // Against `help`: either we see that a worker has left, or it sees this region.
        self.posted.fetch_add(1, Ordering::SeqCst);
        let mut up = self.up.load(Ordering::SeqCst);
        while up < wanted {
            match self.up.compare_exchange(up, up + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    rayon.spawn(|| self.help());
                    up += 1;
                }
                Err(now) => up = now,
            }
        }
    }

    /// What a worker does: helps with regions until there has been none for a while.
    fn help(&self) {
        loop {
            let seen = self.posted.load(Ordering::SeqCst);
            while let Some(region) = self.find() {
                region.work(1 + rayon::current_thread_index().unwrap_or(0) % region.helpers);
            }
            if self.linger(seen) {
                continue;
            }
            self.up.fetch_sub(1, Ordering::SeqCst);
            if self.posted.load(Ordering::SeqCst) == seen {
                return;
            }
            self.up.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A region with chunks left and a seat free; the seat is taken.
    fn find(&self) -> Option<Arc<Region>> {
        self.board().iter().find(|region| region.take_seat()).cloned()
    }

    /// Waits a short while for a region after the `seen`-th; whether one came.
    fn linger(&self, seen: usize) -> bool {
        let start = Instant::now();
        while start.elapsed() < LINGER {
            for _ in 0..32 {
                if self.posted.load(Ordering::Acquire) != seen {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }
}

/// The chunks that one thread takes first.
struct Share {
    next: AtomicUsize,
    end: usize,
    /// Keeps counters out of each other's cache lines, and the pairs of lines that are fetched together.
    _apart: [usize; 14],
}

impl Share {
    fn is_exhausted(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.end
    }

    /// The next chunk, if one is left.
    fn claim(&self) -> Option<usize> {
        if self.is_exhausted() {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.end).then_some(index)
    }
}

/// A loop that threads work on together. It may outlive the call that made it; then it is exhausted.
struct Region {
    /// The caller's closure. Valid while a claimed chunk is not done, because the caller waits for it.
    body: *const (dyn Fn(usize) + Sync),
    count: usize,
    helpers: usize,
    /// The caller's, then the helpers'.
    shares: Vec<Share>,
    done: AtomicUsize,
    /// How many of the `helpers` may still join, so that no more than the set number of threads work.
    seats: AtomicUsize,
    has_panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `body` points to a Sync closure and is used only while the caller keeps it alive (see
// `work`); everything else in here is Send and Sync.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn is_exhausted(&self) -> bool {
        self.shares.iter().all(Share::is_exhausted)
    }

    fn take_seat(&self) -> bool {
        let take = |free: usize| free.checked_sub(1);
        !self.is_exhausted() && self.seats.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_ok()
    }

    /// Claims and runs chunks until there are none left, those of the `own`-th share first.
    fn work(&self, own: usize) {
        let mut done = 0;
        for share in self.shares[own..].iter().chain(&self.shares[..own]) {
            while let Some(index) = share.claim() {
                if !self.has_panicked.load(Ordering::Relaxed) {
                    self.run_chunk(index);
                }
                done += 1;
            }
        }
        self.done.fetch_add(done, Ordering::Release);
    }

    fn run_chunk(&self, index: usize) {
        // SAFETY: chunk `index` is claimed and not done, and `run` returns only when all are done,
        // so the closure is still borrowed there.
        let body = unsafe { &*self.body };
        let outer = IN_REGION.with(|flag| flag.replace(true));
        let result = catch_unwind(AssertUnwindSafe(|| body(index)));
        IN_REGION.with(|flag| flag.set(outer));
        if let Err(payload) = result {
            self.has_panicked.store(true, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
    }

    /// Waits for the chunks that workers have begun.
    fn wait(&self) {
        let mut rounds = 0;
        while self.done.load(Ordering::Acquire) < self.count {
            rounds += 1;
            if rounds < 2000 {
                std::hint::spin_loop();
            } else {
                // The worker may have lost its core: do not keep it from getting one.
                std::thread::yield_now();
            }
        }
    }
}

/// Runs `body` on each of `0..count`, on the caller and up to `threads - 1` workers.
fn run(count: usize, threads: usize, body: &(dyn Fn(usize) + Sync)) {
    let helpers = (threads - 1).min(count - 1);
    let edge = |thread: usize| thread * count / (helpers + 1);
    let share = |thread| Share { next: edge(thread).into(), end: edge(thread + 1), _apart: [0; 14] };
    // SAFETY: this only lengthens the lifetime in the type. The pointer is read by `run_chunk` alone,
    // and `wait` keeps this call, and so `body`, alive until the last of those has ended.
    let body: *const (dyn Fn(usize) + Sync) =
        unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(body) };
    let region = Arc::new(Region {
        body,
        count,
        helpers,
        shares: (0..=helpers).map(share).collect(),
        done: AtomicUsize::new(0),
        seats: AtomicUsize::new(helpers),
        has_panicked: AtomicBool::new(false),
        panic: Mutex::new(None),
    });
    Pool::get(threads - 1).post(&region);
    region.work(0);
    region.wait();
    if region.has_panicked.load(Ordering::Relaxed) {
        let payload = region.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_threads;

    #[test]
    fn thread_counts_in_variables() {
        assert_eq!(parse_threads(" 4 "), Some(4));
        assert_eq!(parse_threads("3,2"), Some(3));
        assert_eq!(parse_threads("0"), None);
        assert_eq!(parse_threads("many"), None);
    }
}
