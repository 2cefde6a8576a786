//! Softmax and log-softmax over contiguous rows, and their gradients.

mod columns;

pub use columns::{softmax_columns, softmax_columns_backward, Extents};

use super::rows::{grain, max_of, sum_of, Float, RowsMut};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::Range;

/// `out = exp(x) / sum(exp(x))` over each row of `cols` elements.
pub fn softmax<T: Float>(x: &[T], cols: usize, out: &mut [T]) {
    forward::<T, false>(x, cols, out);
}

/// `out = x - ln(sum(exp(x)))` over each row of `cols` elements.
pub fn log_softmax<T: Float>(x: &[T], cols: usize, out: &mut [T]) {
    forward::<T, true>(x, cols, out);
}

/// Gradient of [`softmax`]'s input from its output and the output's gradient.
pub fn softmax_backward<T: Float>(grad: &[T], output: &[T], cols: usize, grad_x: &mut [T]) {
    backward::<T, false>(grad, output, cols, grad_x);
}

/// Gradient of [`log_softmax`]'s input from its output and the output's gradient.
pub fn log_softmax_backward<T: Float>(grad: &[T], output: &[T], cols: usize, grad_x: &mut [T]) {
    backward::<T, true>(grad, output, cols, grad_x);
}

fn forward<T: Float, const LOG: bool>(x: &[T], cols: usize, out: &mut [T]) {
    assert!(x.len() == out.len() && (cols == 0 || x.len().is_multiple_of(cols)));
    if x.is_empty() {
        return;
    }
    let out = RowsMut::new(out, cols);
    par::for_each_chunk(x.len() / cols, grain(cols), |rows| {
        dispatch(Forward::<T, LOG> { x, cols, out, rows });
    });
}

fn backward<T: Float, const LOG: bool>(grad: &[T], output: &[T], cols: usize, grad_x: &mut [T]) {
    assert!(grad.len() == output.len() && output.len() == grad_x.len());
    if grad.is_empty() {
        return;
    }
    let grad_x = RowsMut::new(grad_x, cols);
    par::for_each_chunk(grad.len() / cols, grain(cols), |rows| {
        dispatch(Backward::<T, LOG> { grad, output, cols, grad_x, rows });
    });
}

struct Forward<'a, T, const LOG: bool> {
    x: &'a [T],
    cols: usize,
    out: RowsMut<T>,
    rows: Range<usize>,
}

impl<T: Float, const LOG: bool> Kernel for Forward<'_, T, LOG> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for row in self.rows {
            let x = &self.x[row * self.cols..(row + 1) * self.cols];
            // SAFETY: tasks have disjoint rows, and `forward` borrows the output until all have ended.
            let out = unsafe { self.out.row(row) };
            let max = max_of(x);
            for (out, x) in out.iter_mut().zip(x) {
                *out = (*x - max).exp::<I>();
            }
            let sum = T::from_f64(sum_of([&*out], |[e]| e));
            if LOG {
                let log = sum.ln::<I>();
                for (out, x) in out.iter_mut().zip(x) {
                    *out = (*x - max) - log;
                }
            } else {
                let scale = T::from_f64(1.0) / sum;
                for out in out.iter_mut() {
                    *out = *out * scale;
                }
            }
        }
    }
}

struct Backward<'a, T, const LOG: bool> {
    grad: &'a [T],
    output: &'a [T],
    cols: usize,
    grad_x: RowsMut<T>,
    rows: Range<usize>,
}

impl<T: Float, const LOG: bool> Kernel for Backward<'_, T, LOG> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for row in self.rows {
            let range = row * self.cols..(row + 1) * self.cols;
            let (grad, output) = (&self.grad[range.clone()], &self.output[range]);
            // SAFETY: as in the forward kernel.
            let grad_x = unsafe { self.grad_x.row(row) };
            let pairs = grad.iter().zip(output);
            if LOG {
                let sum = T::from_f64(sum_of([grad], |[g]| g));
                for (out, (g, y)) in grad_x.iter_mut().zip(pairs) {
                    *out = *g - y.exp::<I>() * sum;
                }
            } else {
                let dot = T::from_f64(sum_of([grad, output], |[g, y]| g * y));
                for (out, (g, y)) in grad_x.iter_mut().zip(pairs) {
                    *out = *y * (*g - dot);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize, scale: f64) -> Vec<f64> {
        (0..len).map(|i| scale * ((i * 7919 % 1013) as f64 / 506.5 - 1.0)).collect()
    }

    fn check<T: Float>(rows: usize, cols: usize, tolerance: f64) {
        let (x, grad) = (sample(rows * cols, 5.0), sample(rows * cols + 3, 1.0)[3..].to_vec());
        let cast = |v: &[f64]| v.iter().map(|v| T::from_f64(*v)).collect::<Vec<T>>();
        let (tx, tg) = (cast(&x), cast(&grad));
        let mut got = vec![vec![T::default(); rows * cols]; 4];
        softmax(&tx, cols, &mut got[0]);
        log_softmax(&tx, cols, &mut got[1]);
        let (y, log_y) = (got[0].clone(), got[1].clone());
        softmax_backward(&tg, &y, cols, &mut got[2]);
        log_softmax_backward(&tg, &log_y, cols, &mut got[3]);
        for row in 0..rows {
            let range = row * cols..(row + 1) * cols;
            let (x, g) = (&x[range.clone()], &grad[range]);
            let total: f64 = x.iter().map(|x| x.exp()).sum();
            let p: Vec<f64> = x.iter().map(|x| x.exp() / total).collect();
            let dot: f64 = p.iter().zip(g).map(|(p, g)| p * g).sum();
            let sum: f64 = g.iter().sum();
            for i in 0..cols {
                let exact = [p[i], p[i].ln(), p[i] * (g[i] - dot), g[i] - p[i] * sum];
                for (got, exact) in got.iter().zip(exact) {
                    let got = got[row * cols + i].to_f64();
                    assert!((got - exact).abs() <= tolerance * exact.abs().max(1.0), "{got} for {exact}");
                }
            }
        }
    }

    #[test]
    fn rows_of_many_lengths() {
        for (rows, cols) in [(3, 1), (4, 2), (7, 10), (5, 33), (2, 1000), (300, 64), (1, 5000)] {
            check::<f32>(rows, cols, 4e-6);
            check::<f64>(rows, cols, 1e-13);
        }
    }

    #[test]
    fn infinities_and_nan() {
        let inf = f32::INFINITY;
        let mut out = [0.0; 3];
        softmax(&[0.0, -inf, 0.0], 3, &mut out);
        assert_eq!(out, [0.5, 0.0, 0.5]);
        softmax(&[1000.0, -1000.0, 0.0], 3, &mut out);
        assert_eq!(out, [1.0, 0.0, 0.0]);
        log_softmax(&[1000.0, -1000.0, 0.0], 3, &mut out);
        assert_eq!(out, [0.0, -2000.0, -1000.0]);
        for x in [[-inf; 3], [inf, 0.0, 0.0], [f32::NAN, 0.0, 1.0]] {
            softmax(&x, 3, &mut out);
            assert!(out[0].is_nan());
        }
    }

    #[test]
    fn empty_input() {
        softmax::<f32>(&[], 0, &mut []);
        log_softmax_backward::<f64>(&[], &[], 5, &mut []);
    }
}
