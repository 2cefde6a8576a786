//! Blocks over 64 KiB: one map of free blocks for all threads.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use super::{counters, small, system, Block};
use crate::{bail, Result};

/// Sizes are rounded up to whole pages.
const PAGE: usize = 4096;
/// How often the lock is tried before the system is asked instead. The lock is held for some
/// hundred nanoseconds; in a forked child it may be held forever.
const LOCK_TRIES: usize = 200;

static CACHE: Mutex<Cache> = Mutex::new(Cache::new());
static CACHED_BYTES: AtomicUsize = AtomicUsize::new(0);
/// 0 until it is first needed: a quarter of the memory then.
static CACHE_LIMIT: AtomicUsize = AtomicUsize::new(0);

struct Free(NonNull<u8>);
// SAFETY: a free block is owned by the map and tied to no thread.
unsafe impl Send for Free {}

/// The free blocks, by size and by age.
struct Cache {
    /// Key: capacity, then the time when it was freed.
    by_size: BTreeMap<(usize, u64), Free>,
    /// Time when it was freed -> capacity.
    by_age: BTreeMap<u64, usize>,
    clock: u64,
}

impl Cache {
    const fn new() -> Self {
        Self { by_size: BTreeMap::new(), by_age: BTreeMap::new(), clock: 0 }
    }

    /// The smallest block that holds `len_bytes` and is at most a quarter larger; of several the one
    /// freed last, which is the likeliest to be in the processor's cache.
    fn best_fit(&mut self, len_bytes: usize) -> Option<(Free, usize)> {
        let largest = len_bytes + len_bytes / 4;
        let (&(capacity, _), _) = self.by_size.range((len_bytes, 0)..=(largest, u64::MAX)).next()?;
        let (&key, _) = self.by_size.range((capacity, 0)..=(capacity, u64::MAX)).next_back()?;
        self.remove(key)
    }

    fn oldest(&mut self) -> Option<(Free, usize)> {
        let (&time, &capacity) = self.by_age.first_key_value()?;
        self.remove((capacity, time))
    }

    fn remove(&mut self, key: (usize, u64)) -> Option<(Free, usize)> {
        let free = self.by_size.remove(&key)?;
        self.by_age.remove(&key.1);
        CACHED_BYTES.fetch_sub(key.0, Relaxed);
        Some((free, key.0))
    }

    fn insert(&mut self, free: Free, capacity: usize) {
        self.clock += 1;
        self.by_size.insert((capacity, self.clock), free);
        self.by_age.insert(self.clock, capacity);
        CACHED_BYTES.fetch_add(capacity, Relaxed);
    }
}

/// The map, unless somebody else keeps it.
fn try_lock() -> Option<MutexGuard<'static, Cache>> {
    for _ in 0..LOCK_TRIES {
        if let Ok(cache) = CACHE.try_lock() {
            return Some(cache);
        }
        std::hint::spin_loop();
    }
    None
}

pub(super) fn take(len_bytes: usize) -> Result<Block> {
    // isize::MAX is the most that Rust allows for one object.
    let Some(wanted) = len_bytes.checked_next_multiple_of(PAGE).filter(|&bytes| bytes <= isize::MAX as usize)
    else {
        bail!(
            Memory,
            "allocate: {} are more than can be addressed; check the shape",
            super::spelled(len_bytes)
        );
    };
    let cached = try_lock().and_then(|mut cache| cache.best_fit(wanted));
    let missed = cached.is_none();
    let (ptr, capacity) = match cached {
        Some((free, capacity)) => (free.0, capacity),
        None => (super::from_system(wanted)?, wanted),
    };
    small::with_counters(
        |counters| {
            if missed {
                counters.missed();
            }
            counters.took(capacity);
            counters.flush();
        },
        || counters::took_orphan(capacity),
    );
    Ok(Block { ptr, capacity })
}

pub(super) fn give(ptr: NonNull<u8>, capacity: usize) {
    small::with_counters(
        |counters| {
            counters.gave(capacity);
            counters.flush();
        },
        || counters::gave_orphan(capacity),
    );
    let limit = cache_limit();
    if capacity <= limit {
        if let Some(mut cache) = try_lock() {
            cache.insert(Free(ptr), capacity);
            drop(cache);
            shrink(limit);
            return;
        }
    }
    // SAFETY: the block came from the system with this capacity and is not in the map.
    unsafe { system::free(ptr, capacity) };
}

/// Frees the oldest blocks until at most `limit` bytes are kept; the system is called unlocked.
fn shrink(limit: usize) {
    while cached_bytes() > limit {
        let Some((free, capacity)) = try_lock().and_then(|mut cache| cache.oldest()) else { return };
        // SAFETY: blocks in the map came from the system with the capacity they are filed under.
        unsafe { system::free(free.0, capacity) };
    }
}

/// Gives all free blocks back to the system.
pub(super) fn empty() {
    shrink(0);
}

pub(super) fn cached_bytes() -> usize {
    CACHED_BYTES.load(Relaxed)
}

fn cache_limit() -> usize {
    match CACHE_LIMIT.load(Relaxed) {
        0 => system::memory_bytes() / 4,
        set => set,
    }
}

pub(super) fn set_cache_limit(bytes: usize) {
    // 0 stands for "not set"; a limit of one byte keeps nothing either.
    CACHE_LIMIT.store(bytes.max(1), Relaxed);
    shrink(bytes);
}
