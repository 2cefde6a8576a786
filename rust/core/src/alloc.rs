//! Memory for tensors: aligned, uninitialised, cached for reuse, counted.
//!
//! Fresh pages cost five to ten times what an element-wise kernel does, so freed blocks are kept.
//! Blocks up to 64 KiB live in free lists of their thread: taking one is a pop, without atomics.
//! Larger blocks share one map, from which a request takes the best fit. A forked child can never
//! hang here: the map's lock is only tried, and whoever does not get it asks the system instead.

mod counters;
mod large;
mod objects;
mod small;
mod system;

pub use objects::Objects;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::{bail, Result};

/// Every block starts at a multiple of this many bytes: a cache line and an AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// Largest request that the free lists of threads serve.
const SMALL_MAX: usize = 64 << 10;

/// The limit on bytes in use; `usize::MAX` is none.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Memory that it alone owns, uninitialised; dropping it gives it back to the cache.
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a block owns its memory, and nothing in it is tied to the thread that asked for it.
unsafe impl Send for Block {}
// SAFETY: `&Block` only tells the address and the size.
unsafe impl Sync for Block {}

impl Block {
    /// At least `len_bytes` bytes, uninitialised, 64-byte aligned even when `len_bytes` is 0.
    ///
    /// Fails with [`Kind::Memory`](crate::Kind::Memory) when the limit, the machine's memory or the
    /// system says no.
    #[inline]
    pub fn new(len_bytes: usize) -> Result<Block> {
        if len_bytes <= SMALL_MAX {
            small::take(len_bytes)
        } else {
            large::take(len_bytes)
        }
    }

    /// Start of the memory.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Bytes that may be used: what was asked for, rounded up.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        if self.capacity <= SMALL_MAX {
            small::give(self.ptr, self.capacity);
        } else {
            large::give(self.ptr, self.capacity);
        }
    }
}

/// What the allocator has handed out and what it keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the blocks that are alive now.
    pub allocated_bytes: usize,
    /// Highest `allocated_bytes` since the start or [`reset_peak`]. Exact while one thread allocates,
    /// within a MiB for every further thread.
    pub peak_bytes: usize,
    /// Bytes of freed blocks that are kept for reuse.
    pub cached_bytes: usize,
    /// Blocks ever asked for.
    pub allocations: u64,
    /// Those of them that the cache did not serve.
    pub system_allocations: u64,
}

/// The present counts, of all threads.
pub fn stats() -> Stats {
    counters::stats()
}

/// Starts a new measurement of `peak_bytes` at the bytes in use now.
pub fn reset_peak() {
    counters::reset_peak();
}

/// Bounds the bytes in use; `None` leaves only the machine's own memory as a bound.
///
/// A request beyond the limit first empties the cache and then fails. Blocks that the cache serves
/// always succeed: they are memory that the process holds anyway.
pub fn set_limit(bytes: Option<usize>) {
    LIMIT.store(bytes.unwrap_or(usize::MAX), Relaxed);
}

/// Bounds the bytes of freed large blocks that are kept; the default is a quarter of the memory.
pub fn set_cache_limit(bytes: usize) {
    large::set_cache_limit(bytes);
}

/// Gives all freed blocks of this thread and all freed large blocks back to the system.
pub fn empty_cache() {
    small::empty();
    large::empty();
}

/// A new block of exactly `capacity` bytes from the system, if limit and memory allow it.
#[cold]
fn from_system(capacity: usize) -> Result<NonNull<u8>> {
    let bound = LIMIT.load(Relaxed).min(system::memory_bytes());
    let held = |stats: Stats| stats.allocated_bytes + stats.cached_bytes;
    if held(stats()).saturating_add(capacity) > bound {
        empty_cache();
        // What other threads keep is bounded and not ours to free: it does not count here.
        let used = stats().allocated_bytes;
        if used.saturating_add(capacity) > bound {
            let whose = if bound < system::memory_bytes() { "the limit" } else { "this machine's memory" };
            bail!(
                Memory,
                "allocate: {} would exceed {whose} of {} ({} in use); free tensors or use smaller ones",
                spelled(capacity),
                spelled(bound),
                spelled(used)
            );
        }
    }
    if let Some(ptr) = system::allocate(capacity) {
        return Ok(ptr);
    }
    empty_cache();
    match system::allocate(capacity) {
        Some(ptr) => Ok(ptr),
        None => bail!(
            Memory,
            "allocate: {} refused by the system ({} in use); free tensors or use smaller ones",
            spelled(capacity),
            spelled(stats().allocated_bytes)
        ),
    }
}

/// `1234 bytes (1.2 KiB)`; below 1 KiB only the bytes.
fn spelled(bytes: usize) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64 / 1024.0;
    if value < 1.0 {
        return format!("{bytes} bytes");
    }
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{bytes} bytes ({value:.1} {})", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::spelled;

    #[test]
    fn sizes_are_spelled_for_people() {
        assert_eq!(spelled(12), "12 bytes");
        assert_eq!(spelled(1234), "1234 bytes (1.2 KiB)");
        assert_eq!(spelled(3 << 30), "3221225472 bytes (3.0 GiB)");
        assert_eq!(spelled(usize::MAX), "18446744073709551615 bytes (16.0 EiB)");
    }
}
