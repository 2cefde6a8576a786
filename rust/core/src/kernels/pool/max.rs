//! Max pooling: the largest element of each window, and where it stands.

use std::ops::Range;

use super::PoolGeometry;
use crate::dtype::Element;
use crate::kernels::conv::Float;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel};

/// Writes the largest element of each window and, where wanted, its index in the plane.
///
/// A NaN wins over everything and the first of equal elements over the others, as in PyTorch.
pub fn max_pool2d<T: Element>(g: &PoolGeometry, x: &[T], out: &mut [T], indices: Option<&mut [i64]>) {
    pool(g, x, out, indices, |x, out, indices| simd::dispatch(MaxPool { g, x, out, indices }));
}

/// As [`max_pool2d`] over windows that are chosen so that the output has its size: of the window, the geometry's
/// numbers say only how much work there is.
pub fn adaptive_max_pool2d<T: Element>(
    g: &PoolGeometry,
    x: &[T],
    out: &mut [T],
    indices: Option<&mut [i64]>,
) {
    pool(g, x, out, indices, |x, out, indices| simd::dispatch(AdaptiveMaxPool { g, x, out, indices }));
}

/// Calls `run` with the inputs, outputs and indices of chunks of planes.
fn pool<T: Element>(
    g: &PoolGeometry,
    x: &[T],
    out: &mut [T],
    indices: Option<&mut [i64]>,
    run: impl Fn(&[T], &mut [T], Option<&mut [i64]>) + Sync,
) {
    assert_eq!(x.len(), g.planes * g.in_plane());
    assert_eq!(out.len(), g.planes * g.out_plane());
    assert!(indices.as_ref().is_none_or(|indices| indices.len() == out.len()));
    if out.is_empty() {
        return;
    }
    let (out, indices) = (SharedSlice::new(out), indices.map(SharedSlice::new));
    par::for_each_chunk(g.planes, g.grain(), |planes| {
        let (start, len) = (planes.start * g.out_plane(), planes.len() * g.out_plane());
        // SAFETY: chunks of planes are disjoint, and so are their outputs.
        let (out, indices) =
            unsafe { (out.part(start, len), indices.as_ref().map(|indices| indices.part(start, len))) };
        run(&x[planes.start * g.in_plane()..planes.end * g.in_plane()], out, indices);
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
    indices: Option<&'a mut [i64]>,
}

impl<T: Element> Kernel for MaxPool<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, x, out, indices } = self;
        let taps = Taps::new(g);
        let outputs = out.chunks_exact_mut(g.out_width);
        let row_of =
            |row: usize| (&x[row / g.out_height * g.in_plane()..][..g.in_plane()], row % g.out_height);
        match indices {
            Some(indices) => {
                for (row, (out, indices)) in outputs.zip(indices.chunks_exact_mut(g.out_width)).enumerate() {
                    let (x, row) = row_of(row);
                    any_row::<T, true>(g, &taps, row, x, out, indices);
                }
            }
            None => {
                for (row, out) in outputs.enumerate() {
                    let (x, row) = row_of(row);
                    any_row::<T, false>(g, &taps, row, x, out, &mut []);
                }
            }
        }
    }
}

/// What all rows of windows have in common: their divisions would take longer than a short row.
struct Taps {
    /// Whether this is the common window of two by two, all of it inside.
    is_pair: bool,
    /// Of each column of the window the outputs that it reaches, and the first input column that they read.
    columns: Vec<(Range<usize>, usize)>,
    /// The first input column of each output's window; none for a window in the padding.
    first: Vec<Option<usize>>,
}

impl Taps {
    fn new(g: &PoolGeometry) -> Self {
        let is_pair = g.kernel == [2, 2] && g.stride == [2, 2] && g.padding == [0, 0] && g.dilation == [1, 1];
        let is_inside = 2 * g.out_height <= g.in_height && 2 * g.out_width <= g.in_width;
        // Narrow rows take their windows one by one.
        let count = if g.out_width < SIDE_BY_SIDE { 0 } else { g.kernel[1] };
        let reached = (0..count).map(|tap| (g.reached(tap * g.dilation[1]), tap * g.dilation[1]));
        let columns = reached.filter(|(reached, _)| !reached.is_empty());
        let columns =
            columns.map(|(reached, at)| (reached.clone(), reached.start * g.stride[1] + at - g.padding[1]));
        let first = (0..g.out_width).map(|col| window(g, 1, col, g.in_width)).map(|cols| {
            let is_inside = !cols.is_empty();
            is_inside.then_some(cols.start)
        });
        Self { is_pair: is_pair && is_inside, columns: columns.collect(), first: first.collect() }
    }
}

struct AdaptiveMaxPool<'a, T> {
    g: &'a PoolGeometry,
    x: &'a [T],
    out: &'a mut [T],
    indices: Option<&'a mut [i64]>,
}

impl<T: Element> Kernel for AdaptiveMaxPool<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { g, x, out, mut indices } = self;
        // From floor(i * extent / count) to ceil((i + 1) * extent / count).
        let window =
            |i: usize, extent: usize, count: usize| i * extent / count..((i + 1) * extent).div_ceil(count);
        for (i, out) in out.iter_mut().enumerate() {
            let (plane, row, col) = (i / g.out_plane(), i / g.out_width % g.out_height, i % g.out_width);
            let x = &x[plane * g.in_plane()..(plane + 1) * g.in_plane()];
            let rows = window(row, g.in_height, g.out_height);
            let (best, at) = best_of(g.in_width, x, rows, window(col, g.in_width, g.out_width), [1, 1]);
            *out = best;
            if let Some(indices) = &mut indices {
                indices[i] = at as i64;
            }
        }
    }
}

/// Whether `new` takes the place of `best`.
#[inline(always)]
fn is_better<T: Element>(new: T, best: T) -> bool {
    (new > best) | is_nan(new)
}

#[inline(always)]
#[allow(clippy::eq_op)] // x != x asks for NaN
fn is_nan<T: Element>(x: T) -> bool {
    x != x
}

/// A row of 2x2 windows with stride 2, without a branch.
#[inline(always)]
fn pair_row<T: Element, const PLACED: bool>(
    width: usize,
    row: usize,
    x: &[T],
    out: &mut [T],
    indices: &mut [i64],
) {
    let cols = out.len();
    let upper = x[row * width..][..2 * cols].as_chunks::<2>().0;
    let lower = x[(row + 1) * width..][..2 * cols].as_chunks::<2>().0;
    let first = (row * width) as i64;
    let indices = if PLACED { &mut indices[..cols] } else { indices };
    for (col, (out, (upper, lower))) in out.iter_mut().zip(upper.iter().zip(lower)).enumerate() {
        let (mut best, mut at) = (upper[0], 0);
        for (value, place) in [(upper[1], 1), (lower[0], width as i64), (lower[1], width as i64 + 1)] {
            let wins = is_better(value, best);
            best = if wins { value } else { best };
            at = if wins { place } else { at };
        }
        *out = best;
        if PLACED {
            indices[col] = first + 2 * col as i64 + at;
        }
    }
}

/// Fewest windows of a row that are done side by side.
const SIDE_BY_SIDE: usize = 4;
/// The same where places are wanted: rows of 16 3x3 windows took a third longer side by side than one by one.
const SIDE_BY_SIDE_PLACED: usize = 64;

fn is_narrow(g: &PoolGeometry, placed: bool) -> bool {
    g.out_width < if placed { SIDE_BY_SIDE_PLACED } else { SIDE_BY_SIDE }
}

/// A row of any windows. With `PLACED`, `indices` has a place for each; else it is empty.
#[inline(always)]
fn any_row<T: Element, const PLACED: bool>(
    g: &PoolGeometry,
    taps: &Taps,
    row: usize,
    x: &[T],
    out: &mut [T],
    indices: &mut [i64],
) {
    if taps.is_pair {
        pair_row::<T, PLACED>(g.in_width, 2 * row, x, out, indices);
    } else if is_narrow(g, PLACED) {
        one_by_one::<T, PLACED>(g, row, x, out, indices);
    } else {
        side_by_side::<T, PLACED>(g, taps, row, x, out, indices);
    }
}

#[inline(always)]
fn one_by_one<T: Element, const PLACED: bool>(
    g: &PoolGeometry,
    row: usize,
    x: &[T],
    out: &mut [T],
    indices: &mut [i64],
) {
    let rows = window(g, 0, row, g.in_height);
    for (col, out) in out.iter_mut().enumerate() {
        let cols = window(g, 1, col, g.in_width);
        let (best, at) = if rows.is_empty() || cols.is_empty() {
            // Far-apart elements of a window may all lie in the padding.
            (T::from_f64(f64::NEG_INFINITY), -1)
        } else {
            let (best, at) = best_of(g.in_width, x, rows.clone(), cols, g.dilation);
            (best, at as i64)
        };
        *out = best;
        if PLACED {
            indices[col] = at;
        }
    }
}

/// One element of all windows after the other, so that the loop runs along the row.
#[inline(always)]
fn side_by_side<T: Element, const PLACED: bool>(
    g: &PoolGeometry,
    taps: &Taps,
    row: usize,
    x: &[T],
    out: &mut [T],
    indices: &mut [i64],
) {
    let rows = window(g, 0, row, g.in_height);
    out.fill(T::from_f64(f64::NEG_INFINITY));
    for (index, first) in indices.iter_mut().zip(&taps.first) {
        // The first place, for a window of nothing but -inf.
        *index = match first {
            Some(first) if !rows.is_empty() => (rows.start * g.in_width + first) as i64,
            _ => -1,
        };
    }
    for row in rows.step_by(g.dilation[0]) {
        for (reached, first) in &taps.columns {
            let (step, first) = (g.stride[1], row * g.in_width + first);
            let x = &x[first..first + (reached.len() - 1) * step + 1];
            let indices: &mut [i64] = if PLACED { &mut indices[reached.clone()] } else { &mut [] };
            let out = &mut out[reached.clone()];
            match step {
                1 => tap_row::<T, PLACED>(1, first, x, out, indices),
                2 => tap_row::<T, PLACED>(2, first, x, out, indices),
                step => tap_row::<T, PLACED>(step, first, x, out, indices),
            }
        }
    }
}

/// One element of each window of a row, `step` apart, the first of them at place `first` of the plane.
#[inline(always)]
fn tap_row<T: Element, const PLACED: bool>(
    step: usize,
    first: usize,
    x: &[T],
    out: &mut [T],
    indices: &mut [i64],
) {
    assert!((out.len() - 1) * step < x.len() && (!PLACED || indices.len() == out.len()));
    for (i, out) in out.iter_mut().enumerate() {
        // SAFETY: asserted above.
        let value = unsafe { *x.get_unchecked(i * step) };
        let wins = is_better(value, *out);
        *out = if wins { value } else { *out };
        if PLACED {
            // SAFETY: asserted above.
            let index = unsafe { indices.get_unchecked_mut(i) };
            *index = if wins { (first + i * step) as i64 } else { *index };
        }
    }
}

/// Columns of a wide window that are compared side by side.
const LANES: usize = 8;

/// The best of the elements in `rows` and `cols`, neither of them empty, and its place in the plane.
#[inline(always)]
fn best_of<T: Element>(
    width: usize,
    x: &[T],
    rows: Range<usize>,
    cols: Range<usize>,
    dilation: [usize; 2],
) -> (T, usize) {
    let start = rows.start * width + cols.start;
    if cols.len() >= LANES && dilation[1] == 1 {
        return best_of_lanes(width, x, rows.step_by(dilation[0]), cols, start);
    }
    let (mut best, mut at) = (x[start], start);
    for row in rows.step_by(dilation[0]) {
        for col in cols.clone().step_by(dilation[1]) {
            let place = row * width + col;
            let wins = is_better(x[place], best);
            best = if wins { x[place] } else { best };
            at = if wins { place } else { at };
        }
    }
    (best, at)
}

/// The same of a window of at least so many columns.
#[inline(always)]
fn best_of_lanes<T: Element>(
    width: usize,
    x: &[T],
    rows: impl Iterator<Item = usize>,
    cols: Range<usize>,
    start: usize,
) -> (T, usize) {
    let lowest = T::from_f64(f64::NEG_INFINITY);
    let (mut best, mut at) = ([lowest; LANES], [start; LANES]);
    let mut compare = |values: &[T; LANES], place: usize| {
        for lane in 0..LANES {
            let wins = is_better(values[lane], best[lane]);
            best[lane] = if wins { values[lane] } else { best[lane] };
            at[lane] = if wins { place + lane } else { at[lane] };
        }
    };
    for row in rows {
        let first = row * width + cols.start;
        let (chunks, rest) = x[first..first + cols.len()].as_chunks::<LANES>();
        for (i, chunk) in chunks.iter().enumerate() {
            compare(chunk, first + i * LANES);
        }
        if !rest.is_empty() {
            // What is no element is never better.
            let mut padded = [lowest; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            compare(&padded, first + chunks.len() * LANES);
        }
    }
    let mut winner = 0;
    for lane in 1..LANES {
        let (new, old) = (best[lane], best[winner]);
        // Of equal elements the first, of NaN the last, as if they had come in turn.
        let is_earlier = new == old && at[lane] < at[winner];
        let is_later_nan = is_nan(new) && (!is_nan(old) || at[lane] > at[winner]);
        if is_later_nan || (!is_nan(old) && (new > old || is_earlier)) {
            winner = lane;
        }
    }
    (best[winner], at[winner])
}

/// From the first to after the last input position of a window that lie inside the input.
#[inline(always)]
fn window(g: &PoolGeometry, dim: usize, index: usize, extent: usize) -> Range<usize> {
    let (start, padding, dilation) = (index * g.stride[dim], g.padding[dim], g.dilation[dim]);
    let end = start + (g.kernel[dim] - 1) * dilation + 1;
    let skipped = padding.saturating_sub(start).div_ceil(dilation) * dilation;
    start + skipped - padding..end.saturating_sub(padding).min(extent)
}
