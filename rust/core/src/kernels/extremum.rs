//! Where the largest or smallest element lies along a dim: the first of equals, NaN before all others.

use super::map::Shared;
use super::num::Num;
use super::reduce::{fold_run, Fold, Itself};
use crate::array::Array;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::Range;

/// Elements per task.
const GRAIN: usize = 32 * 1024;
/// Columns that are searched side by side.
const TILE: usize = 128;

/// `values[o, i]` and `indices[o, i]` of the extremum that `fold` prefers among `x[o, .., i]`.
///
/// `x` is contiguous with extents `dims` = (outer, n, inner), n > 0; the results are contiguous.
pub fn extremum<T: Num, F: Fold<T>>(
    x: &Array,
    dims: (usize, usize, usize),
    values: &Array,
    indices: &Array,
    fold: F,
) {
    let (outer, n, inner) = dims;
    debug_assert!(n > 0 && x.numel() == outer * n * inner);
    let (x, values, indices) =
        (Shared(x.as_ptr::<T>()), Shared(values.as_ptr::<T>()), Shared(indices.as_ptr::<i64>()));
    if inner == 1 {
        par::for_each_chunk(outer, GRAIN.div_ceil(n), |range| {
            dispatch(Rows { x, n, range, values, indices, fold });
        });
        return;
    }
    let tiles = inner.div_ceil(TILE);
    par::for_each_chunk(outer * tiles, GRAIN.div_ceil(n * inner.min(TILE)), |range| {
        for task in range {
            let (o, column) = (task / tiles, (task % tiles) * TILE);
            let out = (o * inner + column) as isize;
            dispatch(Columns {
                x: x.at((o * n * inner + column) as isize),
                n,
                inner,
                width: TILE.min(inner - column),
                values: values.at(out),
                indices: indices.at(out),
                fold,
            });
        }
    });
}

struct Rows<T, F> {
    x: Shared<T>,
    n: usize,
    range: Range<usize>,
    values: Shared<T>,
    indices: Shared<i64>,
    fold: F,
}

impl<T: Num, F: Fold<T>> Kernel for Rows<T, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for r in self.range {
            // SAFETY: `extremum` passes rows of `n` elements inside the input.
            let row = unsafe { std::slice::from_raw_parts(self.x.at((r * self.n) as isize), self.n) };
            let best = fold_run(row, Itself, self.fold);
            let index = position(row, best);
            // SAFETY: each row has one result.
            unsafe {
                // The element itself: 0 and -0 are equal, but only one of them stands there.
                *self.values.at(r as isize) = row[index];
                *self.indices.at(r as isize) = index as i64;
            }
        }
    }
}

/// The first place of `value`, which occurs; for NaN the first NaN.
#[inline(always)]
fn position<T: Num>(row: &[T], value: T) -> usize {
    let matches = |x: T| x == value || (x.is_nan() && value.is_nan());
    let mut start = 0;
    for chunk in row.chunks(64) {
        // Asking whether any matches is a vector loop; only the chunk that has one is searched one by one.
        if chunk.iter().fold(false, |any, &x| any | matches(x)) {
            return start + chunk.iter().position(|&x| matches(x)).unwrap_or(0);
        }
        start += chunk.len();
    }
    0
}

struct Columns<T, F> {
    x: *const T,
    n: usize,
    inner: usize,
    width: usize,
    values: *mut T,
    indices: *mut i64,
    fold: F,
}

impl<T: Num, F: Fold<T>> Kernel for Columns<T, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let width = self.width;
        // SAFETY: `extremum` passes `width` results, and rows of `width` elements `inner` apart.
        let (values, indices) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.values, width),
                std::slice::from_raw_parts_mut(self.indices, width),
            )
        };
        // SAFETY: as above.
        let row = |r: usize| unsafe { std::slice::from_raw_parts(self.x.add(r * self.inner), width) };
        values.copy_from_slice(row(0));
        indices.fill(0);
        for r in 1..self.n {
            let row = row(r);
            for i in 0..width {
                let (old, new) = (values[i], row[i]);
                let best = self.fold.join(old, new);
                // Strictly better: not what was there, and not a second NaN.
                let is_new = best != old && !old.is_nan();
                indices[i] = if is_new { r as i64 } else { indices[i] };
                values[i] = if is_new { new } else { old };
            }
        }
    }
}
