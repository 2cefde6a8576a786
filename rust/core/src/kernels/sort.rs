//! Stable sorting of rows with the places that the elements come from; NaN counts as the largest.
//!
//! Elements become unsigned integers of the same order. Long rows are sorted by their digits, short ones by comparing.

use super::digits::{by_digits, room, Entry};
use super::map::Shared;
use super::rank::{Low, Ranked};
use super::shared::SharedSlice;
use super::top::{top, ROOM};
use crate::alloc::Block;
use crate::array::Array;
use crate::simd::{dispatch, Isa, Kernel};
use crate::{par, Result};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Elements per task.
const GRAIN: usize = 2 * 1024;
/// Rows from this length on are sorted by digits.
const BY_DIGITS: usize = 512;
/// Elements of a long row that are worth a thread.
const PART: usize = 32 * 1024;
/// So few of a row are picked out, not sorted out: of which it has this many times as many.
const FEW: usize = 8;

/// The first `k` elements of each sorted row of `n`, and their indices in the row. An error if the memory
/// for a row and its indices is not there.
///
/// `x` is contiguous with `n > 0` elements per row; the results are contiguous with `k` per row.
pub fn sort_rows<T: Ranked>(
    x: &Array,
    n: usize,
    k: usize,
    descending: bool,
    values: &Array,
    indices: &Array,
) -> Result<()> {
    assert!(n > 0 && k <= n && x.is_contiguous() && values.is_contiguous() && indices.is_contiguous());
    assert!(values.numel() == x.numel() / n * k && indices.numel() == values.numel());
    let (xp, vp, ip) =
        (Shared(x.as_ptr::<T>()), Shared(values.as_ptr::<T>()), Shared(indices.as_ptr::<i64>()));
    let failure = Mutex::new(None);
    let (rows, threads) = (x.numel() / n, par::num_threads());
    let sort = |range: Range<usize>, threads: usize| {
        let mut scratch = Scratch::default();
        for r in range {
            // SAFETY: row `r` of `n` elements is inside the input, of `k` inside both results (asserted).
            let (row, values, indices) = unsafe {
                let at = (r * k) as isize;
                (
                    std::slice::from_raw_parts(xp.at((r * n) as isize), n),
                    std::slice::from_raw_parts_mut(vp.at(at), k),
                    std::slice::from_raw_parts_mut(ip.at(at), k),
                )
            };
            if let Err(error) = sort_row(row, descending, threads, &mut scratch, values, indices) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
    };
    if rows < threads && n >= 2 * PART {
        sort(0..rows, threads.min(n / PART)); // one after the other, each on all threads
    } else {
        par::for_each_chunk(rows, GRAIN.div_ceil(n), |range| sort(range, 1));
    }
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn sort_row<T: Ranked>(
    row: &[T],
    descending: bool,
    threads: usize,
    scratch: &mut Scratch,
    values: &mut [T],
    indices: &mut [i64],
) -> Result<()> {
    let (n, k) = (row.len(), values.len());
    let flip = if descending { T::ALL } else { T::Rank::default() };
    if n >= FEW * k {
        let order = Order { flip, lowest: 0 };
        return if size_of::<T>() <= 4 && n <= u32::MAX as usize {
            topmost::<u64, T>(row, order, scratch, values, indices)
        } else {
            topmost::<(u64, usize), T>(row, order, scratch, values, indices)
        };
    }
    let (lowest, highest) = extremes(row, flip);
    let order = Order { flip, lowest };
    if highest - lowest <= u64::from(u32::MAX) && n <= u32::MAX as usize {
        sorted::<u64, T>(row, order, highest - lowest, threads, scratch, values, indices)
    } else {
        sorted::<(u64, usize), T>(row, order, highest - lowest, threads, scratch, values, indices)
    }
}

/// What ranks become in entries.
#[derive(Clone, Copy)]
struct Order<T: Ranked> {
    /// The bits that are turned, so that the highest comes first.
    flip: T::Rank,
    /// What is taken off.
    lowest: u64,
}

/// The lowest and the highest rank.
fn extremes<T: Ranked>(row: &[T], flip: T::Rank) -> (u64, u64) {
    let (low, high) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    par::for_each_chunk(row.len(), PART, |range| {
        let (lowest, highest) = dispatch(Extremes { row: &row[range], flip });
        low.fetch_min(lowest.into(), Relaxed);
        high.fetch_max(highest.into(), Relaxed);
    });
    (low.into_inner(), high.into_inner())
}

struct Extremes<'a, T: Ranked> {
    row: &'a [T],
    flip: T::Rank,
}
impl<T: Ranked> Kernel for Extremes<'_, T> {
    type Output = (T::Rank, T::Rank);
    #[inline(always)]
    fn run<I: Isa>(self) -> (T::Rank, T::Rank) {
        self.row
            .iter()
            .map(|x| x.rank() ^ self.flip)
            .fold((T::ALL, T::Rank::default()), |(low, high), rank| (low.min(rank), high.max(rank)))
    }
}

fn topmost<E: Entry, T: Ranked>(
    row: &[T],
    order: Order<T>,
    scratch: &mut Scratch,
    values: &mut [T],
    indices: &mut [i64],
) -> Result<()> {
    let entries = scratch.entries::<E>(ROOM * values.len().max(FEW))?;
    let count = top(row, values.len(), order.flip, entries);
    dispatch(Write { row, order, entries: &entries[..count], values, indices });
    Ok(())
}

fn sorted<E: Entry, T: Ranked>(
    row: &[T],
    order: Order<T>,
    span: u64,
    threads: usize,
    scratch: &mut Scratch,
    values: &mut [T],
    indices: &mut [i64],
) -> Result<()> {
    let (n, k) = (row.len(), values.len());
    let mut counts = std::mem::take(&mut scratch.counts);
    let (entries, spare) = scratch.room::<E>(2 * room(n))?.split_at_mut(room(n));
    let slots = SharedSlice::new(entries);
    par::for_each_chunk(n, PART, |range| {
        // SAFETY: chunks are disjoint parts of the row.
        let entries = unsafe { slots.part(range.start, range.len()) };
        dispatch(Enter { row: &row[range.clone()], order, first: range.start, entries });
    });
    let entries = if k == n && n >= BY_DIGITS {
        // SAFETY: all `n` are written above.
        unsafe { by_digits(entries, spare, n, u64::BITS - span.leading_zeros(), threads, &mut counts) }
    } else {
        // SAFETY: as above.
        let entries = unsafe { std::slice::from_raw_parts_mut(entries.as_mut_ptr().cast::<E>(), n) };
        if 0 < k && k < n {
            entries.select_nth_unstable(k - 1);
        }
        // Places break ties, so that a sort which is not stable gives the stable order.
        entries[..k].sort_unstable();
        &entries[..k]
    };
    let (vp, ip) = (SharedSlice::new(values), SharedSlice::new(indices));
    par::for_each_chunk(k, PART, |range| {
        // SAFETY: chunks are disjoint parts of the results.
        let (values, indices) =
            unsafe { (vp.part(range.start, range.len()), ip.part(range.start, range.len())) };
        dispatch(Write { row, order, entries: &entries[range], values, indices });
    });
    scratch.counts = counts;
    Ok(())
}

/// Makes entries of elements, the first of which has the place `first`.
struct Enter<'a, E, T: Ranked> {
    row: &'a [T],
    order: Order<T>,
    first: usize,
    entries: &'a mut [MaybeUninit<E>],
}
impl<E: Entry, T: Ranked> Kernel for Enter<'_, E, T> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { row, order: Order { flip, lowest }, first, entries } = self;
        for (i, (entry, &x)) in entries.iter_mut().zip(row).enumerate() {
            let rank: u64 = (x.rank() ^ flip).into();
            entry.write(E::new(rank - lowest, first + i));
        }
    }
}

/// Entries whose elements are written together: not so few that their loop would be unrolled, which keeps it from being
/// vectorised.
const BLOCK: usize = 128;

/// Writes elements and their places. What a rank belongs to need not be looked up in the row, where it may lie far
/// away (1e6 float32: a fifth of the time), but for the few ranks that several elements share.
struct Write<'a, E, T: Ranked> {
    row: &'a [T],
    order: Order<T>,
    entries: &'a [E],
    values: &'a mut [T],
    indices: &'a mut [i64],
}
impl<E: Entry, T: Ranked> Kernel for Write<'_, E, T> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { row, order: Order { flip, lowest }, entries, values, indices } = self;
        let (blocks, rest) = entries.as_chunks::<BLOCK>();
        let (value_blocks, values) = values.as_chunks_mut::<BLOCK>();
        let (index_blocks, indices) = indices.as_chunks_mut::<BLOCK>();
        for ((entries, values), indices) in blocks.iter().zip(value_blocks).zip(index_blocks) {
            let mut shared = 0;
            for i in 0..BLOCK {
                let rank = T::Rank::from_low(entries[i].rank() + lowest) ^ flip;
                shared |= u32::from(T::is_shared(rank));
                values[i] = T::of_rank(rank);
                indices[i] = entries[i].place() as i64;
            }
            if shared != 0 {
                for (entry, value) in entries.iter().zip(values) {
                    *value = row[entry.place()];
                }
            }
        }
        for ((entry, value), index) in rest.iter().zip(values).zip(indices) {
            (*value, *index) = (row[entry.place()], entry.place() as i64);
        }
    }
}

/// Working memory for one row after the other. That for entries is from the allocator, not a Vec: a row may be most of
/// the memory that there is.
#[derive(Default)]
struct Scratch {
    block: Option<Block>,
    counts: Vec<usize>,
}

impl Scratch {
    /// Room for `count` entries.
    fn room<E: Entry>(&mut self, count: usize) -> Result<&mut [MaybeUninit<E>]> {
        let bytes = count * size_of::<E>();
        if self.block.as_ref().is_none_or(|block| block.capacity() < bytes) {
            self.block = Some(Block::new(bytes)?);
        }
        let start = self.block.as_ref().map_or(std::ptr::dangling_mut(), |block| block.as_ptr().cast());
        // SAFETY: the block has room for them and is aligned for any of them; `self` is borrowed mutably.
        Ok(unsafe { std::slice::from_raw_parts_mut(start, count) })
    }

    /// `count` entries, of any values.
    fn entries<E: Entry>(&mut self, count: usize) -> Result<&mut [E]> {
        let room = self.room(count)?;
        room.fill(MaybeUninit::new(E::new(0, 0)));
        // SAFETY: all are written.
        Ok(unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), count) })
    }
}
