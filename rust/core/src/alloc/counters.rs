//! Statistics that cost the hot path no shared cache line.
//!
//! Each thread writes counters of its own (plain loads and stores); readers add them up. The
//! counters hang in a list that only grows and are passed on to new threads, so reading needs no lock.

use std::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use super::Stats;

/// A thread moves its change of the bytes in use to `ALLOCATED` when it exceeds this.
const FLUSH_BYTES: isize = 1 << 20;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static HEAD: AtomicPtr<Counters> = AtomicPtr::new(std::ptr::null_mut());

/// The counts of one thread. Only the thread that has claimed them writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    next: AtomicPtr<Counters>,
    claimed: AtomicBool,
    /// Change of the bytes in use since the last flush, negative where blocks of others are freed.
    pending: AtomicIsize,
    /// Highest `pending` since the last flush.
    pending_peak: AtomicIsize,
    cached: AtomicIsize,
    allocations: AtomicU64,
    system_allocations: AtomicU64,
}

impl Counters {
    /// Counters for this thread: those of a thread that has ended, or new ones.
    #[cold]
    pub(super) fn claim() -> &'static Counters {
        if let Some(free) = all().find(|c| !c.claimed.swap(true, AcqRel)) {
            return free;
        }
        let new: &'static Counters =
            Box::leak(Box::new(Counters { claimed: AtomicBool::new(true), ..Counters::default() }));
        let mut head = HEAD.load(Acquire);
        loop {
            new.next.store(head, Relaxed);
            match HEAD.compare_exchange_weak(head, std::ptr::from_ref(new).cast_mut(), AcqRel, Acquire) {
                Ok(_) => return new,
                Err(now) => head = now,
            }
        }
    }

    /// Leaves the counters to the next thread; their sums stay valid.
    pub(super) fn release(&self) {
        self.flush();
        self.claimed.store(false, std::sync::atomic::Ordering::Release);
    }

    /// Counts a block of `bytes` handed out.
    #[inline(always)]
    pub(super) fn took(&self, bytes: usize) {
        self.allocations.store(self.allocations.load(Relaxed) + 1, Relaxed);
        let pending = self.pending.load(Relaxed) + bytes as isize;
        self.pending.store(pending, Relaxed);
        if pending > self.pending_peak.load(Relaxed) {
            self.pending_peak.store(pending, Relaxed);
            if pending > FLUSH_BYTES {
                self.flush();
            }
        }
    }

    /// Counts a block of `bytes` given back.
    #[inline(always)]
    pub(super) fn gave(&self, bytes: usize) {
        let pending = self.pending.load(Relaxed) - bytes as isize;
        self.pending.store(pending, Relaxed);
        if pending < -FLUSH_BYTES {
            self.flush();
        }
    }

    /// Counts bytes that enter (or, negative, leave) the free lists of the thread.
    #[inline(always)]
    pub(super) fn cached(&self, bytes: isize) {
        self.cached.store(self.cached.load(Relaxed) + bytes, Relaxed);
    }

    /// Counts a request that the cache did not serve.
    #[inline]
    pub(super) fn missed(&self) {
        self.system_allocations.store(self.system_allocations.load(Relaxed) + 1, Relaxed);
    }

    /// Moves the pending change to the shared count.
    #[cold]
    pub(super) fn flush(&self) {
        let before = ALLOCATED.fetch_add(self.pending.load(Relaxed), Relaxed);
        PEAK.fetch_max(before + self.pending_peak.load(Relaxed), Relaxed);
        self.pending.store(0, Relaxed);
        self.pending_peak.store(0, Relaxed);
    }
}

/// Counts a block handed out by a thread that is ending and has no counters any more.
pub(super) fn took_orphan(bytes: usize) {
    let before = ALLOCATED.fetch_add(bytes as isize, Relaxed);
    PEAK.fetch_max(before + bytes as isize, Relaxed);
}

/// Counts a block given back by a thread that is ending.
pub(super) fn gave_orphan(bytes: usize) {
    ALLOCATED.fetch_sub(bytes as isize, Relaxed);
}

fn all() -> impl Iterator<Item = &'static Counters> {
    let mut at = HEAD.load(Acquire);
    std::iter::from_fn(move || {
        // SAFETY: the list holds leaked counters only, and `claim` published them with release order.
        let counters = unsafe { at.cast_const().as_ref() }?;
        at = counters.next.load(Acquire);
        Some(counters)
    })
}

pub(super) fn stats() -> Stats {
    let shared = ALLOCATED.load(Relaxed);
    let (mut allocated, mut peak, mut cached) = (shared, shared, super::large::cached_bytes() as isize);
    let (mut allocations, mut system_allocations) = (0, 0);
    for counters in all() {
        allocated += counters.pending.load(Relaxed);
        peak += counters.pending_peak.load(Relaxed);
        cached += counters.cached.load(Relaxed);
        allocations += counters.allocations.load(Relaxed);
        system_allocations += counters.system_allocations.load(Relaxed);
    }
    let count = |bytes: isize| bytes.max(0) as usize;
    Stats {
        allocated_bytes: count(allocated),
        peak_bytes: count(peak.max(PEAK.load(Relaxed)).max(allocated)),
        cached_bytes: count(cached),
        allocations,
        system_allocations,
    }
}

pub(super) fn reset_peak() {
    for counters in all() {
        counters.pending_peak.store(counters.pending.load(Relaxed), Relaxed);
    }
    PEAK.store(stats().allocated_bytes as isize, Relaxed);
}
