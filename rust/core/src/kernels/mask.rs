//! What a mask picks: how much it is, where it lies, and its elements in a row.

use super::compress::{compress, Items, Places};
use super::map::{Shared, GRAIN_CHEAP};
use super::relayout::by_size;
use crate::array::Array;
use crate::dtype::DType;
use crate::layout::Dims;
use crate::simd::{dispatch, Isa, Kernel};
use crate::{par, Result};

/// Bytes of a mask that are counted, and then picked from, by themselves: a thread's share.
const BLOCK: usize = GRAIN_CHEAP;

/// How many bytes are not 0.
struct Count<'a>(&'a [u8]);
impl Kernel for Count<'_> {
    const WIDE: bool = false;
    type Output = usize;
    #[inline(always)]
    fn run<I: Isa>(self) -> usize {
        // Sums of a byte each, so that a vector has many.
        let pieces =
            self.0.chunks(255).map(|piece| piece.iter().map(|&byte| u8::from(byte != 0)).sum::<u8>());
        pieces.map(usize::from).sum()
    }
}

/// The number of hits before each block of `mask`, and of all.
fn starts(mask: &[u8]) -> Vec<usize> {
    let blocks = mask.len().div_ceil(BLOCK);
    let mut starts = vec![0; blocks + 1];
    let shared = Shared(starts.as_mut_ptr());
    par::for_each(blocks, |b| {
        let count = dispatch(Count(&mask[b * BLOCK..mask.len().min((b + 1) * BLOCK)]));
        // SAFETY: block `b` has an element of its own.
        unsafe { *shared.at(b as isize + 1) = count };
    });
    for b in 0..blocks {
        starts[b + 1] += starts[b];
    }
    starts
}

/// A mask with its hits counted.
#[derive(Debug)]
pub struct Hits<'a> {
    mask: &'a [u8],
    starts: Vec<usize>,
}

impl<'a> Hits<'a> {
    /// Counts the elements of a contiguous bool or uint8 array that are not 0.
    pub fn of(mask: &'a Array) -> Self {
        let mask = mask.bytes();
        Self { mask, starts: starts(mask) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Writes the places of all hits.
    pub fn places(&self, out: &mut [i64]) {
        assert_eq!(out.len(), self.count());
        self.pick(Shared(out.as_mut_ptr()), |first| Places(first as i64));
    }

    /// Writes the coordinates of all hits in an array of `shape`, a row each.
    pub fn coordinates(&self, shape: &[usize], out: &mut [i64]) -> Result<()> {
        let rank = shape.len();
        assert!(
            rank > 0
                && out.len() == self.count() * rank
                && shape.iter().product::<usize>() == self.mask.len()
        );
        let mut places = Array::empty(&[self.count()], DType::I64)?;
        self.places(places.slice_mut());
        let (places, out) = (places.slice::<i64>(), Shared(out.as_mut_ptr()));
        let cols = shape[rank - 1];
        par::for_each_chunk(places.len(), GRAIN_CHEAP / 4, |range| {
            // The line of the last dim that the hits lie in: one division for each line, not for each hit.
            let (mut line, mut start, mut end) = (Dims::from_elem(0, rank), 0, 0);
            for h in range {
                let place = places[h] as usize;
                if place >= end {
                    let mut rest = place / cols;
                    (start, end) = (rest * cols, (rest + 1) * cols);
                    for d in (0..rank - 1).rev() {
                        (line[d], rest) = (rest % shape[d], rest / shape[d]);
                    }
                }
                line[rank - 1] = place.wrapping_sub(start);
                for (d, &at) in line.iter().enumerate() {
                    // SAFETY: each hit has `rank` elements of its own.
                    unsafe { *out.at((h * rank + d) as isize) = at as i64 };
                }
            }
        });
        Ok(())
    }

    /// Writes the elements of `x` at all hits into `out`; both are contiguous, and `x` has an element per byte of the
    /// mask.
    pub fn elements(&self, x: &Array, out: &Array) {
        assert!(x.is_contiguous() && out.is_contiguous() && x.dtype() == out.dtype());
        assert!(x.numel() == self.mask.len() && out.numel() == self.count());
        by_size!(x.dtype(), W => {
            let from = Shared(x.as_words::<W>());
            self.pick(Shared(out.as_words::<W>()), |first| from.at(first as isize).cast_const());
        });
    }

    /// Each thread picks from blocks of the mask; `items` are those of the block that starts at a byte.
    fn pick<S: Items>(&self, out: Shared<S::Item>, items: impl Fn(usize) -> S + Sync) {
        par::for_each(self.starts.len() - 1, |b| {
            let (first, begin) = (b * BLOCK, self.starts[b]);
            let mask = &self.mask[first..self.mask.len().min(first + BLOCK)];
            let (to, room) = (out.at(begin as isize), self.starts[b + 1] - begin);
            dispatch(Pick { items: items(first), mask, to, room });
        });
    }
}

/// The hits of one block, of which there are `room`.
struct Pick<'a, S: Items> {
    items: S,
    mask: &'a [u8],
    to: *mut S::Item,
    room: usize,
}
impl<S: Items> Kernel for Pick<'_, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        // SAFETY: each block has a place of its own in the result, with room for its hits.
        unsafe { compress::<I, S>(self.items, self.mask, self.to, self.room) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_hits_in_masks_of_any_length() {
        for len in [0, 1, 2, 255, 256, 1000, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            for every in [1, 2, 3, 100, 1_000_000] {
                let mask: Vec<u8> =
                    (0..len).map(|i| if i % every == every / 2 { i as u8 | 1 } else { 0 }).collect();
                let hits = Hits { starts: starts(&mask), mask: &mask };
                let expected: Vec<i64> = (0..len as i64).filter(|&i| mask[i as usize] != 0).collect();
                let mut places = vec![-1; hits.count()];
                hits.places(&mut places);
                assert_eq!(places, expected, "{len}, every {every}");
            }
        }
    }

    /// The items of `u8` and its like at the hits, then a number that nobody may write.
    fn check_items<T: Copy + PartialEq + std::fmt::Debug>(of: impl Fn(usize) -> T, guard: T)
    where
        *const T: Items<Item = T>,
    {
        for len in [0, 1, 15, 16, 63, 64, 65, 200, 1000] {
            for every in [1, 2, 3, 70, 100_000] {
                let mask: Vec<u8> = (0..len).map(|i| u8::from(i % every == every / 2) * 0x80).collect();
                let items: Vec<T> = (0..len).map(&of).collect();
                let mut expected: Vec<T> = (0..len).filter(|&i| mask[i] != 0).map(&of).collect();
                let room = expected.len();
                expected.push(guard);
                // Room for less stands for a mask that somebody changes meanwhile.
                for room in [room, room / 2] {
                    let mut out = vec![guard; expected.len()];
                    dispatch(Pick { items: items.as_ptr(), mask: &mask, to: out.as_mut_ptr(), room });
                    assert!(out[room..].iter().all(|&item| item == guard), "{len}, every {every}");
                    assert!(room < expected.len() - 1 || out == expected, "{len}, every {every}");
                }
            }
        }
    }

    #[test]
    fn items_of_every_size_at_the_hits() {
        check_items(|i| i as u8 & 0x7f, 0xff);
        check_items(|i| i as u16, 0xffff);
        check_items(|i| i as u32 * 0x10001, u32::MAX);
        check_items(|i| i as u64 * 0x1_0000_0001, u64::MAX);
    }
}
