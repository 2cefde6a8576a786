//! Stable sorting of rows with the places that the elements come from; NaN counts as the largest.
//!
//! Elements become unsigned integers of the same order. Long rows are sorted by their bytes, which needs no
//! comparison (1e6 float32: a sixth of the time of a sort by comparing), short ones by comparing.

use super::map::Shared;
use super::rank::Ranked;
use super::top::{top, ROOM};
use crate::alloc::Block;
use crate::array::Array;
use crate::par;
use crate::Result;
use std::sync::{Mutex, PoisonError};

/// Elements per task.
const GRAIN: usize = 2 * 1024;
/// Rows of this length are sorted by bytes.
const BY_BYTES: usize = 512;
/// So few of a row are picked out, not sorted out: of which it has this many times as many.
const FEW: usize = 8;

/// An element of a row in the making: its rank, and its place.
pub(super) trait Entry: Copy + Ord {
    /// Bytes of the rank.
    const BYTES: usize;
    fn new(rank: u64, place: usize) -> Self;
    /// Byte `d` of the rank, the lowest first.
    fn byte(self, d: usize) -> usize;
    fn place(self) -> usize;
}

/// Ranks of 32 bits above places of 32.
impl Entry for u64 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn new(rank: u64, place: usize) -> Self {
        rank << 32 | place as u64
    }
    #[inline(always)]
    fn byte(self, d: usize) -> usize {
        (self >> (32 + 8 * d)) as usize & 0xff
    }
    #[inline(always)]
    fn place(self) -> usize {
        (self & 0xffff_ffff) as usize
    }
}

impl Entry for (u64, usize) {
    const BYTES: usize = 8;
    #[inline(always)]
    fn new(rank: u64, place: usize) -> Self {
        (rank, place)
    }
    #[inline(always)]
    fn byte(self, d: usize) -> usize {
        (self.0 >> (8 * d)) as usize & 0xff
    }
    #[inline(always)]
    fn place(self) -> usize {
        self.1
    }
}

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
    par::for_each_chunk(x.numel() / n, GRAIN.div_ceil(n), |range| {
        let mut scratch = Scratch(None);
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
            if let Err(error) = sort_row(row, descending, &mut scratch, values, indices) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn sort_row<T: Ranked>(
    row: &[T],
    descending: bool,
    scratch: &mut Scratch,
    values: &mut [T],
    indices: &mut [i64],
) -> Result<()> {
    let (n, k) = (row.len(), values.len());
    if n >= FEW * k {
        return if size_of::<T>() <= 4 && n <= u32::MAX as usize {
            topmost::<u64, T>(row, descending, scratch, values, indices)
        } else {
            topmost::<(u64, usize), T>(row, descending, scratch, values, indices)
        };
    }
    let flip = if descending { T::ALL } else { T::Rank::default() };
    let rank = |x: T| -> u64 { (x.rank() ^ flip).into() };
    let (lowest, highest) =
        row.iter().fold((u64::MAX, 0), |(low, high), &x| (low.min(rank(x)), high.max(rank(x))));
    if highest - lowest <= u64::from(u32::MAX) && n <= u32::MAX as usize {
        sorted::<u64, T>(row, |x| rank(x) - lowest, scratch, values, indices)
    } else {
        sorted::<(u64, usize), T>(row, rank, scratch, values, indices)
    }
}

fn topmost<E: Entry, T: Ranked>(
    row: &[T],
    descending: bool,
    scratch: &mut Scratch,
    values: &mut [T],
    indices: &mut [i64],
) -> Result<()> {
    let entries = scratch.entries::<E>(ROOM * values.len().max(FEW))?;
    let count = top(row, values.len(), descending, entries);
    write(row, &entries[..count], values, indices);
    Ok(())
}

fn sorted<E: Entry, T: Ranked>(
    row: &[T],
    rank: impl Fn(T) -> u64,
    scratch: &mut Scratch,
    values: &mut [T],
    indices: &mut [i64],
) -> Result<()> {
    let (n, k) = (row.len(), values.len());
    let (entries, spare) = scratch.entries::<E>(2 * n)?.split_at_mut(n);
    for (i, (entry, &x)) in entries.iter_mut().zip(row).enumerate() {
        *entry = E::new(rank(x), i);
    }
    if k == n && n >= BY_BYTES {
        write(row, by_bytes(entries, spare), values, indices);
        return Ok(());
    }
    if 0 < k && k < n {
        entries.select_nth_unstable(k - 1);
    }
    // Places break ties, so that a sort which is not stable gives the stable order.
    entries[..k].sort_unstable();
    write(row, &entries[..k], values, indices);
    Ok(())
}

/// Sorts by the lowest byte first, then by the next, each time keeping the order of equals; bytes that all have in
/// common are left out. The result is in one of the two.
fn by_bytes<'a, E: Entry>(mut from: &'a mut [E], mut to: &'a mut [E]) -> &'a [E] {
    let mut counts = [[0usize; 256]; 8];
    for entry in from.iter() {
        for (d, counts) in counts[..E::BYTES].iter_mut().enumerate() {
            counts[entry.byte(d)] += 1;
        }
    }
    for (d, counts) in counts[..E::BYTES].iter_mut().enumerate() {
        if counts[from[0].byte(d)] == from.len() {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &entry in from.iter() {
            let at = &mut counts[entry.byte(d)];
            to[*at] = entry;
            *at += 1;
        }
        std::mem::swap(&mut from, &mut to);
    }
    from
}

fn write<E: Entry, T: Copy>(row: &[T], entries: &[E], values: &mut [T], indices: &mut [i64]) {
    for ((entry, value), index) in entries.iter().zip(values).zip(indices) {
        (*value, *index) = (row[entry.place()], entry.place() as i64);
    }
}

/// Memory for entries. From the allocator, not a Vec: a row may be most of the memory that there is.
struct Scratch(Option<Block>);

impl Scratch {
    /// Room for `count` entries, of any values.
    fn entries<E: Entry>(&mut self, count: usize) -> Result<&mut [E]> {
        let bytes = count * size_of::<E>();
        if self.0.as_ref().is_none_or(|block| block.capacity() < bytes) {
            let block = Block::new(bytes)?;
            // SAFETY: the block has that many bytes; zeros are entries.
            unsafe { block.as_ptr().write_bytes(0, bytes) };
            self.0 = Some(block);
        }
        let start = self.0.as_ref().map_or(std::ptr::dangling_mut(), |block| block.as_ptr().cast::<E>());
        // SAFETY: the block has room for them, is aligned for any of them, and any bytes, which were written when it
        // was made or as entries since, are entries; `self` is borrowed mutably.
        Ok(unsafe { std::slice::from_raw_parts_mut(start, count) })
    }
}
