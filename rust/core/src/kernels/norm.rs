//! Layer and root-mean-square normalisation over contiguous rows, and their gradients: the latter is the former with 0
//! for the mean.

use super::rows::{grain, sum_of, Float, RowsMut};
use crate::array::Array;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use crate::Result;
use std::ops::Range;

/// Most blocks of rows whose shares of the parameters' gradients are kept apart.
const MAX_BLOCKS: usize = 64;
/// Fewest rows of such a block.
const MIN_BLOCK_ROWS: usize = 16;

/// `out = (x - mean) * rstd * weight + bias` over each row of `cols` elements, where
/// `rstd = 1 / sqrt(variance + eps)`; also writes each row's `mean` and `rstd`. Without `mean` rows stay where they are:
/// `out = x * rstd * weight + bias`, where `rstd = 1 / sqrt(mean(x^2) + eps)`.
pub fn normalise<T: Float>(
    x: &[T],
    cols: usize,
    weight: Option<&[T]>,
    bias: Option<&[T]>,
    eps: f64,
    out: &mut [T],
    mean: Option<&mut [T]>,
    rstd: &mut [T],
) {
    let rows = rstd.len();
    assert!(x.len() == out.len() && x.len() == rows * cols);
    assert!(mean.as_ref().is_none_or(|mean| mean.len() == rows));
    let (out, rstd) = (RowsMut::new(out, cols), RowsMut::new(rstd, 1));
    let mean = mean.map(|mean| RowsMut::new(mean, 1));
    if x.is_empty() {
        return;
    }
    par::for_each_chunk(rows, grain(cols), |rows| {
        dispatch(Forward { x, cols, weight, bias, eps, out, mean, rstd, rows });
    });
}

struct Forward<'a, T> {
    x: &'a [T],
    cols: usize,
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
    eps: f64,
    out: RowsMut<T>,
    mean: Option<RowsMut<T>>,
    rstd: RowsMut<T>,
    rows: Range<usize>,
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for row in self.rows {
            let x = &self.x[row * self.cols..(row + 1) * self.cols];
            let count = self.cols as f64;
            let mean = match self.mean {
                Some(_) => T::from_f64(sum_of([x], |[x]| x) / count),
                None => T::default(),
            };
            let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / count;
            let rstd = T::from_f64(1.0 / (variance + self.eps).sqrt());
            // SAFETY: tasks have disjoint rows, and `normalise` borrows the outputs until all have ended.
            let out = unsafe {
                if let Some(means) = self.mean {
                    means.row(row)[0] = mean;
                }
                self.rstd.row(row)[0] = rstd;
                self.out.row(row)
            };
            let pairs = out.iter_mut().zip(x);
            match (self.weight, self.bias) {
                (None, None) => pairs.for_each(|(out, x)| *out = (*x - mean) * rstd),
                (Some(w), None) => pairs.zip(w).for_each(|((out, x), w)| *out = (*x - mean) * rstd * *w),
                (None, Some(b)) => pairs.zip(b).for_each(|((out, x), b)| *out = (*x - mean) * rstd + *b),
                (Some(w), Some(b)) => {
                    let triples = pairs.zip(w).zip(b);
                    triples.for_each(|(((out, x), w), b)| *out = (*x - mean) * rstd * *w + *b);
                }
            }
        }
    }
}

/// Gradients of [`normalise`]'s input, `weight` and `bias`, those that are asked for.
///
/// The latter two are sums over rows, taken in blocks whose number depends on the number of rows alone.
pub fn normalise_backward<T: Float>(
    grad: &[T],
    x: &[T],
    mean: Option<&[T]>,
    rstd: &[T],
    weight: Option<&[T]>,
    cols: usize,
    grad_x: Option<&mut [T]>,
    grad_weight: Option<&mut [T]>,
    grad_bias: Option<&mut [T]>,
) -> Result<()> {
    let rows = rstd.len();
    assert!(grad.len() == x.len() && x.len() == rows * cols && mean.is_none_or(|mean| mean.len() == rows));
    assert!(grad_x.as_ref().is_none_or(|grad_x| grad_x.len() == x.len()));
    let wanted = [grad_weight.is_some(), grad_bias.is_some()];
    let block = rows.div_ceil(MAX_BLOCKS).max(MIN_BLOCK_ROWS);
    let blocks = if x.is_empty() { 0 } else { rows.div_ceil(block) };
    // One row of partial sums per block; an unwanted sum has none.
    let room = |wanted| Array::full(&[if wanted { blocks * cols } else { 0 }], 0.0, T::DTYPE);
    let mut partial = [room(wanted[0])?, room(wanted[1])?];
    let shares = partial.each_mut().map(|partial| RowsMut::new(partial.slice_mut(), cols));
    let grad_x = grad_x.map(|grad_x| RowsMut::new(grad_x, cols));
    let kernel = Backward { grad, x, mean, rstd, weight, cols, grad_x, wanted, shares, block };
    par::for_each_chunk(blocks, (grain(cols) / block).max(1), |blocks| {
        dispatch(BackwardBlocks(&kernel, blocks));
    });
    for (out, partial) in [grad_weight, grad_bias].into_iter().zip(&partial) {
        if let Some(out) = out {
            out.fill(T::default());
            for share in partial.slice::<T>().chunks_exact(cols.max(1)) {
                out.iter_mut().zip(share).for_each(|(out, share)| *out += *share);
            }
        }
    }
    Ok(())
}

struct Backward<'a, T> {
    grad: &'a [T],
    x: &'a [T],
    mean: Option<&'a [T]>,
    rstd: &'a [T],
    weight: Option<&'a [T]>,
    cols: usize,
    grad_x: Option<RowsMut<T>>,
    wanted: [bool; 2],
    shares: [RowsMut<T>; 2],
    block: usize,
}

struct BackwardBlocks<'a, T>(&'a Backward<'a, T>, Range<usize>);

impl<T: Float> Kernel for BackwardBlocks<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self(kernel, blocks) = self;
        for block in blocks {
            let end = kernel.rstd.len().min((block + 1) * kernel.block);
            for row in block * kernel.block..end {
                kernel.input_row(row);
                kernel.parameter_row(row, block);
            }
        }
    }
}

impl<T: Float> Backward<'_, T> {
    #[inline(always)]
    fn operands(&self, row: usize) -> (&[T], &[T], T, T) {
        let range = row * self.cols..(row + 1) * self.cols;
        let mean = self.mean.map_or(T::default(), |mean| mean[row]);
        (&self.grad[range.clone()], &self.x[range], mean, self.rstd[row])
    }

    /// With `d = grad * weight` and the normalised row `y`: `rstd * (d - mean(d) - y * mean(d * y))`,
    /// without `mean(d)` where rows stay where they are.
    #[inline(always)]
    fn input_row(&self, row: usize) {
        let Some(grad_x) = &self.grad_x else { return };
        let (grad, x, mean, rstd) = self.operands(row);
        // SAFETY: a row belongs to one block, a block to one task; the caller borrows the output.
        let out = unsafe { grad_x.row(row) };
        let count = self.cols as f64;
        let dot = match self.weight {
            Some(w) => sum_of([grad, w, x], |[g, w, x]| g * w * (x - mean)),
            None => sum_of([grad, x], |[g, x]| g * (x - mean)),
        };
        let sum = match (self.mean, self.weight) {
            (None, _) => 0.0,
            (Some(_), Some(w)) => sum_of([grad, w], |[g, w]| g * w),
            (Some(_), None) => sum_of([grad], |[g]| g),
        };
        let shift = T::from_f64(sum / count);
        let slope = T::from_f64(dot * rstd.to_f64() * rstd.to_f64() / count);
        let triples = out.iter_mut().zip(grad).zip(x);
        match self.weight {
            Some(w) => triples.zip(w).for_each(|(((out, g), x), w)| {
                *out = (*g * *w - shift - (*x - mean) * slope) * rstd;
            }),
            None => triples.for_each(|((out, g), x)| *out = (*g - shift - (*x - mean) * slope) * rstd),
        }
    }

    /// Adds the row to its block's shares of the parameters' gradients.
    #[inline(always)]
    fn parameter_row(&self, row: usize, block: usize) {
        let (grad, x, mean, rstd) = self.operands(row);
        if self.wanted[0] {
            // SAFETY: a block belongs to one task; the caller owns the shares until all tasks have ended.
            let share = unsafe { self.shares[0].row(block) };
            let triples = share.iter_mut().zip(grad).zip(x);
            triples.for_each(|((share, g), x)| *share += *g * ((*x - mean) * rstd));
        }
        if self.wanted[1] {
            // SAFETY: as above.
            let share = unsafe { self.shares[1].row(block) };
            share.iter_mut().zip(grad).for_each(|(share, g)| *share += *g);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, by: usize, shift: f64) -> Vec<f64> {
        (0..len).map(|i| (i * by % 1013) as f64 / 506.5 - 1.0 + shift).collect()
    }

    fn close<T: Float>(what: &str, got: &[T], exact: &[f64], tolerance: f64) {
        for (got, exact) in got.iter().zip(exact) {
            let is_close = (got.to_f64() - exact).abs() <= tolerance * exact.abs().max(1.0);
            assert!(is_close, "{what}: {got:?} for {exact}");
        }
    }

    fn check<T: Float>(rows: usize, cols: usize, is_affine: bool, is_centred: bool, tolerance: f64) {
        let eps = 1e-5;
        let cast = |v: &[f64]| v.iter().map(|v| T::from_f64(*v)).collect::<Vec<T>>();
        let (x, g) = (values(rows * cols, 7919, 3.0), values(rows * cols, 271, 0.0));
        let (w, b) = (values(cols, 17, 1.5), values(cols, 23, 0.0));
        let (tx, tg, tw, tb) = (cast(&x), cast(&g), cast(&w), cast(&b));
        let zeros = |len: usize| vec![T::default(); len];
        let (mut out, mut mean, mut rstd) = (zeros(x.len()), zeros(rows), zeros(rows));
        let weight = is_affine.then_some(&tw[..]);
        let bias = is_affine.then_some(&tb[..]);
        let means = is_centred.then_some(&mut mean[..]);
        normalise(&tx, cols, weight, bias, eps, &mut out, means, &mut rstd);
        let (mut gx, mut gw, mut gb) = (zeros(x.len()), zeros(cols), zeros(cols));
        normalise_backward(
            &tg,
            &tx,
            is_centred.then_some(&mean),
            &rstd,
            weight,
            cols,
            Some(&mut gx),
            Some(&mut gw),
            Some(&mut gb),
        )
        .unwrap();

        let (mut exact, mut exact_gx) = (vec![], vec![]);
        let (mut exact_gw, mut exact_gb) = (vec![0.0; cols], vec![0.0; cols]);
        let n = cols as f64;
        for row in 0..rows {
            let (x, g) = (&x[row * cols..(row + 1) * cols], &g[row * cols..(row + 1) * cols]);
            let m = if is_centred { x.iter().sum::<f64>() / n } else { 0.0 };
            let r = 1.0 / (x.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / n + eps).sqrt();
            let y: Vec<f64> = x.iter().map(|x| (x - m) * r).collect();
            let d: Vec<f64> = (0..cols).map(|c| g[c] * if is_affine { w[c] } else { 1.0 }).collect();
            let mean_d = if is_centred { d.iter().sum::<f64>() / n } else { 0.0 };
            let mean_dy = d.iter().zip(&y).map(|(d, y)| d * y).sum::<f64>() / n;
            for c in 0..cols {
                exact.push(if is_affine { y[c] * w[c] + b[c] } else { y[c] });
                exact_gx.push(r * (d[c] - mean_d - y[c] * mean_dy));
                exact_gw[c] += g[c] * y[c];
                exact_gb[c] += g[c];
            }
        }
        close("out", &out, &exact, tolerance);
        close("grad_x", &gx, &exact_gx, tolerance);
        close("grad_weight", &gw, &exact_gw, tolerance * 10.0);
        close("grad_bias", &gb, &exact_gb, tolerance * 10.0);
    }

    #[test]
    fn rows_of_many_lengths() {
        for (rows, cols) in [(3, 2), (40, 33), (7, 768), (2000, 16), (2, 5000)] {
            for (is_affine, is_centred) in [(false, false), (false, true), (true, false), (true, true)] {
                check::<f32>(rows, cols, is_affine, is_centred, 3e-5);
                check::<f64>(rows, cols, is_affine, is_centred, 1e-12);
            }
        }
    }

    #[test]
    fn constant_rows_give_the_bias() {
        let (mut out, mut mean, mut rstd) = ([9.0_f32; 4], [0.0], [0.0]);
        normalise(&[5.0; 4], 4, None, Some(&[1.0; 4]), 1e-5, &mut out, Some(&mut mean), &mut rstd);
        assert_eq!((out, mean), ([1.0; 4], [5.0]));
    }
}
