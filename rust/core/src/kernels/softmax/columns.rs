//! Softmax and log-softmax down columns, and their gradients: without a transposed copy, a tile of columns at a time.

use crate::kernels::map::Shared;
use crate::kernels::rows::{Float, GRAIN};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// Columns that are done side by side; a tile of a thousand float32 rows fits the second-level cache.
const TILE: usize = 64;
/// Rows whose sum is taken in the elements' type before it joins a float64 one.
const BLOCK_ROWS: usize = 32;

/// Extents of a contiguous array: softmax goes along the second.
pub type Extents = [usize; 3];

/// `out = exp(x) / sum(exp(x))` along the second extent, or the logarithm of that.
pub fn softmax_columns<T: Float, const LOG: bool>(x: &[T], extents: Extents, out: &mut [T]) {
    assert!(x.len() == extents.iter().product::<usize>() && out.len() == x.len());
    let out = Shared(out.as_mut_ptr());
    for_each_tile(extents, |at, width| {
        dispatch(Forward::<T, LOG> { x, at, width, extents, out });
    });
}

/// Gradient of [`softmax_columns`]'s input from its output and the output's gradient.
pub fn softmax_columns_backward<T: Float, const LOG: bool>(
    grad: &[T],
    output: &[T],
    extents: Extents,
    grad_x: &mut [T],
) {
    assert!(grad.len() == extents.iter().product::<usize>() && output.len() == grad.len());
    assert!(grad_x.len() == grad.len());
    let grad_x = Shared(grad_x.as_mut_ptr());
    for_each_tile(extents, |at, width| {
        dispatch(Backward::<T, LOG> { grad, output, at, width, extents, grad_x });
    });
}

/// Calls `body` with the first element and the width of each tile.
fn for_each_tile([outer, n, inner]: Extents, body: impl Fn(usize, usize) + Sync) {
    if outer * n * inner == 0 {
        return;
    }
    let tiles = inner.div_ceil(TILE);
    par::for_each_chunk(outer * tiles, GRAIN.div_ceil(n * inner.min(TILE)), |range| {
        for task in range {
            let column = task % tiles * TILE;
            body(task / tiles * n * inner + column, TILE.min(inner - column));
        }
    });
}

/// The sum over rows of what `add` adds to a row of sums: in `T` for a block of rows, whose sums are float64.
#[inline(always)]
fn sums_of<T: Float>(rows: usize, width: usize, mut add: impl FnMut(usize, &mut [T])) -> [T; TILE] {
    let mut total = [0f64; TILE];
    for start in (0..rows).step_by(BLOCK_ROWS) {
        let mut block = [T::default(); TILE];
        for r in start..rows.min(start + BLOCK_ROWS) {
            add(r, &mut block[..width]);
        }
        for (total, block) in total.iter_mut().zip(&block) {
            *total += block.to_f64();
        }
    }
    total.map(T::from_f64)
}

/// The part of an output that a tile writes, row by row.
#[derive(Clone, Copy)]
struct TileMut<T> {
    start: Shared<T>,
    inner: usize,
    width: usize,
}

impl<T> TileMut<T> {
    /// # Safety
    /// The output is still borrowed, the tile's rows lie inside it, and this one is not borrowed yet.
    #[inline(always)]
    unsafe fn row<'a>(self, r: usize) -> &'a mut [T] {
        // SAFETY: the caller promises it.
        unsafe { std::slice::from_raw_parts_mut(self.start.at((r * self.inner) as isize), self.width) }
    }
}

struct Forward<'a, T, const LOG: bool> {
    x: &'a [T],
    at: usize,
    width: usize,
    extents: Extents,
    out: Shared<T>,
}

impl<T: Float, const LOG: bool> Kernel for Forward<'_, T, LOG> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { x, at, width, extents: [_, n, inner], out } = self;
        let out = TileMut { start: Shared(out.at(at as isize)), inner, width };
        let x = |r: usize| &x[at + r * inner..][..width];
        let mut max = [T::from_f64(f64::NEG_INFINITY); TILE];
        for r in 0..n {
            for (max, &x) in max.iter_mut().zip(x(r)) {
                *max = if x > *max { x } else { *max };
            }
        }
        let sum = sums_of(n, width, |r, sums: &mut [T]| {
            // SAFETY: tiles are disjoint, and one row is borrowed at a time; as in the loop below.
            let out = unsafe { out.row(r) };
            for (((out, sum), &x), &max) in out.iter_mut().zip(sums).zip(x(r)).zip(&max) {
                *out = (x - max).exp::<I>();
                *sum += *out;
            }
        });
        if LOG {
            let log = sum.map(|sum| sum.ln::<I>());
            for r in 0..n {
                // SAFETY: as above.
                let out = unsafe { out.row(r) };
                for (((out, &log), &x), &max) in out.iter_mut().zip(&log).zip(x(r)).zip(&max) {
                    *out = (x - max) - log;
                }
            }
        } else {
            let scale = sum.map(|sum| T::from_f64(1.0) / sum);
            for r in 0..n {
                // SAFETY: as above.
                let out = unsafe { out.row(r) };
                out.iter_mut().zip(&scale).for_each(|(out, &scale)| *out = *out * scale);
            }
        }
    }
}

struct Backward<'a, T, const LOG: bool> {
    grad: &'a [T],
    output: &'a [T],
    at: usize,
    width: usize,
    extents: Extents,
    grad_x: Shared<T>,
}

impl<T: Float, const LOG: bool> Kernel for Backward<'_, T, LOG> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { grad, output, at, width, extents: [_, n, inner], grad_x } = self;
        let grad_x = TileMut { start: Shared(grad_x.at(at as isize)), inner, width };
        let grad = |r: usize| &grad[at + r * inner..][..width];
        let output = |r: usize| &output[at + r * inner..][..width];
        let sum = sums_of(n, width, |r, sums: &mut [T]| {
            for ((sum, &g), &y) in sums.iter_mut().zip(grad(r)).zip(output(r)) {
                *sum += if LOG { g } else { g * y };
            }
        });
        for r in 0..n {
            // SAFETY: tiles are disjoint, and one row is borrowed at a time.
            let out = unsafe { grad_x.row(r) };
            for (((out, &g), &y), &sum) in out.iter_mut().zip(grad(r)).zip(output(r)).zip(&sum) {
                *out = if LOG { g - y.exp::<I>() * sum } else { y * (g - sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{log_softmax, log_softmax_backward, softmax, softmax_backward};
    use super::*;

    /// Along the second extent by transposed copies and rows.
    fn by_rows(x: &[f64], [outer, n, inner]: Extents) -> Vec<f64> {
        let mut rows = vec![0.0; x.len()];
        for (i, &x) in x.iter().enumerate() {
            let (o, r, c) = (i / (n * inner), i / inner % n, i % inner);
            rows[(o * inner + c) * n + r] = x;
        }
        debug_assert_eq!(rows.len(), outer * n * inner);
        rows
    }

    fn check<const LOG: bool>(extents: Extents) {
        let [outer, n, inner] = extents;
        let len = outer * n * inner;
        let x: Vec<f64> = (0..len).map(|i| (i * 7919 % 1013) as f64 / 100.0 - 5.0).collect();
        let grad: Vec<f64> = (0..len).map(|i| (i * 271 % 1013) as f64 / 506.5 - 1.0).collect();
        let (mut out, mut grad_x) = (vec![0.0; len], vec![0.0; len]);
        softmax_columns::<_, LOG>(&x, extents, &mut out);
        softmax_columns_backward::<_, LOG>(&grad, &out, extents, &mut grad_x);
        let (mut wanted, mut wanted_grad) = (vec![0.0; len], vec![0.0; len]);
        let (rows, grad_rows) = (by_rows(&x, extents), by_rows(&grad, extents));
        if LOG {
            log_softmax(&rows, n, &mut wanted);
            log_softmax_backward(&grad_rows, &wanted, n, &mut wanted_grad);
        } else {
            softmax(&rows, n, &mut wanted);
            softmax_backward(&grad_rows, &wanted, n, &mut wanted_grad);
        }
        for (got, wanted) in [(&out, &wanted), (&grad_x, &wanted_grad)] {
            for (got, wanted) in by_rows(got, extents).iter().zip(wanted.iter()) {
                assert!(
                    (got - wanted).abs() <= 1e-13 * wanted.abs().max(1.0),
                    "{got} for {wanted}, {extents:?}"
                );
            }
        }
    }

    #[test]
    fn columns_agree_with_rows() {
        for extents in
            [[1, 3, 1], [2, 5, 7], [1, 100, 64], [3, 33, 65], [1, 1000, 130], [2, 1, 200], [0, 4, 4]]
        {
            check::<false>(extents);
            check::<true>(extents);
        }
    }

    #[test]
    fn infinities_and_nan() {
        let inf = f32::INFINITY;
        let mut out = [0f32; 6];
        softmax_columns::<_, false>(&[0.0, -inf, -inf, -inf, 0.0, -inf], [1, 3, 2], &mut out);
        assert_eq!([out[0], out[2], out[4]], [0.5, 0.0, 0.5]);
        assert!(out[1].is_nan() && out[3].is_nan());
        softmax_columns::<_, false>(&[f32::NAN, 1.0, 0.0, 1.0, 1.0, inf], [1, 3, 2], &mut out);
        assert!(out.iter().step_by(2).all(|x| x.is_nan()) && out[5].is_nan());
    }
}
