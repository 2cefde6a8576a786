//! Rows that are 1 at one place.

use super::map::GRAIN_CHEAP;
use super::shared::SharedSlice;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// The lowest and the highest index, of which there is one at least.
pub fn extremes(index: &[i64]) -> (i64, i64) {
    dispatch(Bounds(index))
}

struct Bounds<'a>(&'a [i64]);
impl Kernel for Bounds<'_> {
    type Output = (i64, i64);
    #[inline(always)]
    fn run<I: Isa>(self) -> (i64, i64) {
        self.0.iter().fold((i64::MAX, i64::MIN), |(low, high), &i| (low.min(i), high.max(i)))
    }
}

/// A row of `classes` numbers for each index: 1 there, and 0 elsewhere. All 0 for an index that is no place of it.
pub fn one_hot(index: &[i64], classes: usize, out: &mut [i64]) {
    assert_eq!(out.len(), index.len() * classes);
    let out = SharedSlice::new(out);
    par::for_each_chunk(index.len(), GRAIN_CHEAP.div_ceil(classes.max(1)), |range| {
        // SAFETY: each chunk has rows of its own.
        let rows = unsafe { out.part(range.start * classes, range.len() * classes) };
        rows.fill(0);
        for (r, &i) in index[range].iter().enumerate() {
            if (i as u64) < classes as u64 {
                rows[r * classes + i as usize] = 1;
            }
        }
    });
}
