//! Max pooling: the largest element of each window, and where it stands.

use std::ops::Range;

use super::PoolGeometry;
use crate::dtype::Element;
use crate::kernels::conv::Float;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel};

/// Writes the largest element of each window and its index in the plane.
///
/// A NaN wins over everything and the first of equal elements over the others, as in PyTorch.
pub fn max_pool2d<T: Element>(g: &PoolGeometry, x: &[T], out: &mut [T], indices: &mut [i64]) {
    assert_eq!(x.len(), g.planes * g.in_plane());
    assert_eq!(out.len(), g.planes * g.out_plane());
    assert_eq!(indices.len(), out.len());
    let (out, indices) = (SharedSlice::new(out), SharedSlice::new(indices));
    par::for_each_chunk(g.planes, g.grain(), |planes| {
        let (start, len) = (planes.start * g.out_plane(), planes.len() * g.out_plane());
        // SAFETY: chunks of planes are disjoint, and so are their outputs.
        let (out, indices) = unsafe { (out.part(start, len), indices.part(start, len)) };
        let x = &x[planes.start * g.in_plane()..planes.end * g.in_plane()];
        simd::dispatch(MaxPool { g, x, out, indices });
    });
}

/// Writes the gradient of the input: the gradient of each output at the index that it came from.
pub fn max_pool2d_backward<T: Float>(g: &PoolGeometry, grad_out: &[T], indices: &[i64], grad_x: &mut [T]) {
    assert_eq!(grad_x.len(), g.planes * g.in_plane());
    assert_eq!(grad_out.len(), g.planes * g.out_plane());
    let (in_plane, out_plane) = (g.in_plane(), g.out_plane());
    let grad_x = SharedSlice::new(grad_x);
    par::for_each_chunk(g.planes, g.grain(), |planes| {
        for plane in planes {
            // SAFETY: each plane belongs to one chunk.
            let grad_x = unsafe { grad_x.part(plane * in_plane, in_plane) };
            grad_x.fill(T::ZERO);
            let range = plane * out_plane..(plane + 1) * out_plane;
            for (grad, index) in grad_out[range.clone()].iter().zip(&indices[range]) {
                // A window without an element has index -1.
                if let Some(slot) = grad_x.get_mut(*index as usize) {
                    *slot += *grad;
                }
            }
        }
    });
}

struct MaxPool<'a, T> {
    g: &'a PoolGeometry,
    x: &'a [T],
    out: &'a mut [T],
    indices: &'a mut [i64],
}

impl<T: Element> Kernel for MaxPool<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, x, out, indices } = self;
        if out.is_empty() {
            return;
        }
        // The common window, when all of it lies inside.
        let is_pair = g.kernel == [2, 2] && g.stride == [2, 2] && g.padding == [0, 0] && g.dilation == [1, 1];
        let is_inside = 2 * g.out_height <= g.in_height && 2 * g.out_width <= g.in_width;
        let outputs = out.chunks_exact_mut(g.out_plane()).zip(indices.chunks_exact_mut(g.out_plane()));
        for (x, (out, indices)) in x.chunks_exact(g.in_plane()).zip(outputs) {
            let rows = out.chunks_exact_mut(g.out_width).zip(indices.chunks_exact_mut(g.out_width));
            for (row, (out, indices)) in rows.enumerate() {
                if is_pair && is_inside {
                    pair_row(g.in_width, 2 * row, x, out, indices);
                } else {
                    window_row(g, row, x, out, indices);
                }
            }
        }
    }
}

/// Whether `new` takes the place of `best`.
#[inline(always)]
#[allow(clippy::eq_op)] // x != x asks for NaN
fn is_better<T: Element>(new: T, best: T) -> bool {
    (new > best) | (new != new)
}

/// A row of 2x2 windows with stride 2, without a branch.
#[inline(always)]
fn pair_row<T: Element>(width: usize, row: usize, x: &[T], out: &mut [T], indices: &mut [i64]) {
    let cols = out.len();
    let upper = x[row * width..][..2 * cols].as_chunks::<2>().0;
    let lower = x[(row + 1) * width..][..2 * cols].as_chunks::<2>().0;
    let first = (row * width) as i64;
    let sources = upper.iter().zip(lower);
    for (col, ((out, index), (upper, lower))) in out.iter_mut().zip(indices).zip(sources).enumerate() {
        let (mut best, mut at) = (upper[0], 0);
        for (value, place) in [(upper[1], 1), (lower[0], width as i64), (lower[1], width as i64 + 1)] {
            let wins = is_better(value, best);
            best = if wins { value } else { best };
            at = if wins { place } else { at };
        }
        *out = best;
        *index = first + 2 * col as i64 + at;
    }
}

/// A row of any windows.
#[inline(always)]
fn window_row<T: Element>(g: &PoolGeometry, row: usize, x: &[T], out: &mut [T], indices: &mut [i64]) {
    let rows = window(g, 0, row, g.in_height);
    for (col, (out, index)) in out.iter_mut().zip(indices).enumerate() {
        let cols = window(g, 1, col, g.in_width);
        if rows.is_empty() || cols.is_empty() {
            // Far-apart elements of a window may all lie in the padding.
            (*out, *index) = (T::from_f64(f64::NEG_INFINITY), -1);
            continue;
        }
        let mut at = rows.start * g.in_width + cols.start;
        let mut best = x[at];
        for row in rows.clone().step_by(g.dilation[0]) {
            for col in cols.clone().step_by(g.dilation[1]) {
                let place = row * g.in_width + col;
                if is_better(x[place], best) {
                    (best, at) = (x[place], place);
                }
            }
        }
        (*out, *index) = (best, at as i64);
    }
}

/// From the first to after the last input position of a window that lie inside the input.
#[inline(always)]
fn window(g: &PoolGeometry, dim: usize, index: usize, extent: usize) -> Range<usize> {
    let (start, padding, dilation) = (index * g.stride[dim], g.padding[dim], g.dilation[dim]);
    let end = start + (g.kernel[dim] - 1) * dilation + 1;
    let skipped = padding.saturating_sub(start).div_ceil(dilation) * dilation;
    start + skipped - padding..end.saturating_sub(padding).min(extent)
}
