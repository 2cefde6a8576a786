//! Reading and writing elements at computed places.

use super::map::{Shared, GRAIN_CHEAP};
use super::nest::Nest;
use crate::array::Array;
use crate::dispatch_all;
use crate::dtype::Element;
use crate::layout::contiguous_strides;
use crate::par;
use std::ops::Range;

/// `out[b, ...] = x[offsets[b] + ...]`: `rest` is the layout of one picked item of `x` (its offset is
/// `x`'s), `out` is contiguous. Offsets are in elements; the caller has checked the indices that they
/// are made of, in memory that nobody else can write.
pub fn take(offsets: &[i64], rest: &Array, out: &Array) {
    assert!(out.is_contiguous() && out.numel() == offsets.len() * rest.numel());
    dispatch_all!(rest.dtype(), T => take_items::<T>(rest, offsets, out));
}

fn take_items<T: Element>(rest: &Array, offsets: &[i64], out: &Array) {
    let item = rest.numel();
    let (xp, op) = (Shared(rest.as_ptr::<T>()), Shared(out.as_ptr::<T>()));
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
                    std::ptr::copy_nonoverlapping(from, to, item);
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
    if T::DTYPE.is_float() {
        // Rounding the sum of two float32 from float64 to float32 gives their float32 sum.
        T::from_f64(a.to_f64() + b.to_f64())
    } else if T::DTYPE == crate::DType::Bool {
        T::from_i64(a.to_i64() | b.to_i64())
    } else {
        T::from_i64(a.to_i64().wrapping_add(b.to_i64()))
    }
}

/// `out[i] = x[.., index[i], ..]` along `dim`; shapes are `index`'s. The op has checked the indices, in an
/// array that nobody else can write.
pub fn gather(x: &Array, dim: usize, index: &Array, out: &Array) {
    dispatch_all!(x.dtype(), T => gather_elements::<T>(x, dim, index, out));
}

fn without(strides: &[isize], dim: usize) -> crate::layout::Strides {
    let mut strides: crate::layout::Strides = strides.into();
    if let Some(stride) = strides.get_mut(dim) {
        *stride = 0;
    }
    strides
}

fn gather_elements<T: Element>(x: &Array, dim: usize, index: &Array, out: &Array) {
    let along = x.strides().get(dim).copied().unwrap_or(0);
    let nest = Nest::new(index.shape(), [out.strides(), index.strides(), &without(x.strides(), dim)]);
    let [os, is, xs] = nest.inner_strides();
    let (op, ip, xp) = (Shared(out.as_ptr::<T>()), Shared(index.as_ptr::<i64>()), Shared(x.as_ptr::<T>()));
    par::for_each_chunk(index.numel(), GRAIN_CHEAP / 4, |range| {
        nest.runs(range, &mut |[o, i, x], len| {
            for j in 0..len as isize {
                // SAFETY: the op gives arrays of the index's shape, and indices below the extent along `dim`.
                unsafe {
                    let at = *ip.at(i + j * is) as isize;
                    *op.at(o + j * os) = *xp.at(x + j * xs + at * along);
                }
            }
        });
    });
}

/// `out[.., index[i], ..] = src[i]` along `dim`, or `+=`; on one thread, in index order. Indices as for
/// [`gather`].
pub fn scatter(out: &Array, dim: usize, index: &Array, src: &Array, accumulate: bool) {
    dispatch_all!(out.dtype(), T => scatter_elements::<T>(out, dim, index, src, accumulate));
}

fn scatter_elements<T: Element>(out: &Array, dim: usize, index: &Array, src: &Array, accumulate: bool) {
    let along = out.strides().get(dim).copied().unwrap_or(0);
    let nest = Nest::new(index.shape(), [index.strides(), src.strides(), &without(out.strides(), dim)]);
    let [is, ss, os] = nest.inner_strides();
    let (ip, sp, op) = (Shared(index.as_ptr::<i64>()), Shared(src.as_ptr::<T>()), Shared(out.as_ptr::<T>()));
    nest.runs(0..nest.numel(), &mut |[i, s, o], len| {
        for j in 0..len as isize {
            // SAFETY: the op gives arrays of the index's shape, and indices below the extent along `dim`.
            unsafe {
                let at = *ip.at(i + j * is) as isize;
                let slot = op.at(o + j * os + at * along);
                let value = *sp.at(s + j * ss);
                *slot = if accumulate { add(*slot, value) } else { value };
            }
        }
    });
}
