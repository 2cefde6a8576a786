//! Blocks up to 64 KiB: free lists by size class, one set per thread.

use std::cell::Cell;
use std::ptr::{null_mut, NonNull};

use super::counters::{self, Counters};
use super::{system, Block, SMALL_MAX};
use crate::Result;

/// Classes: 64, 128, 192, 256 bytes, then four per doubling up to 64 KiB.
const CLASSES: usize = 36;
/// A list keeps about this many bytes of free blocks...
const KEPT_BYTES: usize = 512 << 10;
/// ...but at least and at most this many blocks.
const KEPT_BLOCKS: (usize, usize) = (8, 1024);

/// Class and size of the smallest class that holds `len_bytes`.
#[inline(always)]
fn class_of(len_bytes: usize) -> (usize, usize) {
    debug_assert!(len_bytes <= SMALL_MAX);
    if len_bytes <= 256 {
        let class = len_bytes.saturating_sub(1) / 64;
        return (class, (class + 1) * 64);
    }
    let last = len_bytes - 1;
    let log2 = last.ilog2() as usize;
    let shift = log2 - 2;
    (4 + (log2 - 8) * 4 + ((last >> shift) & 3), ((last >> shift) + 1) << shift)
}

/// What a free block holds at its start: the next free block.
struct Free {
    next: *mut Free,
}

struct List {
    head: Cell<*mut Free>,
    len: Cell<usize>,
}

struct Local {
    lists: [List; CLASSES],
    counters: Cell<Option<&'static Counters>>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            lists: [const { List { head: Cell::new(null_mut()), len: Cell::new(0) } }; CLASSES],
            counters: Cell::new(None),
        }
    };
}

impl List {
    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        let free = NonNull::new(self.head.get())?;
        // SAFETY: `push` made every block of the list a `Free`; the list owns it until now.
        self.head.set(unsafe { free.as_ref() }.next);
        self.len.set(self.len.get() - 1);
        Some(free.cast())
    }

    #[inline(always)]
    fn push(&self, ptr: NonNull<u8>) {
        let free = ptr.cast::<Free>();
        // SAFETY: a block has at least 64 aligned bytes, and its owner has just given it up.
        unsafe { free.write(Free { next: self.head.get() }) };
        self.head.set(free.as_ptr());
        self.len.set(self.len.get() + 1);
    }
}

impl Local {
    #[inline(always)]
    fn counters(&self) -> &'static Counters {
        match self.counters.get() {
            Some(counters) => counters,
            None => self.claim(),
        }
    }

    #[cold]
    fn claim(&self) -> &'static Counters {
        let counters = Counters::claim();
        self.counters.set(Some(counters));
        counters
    }

    fn empty(&self) {
        for class in 0..CLASSES {
            let capacity = class_size(class);
            while let Some(ptr) = self.lists[class].pop() {
                self.counters().cached(-(capacity as isize));
                // SAFETY: blocks of this list came from the system with this capacity.
                unsafe { system::free(ptr, capacity) };
            }
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.empty();
        if let Some(counters) = self.counters.get() {
            counters.release();
        }
    }
}

/// Bytes of the blocks of a class.
fn class_size(class: usize) -> usize {
    match class {
        0..4 => (class + 1) * 64,
        _ => (4 + class % 4 + 1) << (class / 4 + 5),
    }
}

#[inline]
pub(super) fn take(len_bytes: usize) -> Result<Block> {
    let (class, capacity) = class_of(len_bytes);
    let cached = LOCAL.try_with(|local| {
        let ptr = local.lists[class].pop()?;
        let counters = local.counters();
        counters.cached(-(capacity as isize));
        counters.took(capacity);
        Some(ptr)
    });
    match cached {
        Ok(Some(ptr)) => Ok(Block { ptr, capacity }),
        _ => take_new(capacity),
    }
}

#[cold]
fn take_new(capacity: usize) -> Result<Block> {
    let ptr = super::from_system(capacity)?;
    with_counters(
        |counters| {
            counters.missed();
            counters.took(capacity);
        },
        || counters::took_orphan(capacity),
    );
    Ok(Block { ptr, capacity })
}

#[inline]
pub(super) fn give(ptr: NonNull<u8>, capacity: usize) {
    let (class, size) = class_of(capacity);
    debug_assert_eq!(size, capacity);
    let kept = LOCAL.try_with(|local| {
        let counters = local.counters();
        counters.gave(capacity);
        let list = &local.lists[class];
        let most = (KEPT_BYTES / capacity).clamp(KEPT_BLOCKS.0, KEPT_BLOCKS.1);
        let keep = list.len.get() < most;
        if keep {
            list.push(ptr);
            counters.cached(capacity as isize);
        }
        keep
    });
    match kept {
        Ok(true) => return,
        Ok(false) => {}
        Err(_) => counters::gave_orphan(capacity),
    }
    // SAFETY: the block came from the system with this capacity and is on no list.
    unsafe { system::free(ptr, capacity) };
}

/// Gives the free blocks of this thread back to the system.
pub(super) fn empty() {
    // Err: the thread is ending and its lists are empty already.
    let _ = LOCAL.try_with(Local::empty);
}

/// Runs `count` on this thread's counters, or `orphan` when the thread is ending.
pub(super) fn with_counters(count: impl FnOnce(&Counters), orphan: impl FnOnce()) {
    match LOCAL.try_with(|local| local.counters()) {
        Ok(counters) => count(counters),
        Err(_) => orphan(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_sizes_with_little_waste() {
        for len in 0..=SMALL_MAX {
            let (class, size) = class_of(len);
            assert!(class < CLASSES && size >= len && size % 64 == 0);
            assert_eq!(class_size(class), size);
            assert!(len <= 256 || size * 4 <= len * 5 + 4 * 64, "{len} in {size}");
            assert_eq!(class_of(size), (class, size));
        }
    }
}
