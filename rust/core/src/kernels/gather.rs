//! Reading and writing elements at computed places.

use super::map::{Shared, GRAIN_CHEAP};
use super::nest::Nest;
use super::relayout::{by_size, copy_run};
use crate::array::Array;
use crate::dtype::{DType, Element};
use crate::layout::{contiguous_strides, Dims, Strides};
use crate::simd::{dispatch, Isa, Kernel};
use crate::{dispatch_all, par};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// `out[b, ...] = x[offsets[b] + ...]`: `rest` is the layout of one picked item of `x` (its offset is
/// `x`'s), `out` is contiguous. Offsets are in elements; the caller has checked the indices that they
/// are made of, in memory that nobody else can write.
pub fn take(offsets: &[i64], rest: &Array, out: &Array) {
    assert!(out.is_contiguous() && out.numel() == offsets.len() * rest.numel());
    by_size!(rest.dtype(), W => take_items::<W>(rest, offsets, out));
}

fn take_items<W: Copy>(rest: &Array, offsets: &[i64], out: &Array) {
    let item = rest.numel();
    let (xp, op) = (Shared(rest.as_words::<W>()), Shared(out.as_words::<W>()));
    // The output comes first: its order of dims decides the walk.
    let nest = Nest::new(rest.shape(), [&contiguous_strides(rest.shape()), rest.strides()]);
    let [to_step, step] = nest.inner_strides();
    let contiguous = rest.is_contiguous();
    par::for_each_chunk(offsets.len(), (GRAIN_CHEAP / item.max(1)).max(1), |range: Range<usize>| {
        for b in range {
            let (from, to) = (xp.at(offsets[b] as isize), op.at((b * item) as isize));
            // SAFETY: `take`'s callers check the offsets; `out` has `item` elements per offset (asserted).
            unsafe {
                if contiguous {
                    copy_run(from, to, item);
                } else {
                    nest.runs(0..item, &mut |[start, offset], len| {
                        for j in 0..len as isize {
                            *to.offset(start + j * to_step) = *from.offset(offset + j * step);
                        }
                    });
                }
            }
        }
    });
}

/// `out[offsets[b] + ...] = values[b, ...]`, or `+=`; in the order of `b`, because offsets may coincide: threads
/// share the positions of an item, not the items. `values` is contiguous; `rest` is the layout of one item of
/// `out`. Offsets as for [`take`].
pub fn put(offsets: &[i64], rest: &Array, values: &Array, accumulate: bool) {
    assert!(values.numel() == offsets.len() * rest.numel());
    dispatch_all!(rest.dtype(), T => put_items::<T>(rest, offsets, values, accumulate));
}

/// Positions of an item from which a thread is worth it: its lines of cache should be its own.
const MIN_COLUMNS: usize = 64;

fn put_items<T: Element>(rest: &Array, offsets: &[i64], values: &Array, accumulate: bool) {
    let item = rest.numel();
    let values = values.slice::<T>();
    let op = Shared(rest.as_ptr::<T>());
    let contiguous = rest.is_contiguous();
    if contiguous {
        let grain = (GRAIN_CHEAP / offsets.len().max(1)).max(MIN_COLUMNS);
        par::for_each_chunk(item, grain, |columns: Range<usize>| {
            for (b, &offset) in offsets.iter().enumerate() {
                let from = &values[b * item..][columns.clone()];
                // SAFETY: `put`'s callers check the offsets: each item lies inside `out`, which `values` is no part
                // of; chunks are disjoint parts of it.
                let slots = unsafe {
                    std::slice::from_raw_parts_mut(
                        op.at(offset as isize + columns.start as isize),
                        columns.len(),
                    )
                };
                if accumulate {
                    slots.iter_mut().zip(from).for_each(|(slot, value)| *slot = add(*slot, *value));
                } else {
                    slots.copy_from_slice(from);
                }
            }
        });
        return;
    }
    let nest = Nest::new(rest.shape(), [&contiguous_strides(rest.shape()), rest.strides()]);
    let [from_step, step] = nest.inner_strides();
    for (b, &offset) in offsets.iter().enumerate() {
        let from = &values[b * item..(b + 1) * item];
        nest.runs(0..item, &mut |[start, at], len| {
            for j in 0..len as isize {
                let value = from[(start + j * from_step) as usize];
                // SAFETY: as above.
                unsafe {
                    let slot = op.at(offset as isize + at + j * step);
                    *slot = if accumulate { add(*slot, value) } else { value };
                }
            }
        });
    }
}

/// The sum: integers wrap, floats are rounded each time.
#[inline(always)]
pub(super) fn add<T: Element>(a: T, b: T) -> T {
    match T::DTYPE {
        DType::F64 => T::from_f64(a.to_f64() + b.to_f64()),
        DType::F32 | DType::F16 | DType::BF16 => T::from_f32(a.to_f32() + b.to_f32()),
        DType::Bool => T::from_i64(a.to_i64() | b.to_i64()),
        DType::U8 | DType::I32 | DType::I64 => T::from_i64(a.to_i64().wrapping_add(b.to_i64())),
    }
}

/// The strides of what an index moves along `dim`: there it does not step.
fn without(strides: &[isize], dim: usize) -> Strides {
    let mut strides: Strides = strides.into();
    strides[dim] = 0;
    strides
}

/// `out[i] = x[.., index[i], ..]` along `dim`; shapes are those of `index`, an int64 array that may lie anyhow. Whether
/// all of its indices are positions of the dim; if not, some elements are wrong.
///
/// Indices are compared where they are used: another thread may be writing to them.
#[must_use]
pub fn gather(x: &Array, dim: usize, index: &Array, out: &Array) -> bool {
    assert!(out.shape() == index.shape() && x.rank() == index.rank() && x.shape()[dim] > 0);
    by_size!(x.dtype(), W => gather_words::<W>(x, dim, index, out))
}

fn gather_words<W: Copy>(x: &Array, dim: usize, index: &Array, out: &Array) -> bool {
    let (along, last) = (x.strides()[dim], x.shape()[dim] as u64 - 1);
    let nest = Nest::new(index.shape(), [out.strides(), index.strides(), &without(x.strides(), dim)]);
    let steps = nest.inner_strides();
    let (op, ip, xp) =
        (Shared(out.as_words::<W>()), Shared(index.as_ptr::<i64>()), Shared(x.as_words::<W>()));
    let is_wrong = AtomicBool::new(false);
    par::for_each_chunk(index.numel(), GRAIN_CHEAP / 4, |range| {
        nest.runs(range, &mut |[o, i, x], len| {
            let (out, index, x) = (op.at(o), ip.at(i), xp.at(x));
            if !dispatch(GatherRun { out, index, x, steps, len, along, last }) {
                is_wrong.store(true, Ordering::Relaxed);
            }
        });
    });
    !is_wrong.into_inner()
}

/// One run of `gather`.
struct GatherRun<W> {
    out: *mut W,
    index: *const i64,
    x: *const W,
    steps: [isize; 3],
    len: usize,
    along: isize,
    /// The last position.
    last: u64,
}

impl<W: Copy> Kernel for GatherRun<W> {
    const WIDE: bool = false;
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let Self { out, index, x, steps, len, along, last } = self;
        let mut is_right = true;
        // SAFETY: the nest stays inside `out` and `index`; indices beyond the last position are read as that one.
        unsafe {
            let mut position = |i: isize| {
                let position = *index.offset(i) as u64; // negative ones become large
                is_right &= position <= last;
                position.min(last) as isize
            };
            match steps {
                [1, 0, 1] => copy_run(x.offset(position(0) * along), out, len),
                [1, 1, 0] if along == 1 => {
                    (0..len as isize).for_each(|j| *out.offset(j) = *x.offset(position(j)));
                }
                [os, is, xs] => (0..len as isize).for_each(|j| {
                    *out.offset(j * os) = *x.offset(j * xs + position(j * is) * along);
                }),
            }
        }
        is_right
    }
}

/// `out[.., index[i], ..] = src[i]` along `dim`, or `+=`, where indices coincide one after the other. Indices as for
/// [`gather`]; where some are wrong, so is `out`.
#[must_use]
pub fn scatter(out: &Array, dim: usize, index: &Array, src: &Array, accumulate: bool) -> bool {
    assert!(src.shape() == index.shape() && out.rank() == index.rank() && out.shape()[dim] > 0);
    if accumulate {
        return dispatch_all!(out.dtype(), T => {
            scatter_with(out.as_ptr::<T>(), src.as_ptr::<T>(), [out, index, src], dim, add::<T>)
        });
    }
    by_size!(out.dtype(), W => {
        scatter_with(out.as_words::<W>(), src.as_words::<W>(), [out, index, src], dim, |_, value| value)
    })
}

/// Threads share the positions of another dim, the first or the last: what is written through one of these is written
/// by one thread.
fn scatter_with<T: Copy>(
    out: *mut T,
    src: *const T,
    [to, index, from]: [&Array; 3],
    dim: usize,
    join: impl Fn(T, T) -> T + Copy + Sync,
) -> bool {
    let (along, last) = (to.strides()[dim], to.shape()[dim] as u64 - 1);
    let shared = if dim > 0 { 0 } else { index.rank() - 1 };
    let (count, grain) = match index.shape()[shared] {
        _ if shared == dim => (1, 1), // a vector
        extent => {
            (extent, (GRAIN_CHEAP * extent / index.numel().max(1)).max(if dim > 0 { 1 } else { MIN_COLUMNS }))
        }
    };
    let (op, ip, sp) = (Shared(out), Shared(index.as_ptr::<i64>()), Shared(src.cast_mut()));
    let is_wrong = AtomicBool::new(false);
    par::for_each_chunk(count, grain, |range| {
        let mut shape: Dims = index.shape().into();
        if shared != dim {
            shape[shared] = range.len();
        }
        let first = range.start as isize;
        let nest = Nest::new(&shape, [index.strides(), from.strides(), &without(to.strides(), dim)]);
        let steps = nest.inner_strides();
        let start = |x: &Array| first * x.strides()[shared];
        let (op, ip, sp) = (op.at(start(to)), ip.at(start(index)), sp.at(start(from)));
        nest.runs(0..nest.numel(), &mut |[i, s, o], len| {
            let (index, src, out) = (ip.wrapping_offset(i), sp.wrapping_offset(s), op.wrapping_offset(o));
            if !dispatch(ScatterRun { index, src, out, steps, len, along, last, join }) {
                is_wrong.store(true, Ordering::Relaxed);
            }
        });
    });
    !is_wrong.into_inner()
}

/// One run of `scatter`.
struct ScatterRun<T, F> {
    index: *const i64,
    src: *const T,
    out: *mut T,
    steps: [isize; 3],
    len: usize,
    along: isize,
    last: u64,
    join: F,
}

impl<T: Copy, F: Fn(T, T) -> T> Kernel for ScatterRun<T, F> {
    const WIDE: bool = false;
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let Self { index, src, out, steps, len, along, last, join } = self;
        let mut is_right = true;
        // SAFETY: the nest stays inside all three; indices beyond the last position are taken as that one.
        unsafe {
            let mut write = |i: isize, s: isize, o: isize| {
                let position = *index.offset(i) as u64;
                is_right &= position <= last;
                let slot = out.offset(o + position.min(last) as isize * along);
                *slot = join(*slot, *src.offset(s));
            };
            match steps {
                [1, 1, 0] => (0..len as isize).for_each(|j| write(j, j, 0)),
                [is, ss, os] => (0..len as isize).for_each(|j| write(j * is, j * ss, j * os)),
            }
        }
        is_right
    }
}
