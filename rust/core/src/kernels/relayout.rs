//! Moving elements from one layout to another. Only their size counts, so there is a kernel for each size and none
//! for each dtype.

use super::map::{Shared, GRAIN_CHEAP};
use super::nest::Nest;
use super::stream;
use super::transpose::Transposed;
use crate::array::Array;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::Range;

/// The expression with `$word` bound to the unsigned integer that has the size of the elements.
macro_rules! by_size {
    ($dtype:expr, $word:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $word = u8;
                $body
            }
            2 => {
                type $word = u16;
                $body
            }
            4 => {
                type $word = u32;
                $body
            }
            _ => {
                type $word = u64;
                $body
            }
        }
    };
}
pub(super) use by_size;

/// `out = x`, of one shape and dtype, whose elements share no memory.
pub(super) fn relayout(x: &Array, out: &Array) {
    debug_assert!(x.shape() == out.shape() && x.dtype() == out.dtype());
    by_size!(x.dtype(), W => relayout_words::<W>(x, out));
}

fn relayout_words<W: Copy + Send + Sync>(x: &Array, out: &Array) {
    if out.numel() == 0 {
        return;
    }
    let nest = Nest::new(out.shape(), [out.strides(), x.strides()]);
    let (op, xp) = (Shared(out.as_words::<W>()), Shared(x.as_words::<W>()));
    let inner = nest.dims()[0];
    // Where the output's neighbours lie apart in `x`, `x` has neighbours along another dim.
    let across = match inner.strides {
        [1, -1..=1] => None,
        _ => nest.dims().iter().skip(1).position(|dim| dim.strides[1] == 1).map(|d| d + 1),
    };
    if across.is_none() && (nest.dims().len() == 1 || inner.extent >= GRAIN_CHEAP) {
        let steps = inner.strides;
        let is_streamed = steps == [1, 1] && out.numel() * size_of::<W>() >= stream::LARGE;
        return par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
            nest.runs(range, &mut |[o, x], len| {
                let (out, x) = (op.at(o), xp.at(x).cast_const());
                if is_streamed {
                    // SAFETY: the nest stays inside both layouts, which share no memory.
                    return unsafe { stream::copy(x.cast(), out.cast(), len * size_of::<W>()) };
                }
                dispatch(Plane { out, x, steps, len, rows: 1, row_steps: [0, 0] });
            });
        });
    }
    let ([inner, outer], rest) = nest.into_planes(across.unwrap_or(1));
    let rows = rest.numel() * outer.extent;
    par::for_each_chunk(rows, GRAIN_CHEAP.div_ceil(inner.extent), |range: Range<usize>| {
        let (mut plane, last) = (range.start / outer.extent, (range.end - 1) / outer.extent);
        let steps = rest.inner_strides();
        rest.runs(plane..last + 1, &mut |[o, x], len| {
            for j in 0..len as isize {
                let begin = range.start.saturating_sub(plane * outer.extent);
                let end = outer.extent.min(range.end - plane * outer.extent);
                let at = begin as isize;
                dispatch(Plane {
                    out: op.at(o + j * steps[0] + at * outer.strides[0]),
                    x: xp.at(x + j * steps[1] + at * outer.strides[1]),
                    steps: inner.strides,
                    len: inner.extent,
                    rows: end - begin,
                    row_steps: outer.strides,
                });
                plane += 1;
            }
        });
    });
}

/// `rows` rows of `len` elements; strides of output and input in a row, and from row to row.
pub(super) struct Plane<W> {
    pub out: *mut W,
    pub x: *const W,
    pub steps: [isize; 2],
    pub len: usize,
    pub rows: usize,
    pub row_steps: [isize; 2],
}

impl<W: Copy> Kernel for Plane<W> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { out, x, steps, len, rows, row_steps } = self;
        if steps[0] == 1 && !matches!(steps[1], -1..=1) && row_steps[1] == 1 && rows > 1 {
            let x_row = steps[1];
            // SAFETY: the nest stays inside both layouts, which share no memory.
            return unsafe {
                Transposed { x, x_row, out, out_row: row_steps[0], rows: len, cols: rows }.run::<I>();
            };
        }
        for row in 0..rows as isize {
            let (out, x) = (out.wrapping_offset(row * row_steps[0]), x.wrapping_offset(row * row_steps[1]));
            // SAFETY: as above.
            unsafe { run(out, x, steps, len) };
        }
    }
}

/// `len` elements, one by one but for a few strides.
///
/// # Safety
/// They are valid to read, and to write, and share no memory.
#[inline(always)]
unsafe fn run<W: Copy>(out: *mut W, x: *const W, steps: [isize; 2], len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match steps {
            [1, 1] => copy_run(x, out, len),
            [1, 0] => std::slice::from_raw_parts_mut(out, len).fill(*x),
            [1, -1] => {
                for i in 0..len {
                    *out.add(i) = *x.sub(i);
                }
            }
            // As a constant: the compiler takes every second element of two vectors.
            [1, 2] => {
                for i in 0..len {
                    *out.add(i) = *x.add(2 * i);
                }
            }
            [1, step] => {
                for i in 0..len {
                    *out.add(i) = *x.offset(i as isize * step);
                }
            }
            [out_step, step] => {
                for i in 0..len as isize {
                    *out.offset(i * out_step) = *x.offset(i * step);
                }
            }
        }
    }
}

/// Bytes of a run that are worth a call of memcpy.
const LONG_RUN: usize = 1024;

/// Copies `len` elements; short runs in blocks of which the last overlaps the one before.
///
/// # Safety
/// They are valid to read, and to write, and do not overlap.
#[inline(always)]
pub(super) unsafe fn copy_run<W: Copy>(from: *const W, to: *mut W, len: usize) {
    let bytes = len * size_of::<W>();
    // SAFETY: the caller's promise; a block is at most as long as the run.
    unsafe {
        let (from, to) = (from.cast::<u8>(), to.cast::<u8>());
        match bytes {
            LONG_RUN.. => std::ptr::copy_nonoverlapping(from, to, bytes),
            128.. => copy_blocks::<u8, 128>(from, to, bytes),
            64.. => copy_blocks::<u8, 64>(from, to, bytes),
            32.. => copy_blocks::<u8, 32>(from, to, bytes),
            16.. => copy_blocks::<u8, 16>(from, to, bytes),
            8.. => copy_blocks::<u8, 8>(from, to, bytes),
            4.. => copy_blocks::<u8, 4>(from, to, bytes),
            _ => (0..bytes).for_each(|i| *to.add(i) = *from.add(i)),
        }
    }
}

/// Copies a run in blocks of `N`, the last one together with a part of the one before.
///
/// # Safety
/// Both must be valid for `len` elements, and that must be at least `N`.
#[inline(always)]
pub(super) unsafe fn copy_blocks<T: Copy, const N: usize>(from: *const T, to: *mut T, len: usize) {
    let mut at = 0;
    while at < len {
        let block = at.min(len - N);
        // SAFETY: block + N <= len.
        unsafe {
            let values = from.add(block).cast::<[T; N]>().read_unaligned();
            to.add(block).cast::<[T; N]>().write_unaligned(values);
        }
        at += N;
    }
}
