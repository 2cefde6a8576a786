//! Average pooling: the mean of each window.

use std::num::NonZeroIsize;
use std::ops::Range;

use super::PoolGeometry;
use crate::kernels::conv::Float;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel};

/// What the sum of a window is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvgDivisor {
    /// The window's elements in the padded input: `count_include_pad=True`.
    Padded,
    /// The window's elements in the input: `count_include_pad=False`.
    Inside,
    /// A number: `divisor_override`.
    Fixed(NonZeroIsize),
}

/// Writes the mean of each window.
pub fn avg_pool2d<T: Float>(g: &PoolGeometry, divisor: AvgDivisor, x: &[T], out: &mut [T]) {
    assert_eq!(g.dilation, [1, 1]);
    assert_eq!(x.len(), g.planes * g.in_plane());
    assert_eq!(out.len(), g.planes * g.out_plane());
    let out = SharedSlice::new(out);
    par::for_each_chunk(g.planes, g.grain(), |planes| {
        // SAFETY: chunks of planes are disjoint, and so are their outputs.
        let out = unsafe { out.part(planes.start * g.out_plane(), planes.len() * g.out_plane()) };
        let x = &x[planes.start * g.in_plane()..planes.end * g.in_plane()];
        simd::dispatch(AvgPool { g, divisor, x, out });
    });
}

/// Writes the gradient of the input: each output's gradient, divided, to all of its window.
pub fn avg_pool2d_backward<T: Float>(
    g: &PoolGeometry,
    divisor: AvgDivisor,
    grad_out: &[T],
    grad_x: &mut [T],
) {
    assert_eq!(g.dilation, [1, 1]);
    assert_eq!(grad_x.len(), g.planes * g.in_plane());
    assert_eq!(grad_out.len(), g.planes * g.out_plane());
    let grad_x = SharedSlice::new(grad_x);
    par::for_each_chunk(g.planes, g.grain(), |planes| {
        // SAFETY: chunks of planes are disjoint, and so are their inputs.
        let grad_x = unsafe { grad_x.part(planes.start * g.in_plane(), planes.len() * g.in_plane()) };
        let grad_out = &grad_out[planes.start * g.out_plane()..planes.end * g.out_plane()];
        simd::dispatch(AvgPoolBackward { g, divisor, grad_out, grad_x });
    });
}

/// The part of a window inside the input, and its length inside the padded input.
#[inline(always)]
fn window(g: &PoolGeometry, dim: usize, index: usize, extent: usize) -> (Range<usize>, usize) {
    let (start, padding) = (index * g.stride[dim], g.padding[dim]);
    let end = (start + g.kernel[dim]).min(extent + 2 * padding);
    let first = start.saturating_sub(padding).min(extent);
    (first..end.saturating_sub(padding).clamp(first, extent), end.saturating_sub(start))
}

#[inline(always)]
fn count(divisor: AvgDivisor, rows: &(Range<usize>, usize), cols: &(Range<usize>, usize)) -> isize {
    match divisor {
        AvgDivisor::Padded => (rows.1 * cols.1) as isize,
        AvgDivisor::Inside => (rows.0.len() * cols.0.len()) as isize,
        AvgDivisor::Fixed(count) => count.get(),
    }
}

struct AvgPool<'a, T> {
    g: &'a PoolGeometry,
    divisor: AvgDivisor,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for AvgPool<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, divisor, x, out } = self;
        if out.is_empty() {
            return;
        }
        for (x, out) in x.chunks_exact(g.in_plane()).zip(out.chunks_exact_mut(g.out_plane())) {
            for (row, out) in out.chunks_exact_mut(g.out_width).enumerate() {
                let rows = window(g, 0, row, g.in_height);
                out.fill(T::ZERO);
                for row in rows.0.clone() {
                    add_row(g, &x[row * g.in_width..][..g.in_width], out);
                }
                for (col, out) in out.iter_mut().enumerate() {
                    let count = count(divisor, &rows, &window(g, 1, col, g.in_width));
                    *out = if count == 0 { T::ZERO } else { *out / T::from_f64(count as f64) };
                }
            }
        }
    }
}

/// Adds to each output its window's elements of one row, tap by tap so that the loop runs along the row.
#[inline(always)]
fn add_row<T: Float>(g: &PoolGeometry, x: &[T], out: &mut [T]) {
    if g.kernel[1] > g.in_width {
        // Most of a wide window's columns are padding.
        for (col, out) in out.iter_mut().enumerate() {
            x[window(g, 1, col, g.in_width).0].iter().for_each(|x| *out += *x);
        }
        return;
    }
    for tap in 0..g.kernel[1] {
        let cols = g.reached(tap);
        if cols.is_empty() {
            continue;
        }
        let x = &x[cols.start * g.stride[1] + tap - g.padding[1]..];
        let out = &mut out[cols];
        match g.stride[1] {
            1 => out.iter_mut().zip(x).for_each(|(sum, x)| *sum += *x),
            2 => out.iter_mut().zip(x.iter().step_by(2)).for_each(|(sum, x)| *sum += *x),
            step => out.iter_mut().zip(x.iter().step_by(step)).for_each(|(sum, x)| *sum += *x),
        }
    }
}

struct AvgPoolBackward<'a, T> {
    g: &'a PoolGeometry,
    divisor: AvgDivisor,
    grad_out: &'a [T],
    grad_x: &'a mut [T],
}

impl<T: Float> Kernel for AvgPoolBackward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, divisor, grad_out, grad_x } = self;
        grad_x.fill(T::ZERO);
        if grad_out.is_empty() || grad_x.is_empty() {
            return;
        }
        let mut shares = vec![T::ZERO; g.out_width];
        let planes = grad_out.chunks_exact(g.out_plane()).zip(grad_x.chunks_exact_mut(g.in_plane()));
        for (grad_out, grad_x) in planes {
            for (row, grad) in grad_out.chunks_exact(g.out_width).enumerate() {
                let rows = window(g, 0, row, g.in_height);
                for (col, (share, grad)) in shares.iter_mut().zip(grad).enumerate() {
                    let count = count(divisor, &rows, &window(g, 1, col, g.in_width));
                    *share = if count == 0 { T::ZERO } else { *grad / T::from_f64(count as f64) };
                }
                for row in rows.0.clone() {
                    spread_row(g, &shares, &mut grad_x[row * g.in_width..][..g.in_width]);
                }
            }
        }
    }
}

/// Adds each output's share to its window's elements of one row.
#[inline(always)]
fn spread_row<T: Float>(g: &PoolGeometry, shares: &[T], grad_x: &mut [T]) {
    if g.kernel[1] > g.in_width {
        for (col, share) in shares.iter().enumerate() {
            grad_x[window(g, 1, col, g.in_width).0].iter_mut().for_each(|sum| *sum += *share);
        }
        return;
    }
    for tap in 0..g.kernel[1] {
        let cols = g.reached(tap);
        if cols.is_empty() {
            continue;
        }
        let grad_x = &mut grad_x[cols.start * g.stride[1] + tap - g.padding[1]..];
        let shares = &shares[cols];
        match g.stride[1] {
            1 => grad_x.iter_mut().zip(shares).for_each(|(sum, share)| *sum += *share),
            step => grad_x.iter_mut().step_by(step).zip(shares).for_each(|(sum, share)| *sum += *share),
        }
    }
}
