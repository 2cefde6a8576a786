//! Sorting by the digits of numbers, which needs no comparison: by the lowest digit first, then by the next, each
//! time keeping the order of equals.
//!
//! Each thread counts and moves a part of the elements. What is earlier in a part, or in an earlier part, goes first,
//! so that the result is the one stable order, whatever the number of threads.

use super::map::Shared;
use super::shared::SharedSlice;
use crate::par;
use std::mem::MaybeUninit;
use std::ops::Range;

/// An element of a row in the making: its rank, and its place.
pub(super) trait Entry: Copy + Ord + Send + Sync {
    fn new(rank: u64, place: usize) -> Self;
    fn rank(self) -> u64;
    fn place(self) -> usize;
}

/// Ranks of 32 bits above places of 32.
impl Entry for u64 {
    #[inline(always)]
    fn new(rank: u64, place: usize) -> Self {
        rank << 32 | place as u64
    }
    #[inline(always)]
    fn rank(self) -> u64 {
        self >> 32
    }
    #[inline(always)]
    fn place(self) -> usize {
        (self & 0xffff_ffff) as usize
    }
}

impl Entry for (u64, usize) {
    #[inline(always)]
    fn new(rank: u64, place: usize) -> Self {
        (rank, place)
    }
    #[inline(always)]
    fn rank(self) -> u64 {
        self.0
    }
    #[inline(always)]
    fn place(self) -> usize {
        self.1
    }
}

/// Most bits of a digit: 11 in place of 8 saves a fourth of the passes over 32 bits (1e5 float32: 3.5 ns per element,
/// not 4.9); short rows have no use for so many counters. Sorting by the highest digit first and the rest of each
/// bucket in the cache took longer, and so did gathering whole lines of a bucket before they are written.
const MOST_BITS: u32 = 11;
const MOST_BITS_SHORT: u32 = 10;
const SHORT: usize = 8 * 1024;

/// Of ranks in rows below this length only the highest two digits count, which few elements have in common: a last pass
/// puts these in order (1000 normal float32: 3.4 us, not 4.1; 8000: little).
const SETTLED: usize = 4 * 1024;

/// Rows from this length on have gaps between the buckets: where these all have the same size, near a power of two,
/// they would else contend for the same places of the cache (1e6 shuffled numbers: 5.0 ns per element, not 12).
const LONG: usize = 128 * 1024;
const GAP: usize = 24;

/// Entries that a buffer for rows of `n` needs.
pub(super) fn room(n: usize) -> usize {
    n + if n < LONG { 0 } else { GAP << MOST_BITS }
}

/// The first `n` entries of `from` sorted by their ranks, which have `bits` bits, on so many threads. Both buffers have
/// [`room`]; the result is in one of them.
///
/// # Safety
/// The first `n` of `from` are written.
pub(super) unsafe fn by_digits<'a, E: Entry>(
    from: &'a mut [MaybeUninit<E>],
    to: &'a mut [MaybeUninit<E>],
    n: usize,
    bits: u32,
    threads: usize,
    counts: &mut Vec<usize>,
) -> &'a [E] {
    let most = if n < SHORT { MOST_BITS_SHORT } else { MOST_BITS };
    let left_out = if n < SETTLED { bits.saturating_sub(2 * most) } else { 0 };
    let passes = (bits - left_out).div_ceil(most);
    let width = (bits - left_out).div_ceil(passes.max(1));
    let (mut from, mut to) = (Buckets { entries: from, ends: vec![n], gap: 0 }, to);
    for pass in 0..passes {
        let gap = if n < LONG || pass + 1 == passes { 0 } else { GAP };
        let digit = Digit { shift: left_out + pass * width, mask: (1 << width) - 1 };
        let ends = from.deal(to, gap, digit, threads, counts);
        let Buckets { entries, .. } = std::mem::replace(&mut from, Buckets { entries: to, ends, gap });
        to = entries;
    }
    // SAFETY: all of them are written, and the last pass has left no gaps.
    let entries = unsafe { std::slice::from_raw_parts_mut(from.entries.as_mut_ptr().cast(), n) };
    if left_out > 0 {
        settle(entries);
    }
    entries
}

/// Sorts what is nearly sorted; by comparing, should it turn out not to be.
fn settle<E: Entry>(entries: &mut [E]) {
    let mut moves = 4 * entries.len();
    for i in 1..entries.len() {
        let (entry, mut to) = (entries[i], i);
        while to > 0 && entry < entries[to - 1] {
            entries[to] = entries[to - 1];
            to -= 1;
        }
        entries[to] = entry;
        let Some(left) = moves.checked_sub(i - to) else {
            return entries.sort_unstable(); // places break ties
        };
        moves = left;
    }
}

/// # Safety
/// The entries are written.
#[inline(always)]
unsafe fn written<E>(entries: &[MaybeUninit<E>]) -> &[E] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(entries.as_ptr().cast(), entries.len()) }
}

/// Some bits of a rank.
#[derive(Clone, Copy)]
struct Digit {
    shift: u32,
    mask: usize,
}

impl Digit {
    #[inline(always)]
    fn of<E: Entry>(self, entry: E) -> usize {
        (entry.rank() >> self.shift) as usize & self.mask
    }
}

/// Entries dealt out by a digit, with a gap after each bucket.
struct Buckets<'a, E> {
    /// All are written but for the gaps.
    entries: &'a mut [MaybeUninit<E>],
    /// The end of each bucket, without the gaps; of all where there are none.
    ends: Vec<usize>,
    gap: usize,
}

impl<E: Entry> Buckets<'_, E> {
    /// Calls `body` with the pieces that hold a range of the entries, gaps left out.
    #[inline(always)]
    fn pieces(&self, range: Range<usize>, mut body: impl FnMut(&[E])) {
        let first = self.ends.partition_point(|&end| end <= range.start);
        let mut start = range.start;
        for (bucket, &end) in self.ends.iter().enumerate().skip(first) {
            let end = end.min(range.end);
            if start < end {
                // SAFETY: these are no gaps.
                body(unsafe { written(&self.entries[bucket * self.gap..][start..end]) });
            }
            start = end;
            if end == range.end {
                return;
            }
        }
    }

    /// Deals all entries out to `to` by another digit; the [`ends`](Self::ends) of the new buckets.
    fn deal(
        &self,
        to: &mut [MaybeUninit<E>],
        gap: usize,
        digit: Digit,
        threads: usize,
        counts: &mut Vec<usize>,
    ) -> Vec<usize> {
        let (n, buckets) = (self.ends[self.ends.len() - 1], digit.mask + 1);
        assert!(n + gap * digit.mask <= to.len());
        let part = n.div_ceil(threads);
        let range = |t: usize| n.min(t * part)..n.min((t + 1) * part);
        counts.clear();
        counts.resize(threads * buckets, 0);
        let shared = SharedSlice::new(counts);
        par::for_each(threads, |t| {
            // SAFETY: each thread has counters of its own.
            let counts = unsafe { shared.part(t * buckets, buckets) };
            self.pieces(range(t), |piece| count(piece, digit, counts));
        });
        // From counts to where the entries of each thread go.
        let mut end = 0;
        if threads == 1 {
            for (bucket, count) in counts.iter_mut().enumerate() {
                end += std::mem::replace(count, end + bucket * gap);
            }
        } else {
            for bucket in 0..buckets {
                for t in 0..threads {
                    let count = &mut counts[t * buckets + bucket];
                    end += std::mem::replace(count, end + bucket * gap);
                }
            }
        }
        let (shared, to) = (SharedSlice::new(counts), Shared(to.as_mut_ptr()));
        par::for_each(threads, |t| {
            // SAFETY: each thread has counters of its own.
            let next = unsafe { shared.part(t * buckets, buckets) };
            // SAFETY: as many entries as were counted go to each bucket of a thread: all of them lie in `to` (asserted), and
            // none is written twice.
            self.pieces(range(t), |piece| unsafe { scatter(piece, digit, next, to.at(0)) });
        });
        if gap == 0 {
            return vec![n];
        }
        // The last thread's places have moved to the ends of the buckets.
        let last = &counts[(threads - 1) * buckets..];
        last.iter().enumerate().map(|(bucket, end)| end - bucket * gap).collect()
    }
}

/// Counts the entries of each bucket.
#[inline(never)]
fn count<E: Entry>(entries: &[E], digit: Digit, counts: &mut [usize]) {
    assert!(counts.len() > digit.mask);
    for &entry in entries {
        // SAFETY: there is a counter for each value of the digit (asserted).
        unsafe { *counts.get_unchecked_mut(digit.of(entry)) += 1 };
    }
}

/// Writes each entry to the next place of its bucket. A function of its own: in a closure, what it reads besides would
/// be read again after each write (3 passes over 1e5 entries: 280 us, not 205).
///
/// # Safety
/// `next` are places in `to`, up to as many as there are entries for each.
#[inline(never)]
unsafe fn scatter<E: Entry>(entries: &[E], digit: Digit, next: &mut [usize], to: *mut MaybeUninit<E>) {
    assert!(next.len() > digit.mask);
    for &entry in entries {
        // SAFETY: there is a place for each value of the digit (asserted), which the caller promises is in `to`.
        unsafe {
            let next = next.get_unchecked_mut(digit.of(entry));
            let at = *next;
            *next = at + 1;
            (*to.add(at)).write(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranks below `2^bits` sorted as std does it.
    fn check<E: Entry>(n: usize, bits: u32, threads: usize, rank: impl Fn(u64) -> u64) {
        let rank = |i: usize| rank(i as u64) & (u64::MAX >> (64 - bits));
        let mut expected: Vec<E> = (0..n).map(|i| E::new(rank(i), i)).collect();
        let mut entries: Vec<MaybeUninit<E>> = expected.iter().copied().map(MaybeUninit::new).collect();
        expected.sort();
        entries.resize(room(n), MaybeUninit::uninit());
        let mut spare = vec![MaybeUninit::uninit(); room(n)];
        // SAFETY: `n` are written.
        let sorted = unsafe { by_digits(&mut entries, &mut spare, n, bits, threads, &mut Vec::new()) };
        let same = sorted.iter().zip(&expected).all(|(a, b)| a.cmp(b).is_eq());
        assert!(same && sorted.len() == n, "{n} of {bits} bits on {threads}");
    }

    #[test]
    fn digits_of_rows_of_any_length() {
        let mixed = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        for n in [1, 2, 100, 1000, SHORT + 1, LONG + 5] {
            for threads in [1, 2, 3] {
                for bits in [1, 8, 11, 12, 32] {
                    check::<u64>(n, bits, threads, mixed);
                    // Few different ranks, most of them in one bucket.
                    check::<u64>(n, bits, threads, |i| u64::from(mixed(i) % 5 == 0) * i);
                    // The highest digits are the same, or nearly.
                    check::<u64>(n, bits, threads, |i| (mixed(i) % 509) | (u64::from(i == 7) << 31));
                }
                check::<(u64, usize)>(n, 64, threads, |i| mixed(i) << 20);
            }
        }
    }
}
