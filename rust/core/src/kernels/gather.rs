//! Reading and writing elements at computed places.

use super::map::{Shared, GRAIN_CHEAP};
use super::nest::Nest;
use crate::array::Array;
use crate::dispatch_all;
use crate::dtype::Element;
use crate::par;
use std::ops::Range;

/// `out[b, ...] = x[offsets[b] + ...]`: `rest` is the layout of one picked item of `x` (its offset is
/// `x`'s), `out` is contiguous. Offsets are in elements and have been checked.
pub fn take(x: &Array, offsets: &[isize], rest: &Array, out: &Array) {
    dispatch_all!(x.dtype(), T => take_items::<T>(rest, offsets, out));
}

fn take_items<T: Element>(rest: &Array, offsets: &[isize], out: &Array) {
    let item = rest.numel();
    let (xp, op) = (Shared(rest.as_ptr::<T>()), Shared(out.as_ptr::<T>()));
    let nest = Nest::new(rest.shape(), [rest.strides()]);
    let contiguous = rest.is_contiguous();
    par::for_each_chunk(offsets.len(), (GRAIN_CHEAP / item.max(1)).max(1), |range: Range<usize>| {
        for b in range {
            let (from, to) = (xp.at(offsets[b]), op.at((b * item) as isize));
            // SAFETY: offsets stay inside `x`, `out` has `item` elements per offset.
            unsafe {
                if contiguous {
                    std::ptr::copy_nonoverlapping(from, to, item);
                } else {
                    let [step] = nest.inner_strides();
                    let mut i = 0;
                    nest.runs(0..item, &mut |[offset], len| {
                        for j in 0..len as isize {
                            *to.add(i) = *from.offset(offset + j * step);
                            i += 1;
                        }
                    });
                }
            }
        }
    });
}

/// `out[offsets[b] + ...] = values[b, ...]`, or `+=`; on one thread, in the order of `b`, because
/// offsets may coincide. `values` is contiguous; `rest` is the layout of one item of `out`.
pub fn put(out: &Array, offsets: &[isize], rest: &Array, values: &Array, accumulate: bool) {
    dispatch_all!(out.dtype(), T => put_items::<T>(rest, offsets, values, accumulate));
}

fn put_items<T: Element>(rest: &Array, offsets: &[isize], values: &Array, accumulate: bool) {
    let item = rest.numel();
    let values = values.slice::<T>();
    let op = Shared(rest.as_ptr::<T>());
    let nest = Nest::new(rest.shape(), [rest.strides()]);
    let [step] = nest.inner_strides();
    for (b, &offset) in offsets.iter().enumerate() {
        let mut from = values[b * item..(b + 1) * item].iter();
        nest.runs(0..item, &mut |[at], len| {
            for (j, &value) in (0..len as isize).zip(from.by_ref()) {
                // SAFETY: offsets stay inside `out`.
                unsafe {
                    let slot = op.at(offset + at + j * step);
                    *slot = if accumulate { add(*slot, value) } else { value };
                }
            }
        });
    }
}

/// The sum as PyTorch accumulates it: integers wrap, 16-bit floats are rounded each time.
#[inline(always)]
fn add<T: Element>(a: T, b: T) -> T {
    if T::DTYPE.is_float() {
        T::from_f64(a.to_f64() + b.to_f64())
    } else if T::DTYPE == crate::DType::Bool {
        T::from_i64(a.to_i64() | b.to_i64())
    } else {
        T::from_i64(a.to_i64().wrapping_add(b.to_i64()))
    }
}

/// `out[i] = x[.., index[i], ..]` along `dim`; shapes are `index`'s. Indices have been checked.
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
                // SAFETY: the nest stays inside the layouts; indices have been checked.
                unsafe {
                    let at = *ip.at(i + j * is) as isize;
                    *op.at(o + j * os) = *xp.at(x + j * xs + at * along);
                }
            }
        });
    });
}

/// `out[.., index[i], ..] = src[i]` along `dim`, or `+=`; on one thread, in index order.
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
            // SAFETY: the nest stays inside the layouts; indices have been checked.
            unsafe {
                let at = *ip.at(i + j * is) as isize;
                let slot = op.at(o + j * os + at * along);
                let value = *sp.at(s + j * ss);
                *slot = if accumulate { add(*slot, value) } else { value };
            }
        }
    });
}
