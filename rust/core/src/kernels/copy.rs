//! Copying, converting and filling strided arrays.

use super::map::{map, Shared, Unary, GRAIN_CHEAP};
use super::nest::Nest;
use crate::array::Array;
use crate::dispatch_all;
use crate::dtype::{Category, Element};
use crate::par;
use crate::simd::Isa;

#[derive(Clone, Copy)]
struct Same;
impl<T: Element> Unary<T, T> for Same {
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> T {
        x
    }
}

#[derive(Clone, Copy)]
struct ThroughFloat;
impl<T: Element, U: Element> Unary<T, U> for ThroughFloat {
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> U {
        U::from_f64(x.to_f64())
    }
}

#[derive(Clone, Copy)]
struct ThroughInt;
impl<T: Element, U: Element> Unary<T, U> for ThroughInt {
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> U {
        U::from_i64(x.to_i64())
    }
}

/// `out = x`, converted to `out`'s dtype; shapes are equal, storages differ.
pub fn copy(x: &Array, out: &Array) {
    if x.dtype() == out.dtype() {
        return dispatch_all!(x.dtype(), T => map::<T, T, _>(x, out, Same));
    }
    // Integers go through i64 so that large ones keep all their digits.
    let through_int = x.dtype().category() < Category::Float && out.dtype().category() < Category::Float;
    dispatch_all!(x.dtype(), T => dispatch_all!(out.dtype(), U => {
        if through_int { map::<T, U, _>(x, out, ThroughInt) } else { map::<T, U, _>(x, out, ThroughFloat) }
    }));
}

/// Every element of `out` becomes `value`, converted.
pub fn fill(out: &Array, value: f64) {
    dispatch_all!(out.dtype(), T => fill_with::<T>(out, T::from_f64(value)));
}

/// Every element of `out` becomes `value`; integers keep all their digits.
pub fn fill_i64(out: &Array, value: i64) {
    dispatch_all!(out.dtype(), T => fill_with::<T>(out, T::from_i64(value)));
}

fn fill_with<T: Element>(out: &Array, value: T) {
    let op = Shared(out.as_ptr::<T>());
    let nest = Nest::new(out.shape(), [out.strides()]);
    let [step] = nest.inner_strides();
    par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
        nest.runs(range, |[offset], len| {
            let op = op.at(offset);
            // SAFETY: the nest stays inside the layout.
            unsafe {
                if step == 1 {
                    std::slice::from_raw_parts_mut(op, len).fill(value);
                } else {
                    (0..len as isize).for_each(|i| *op.offset(i * step) = value);
                }
            }
        });
    });
}

/// The first element; the array is not empty.
pub fn read_first<T: Element>(x: &Array) -> T {
    debug_assert!(x.numel() > 0);
    // SAFETY: constructors keep the offset of a non-empty layout inside the storage.
    unsafe { *x.as_ptr::<T>() }
}
