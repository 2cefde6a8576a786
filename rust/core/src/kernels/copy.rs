//! Copying, converting and filling strided arrays.

use super::map::{map, Shared, Unary, GRAIN_CHEAP};
use super::nest::Nest;
use super::relayout::{copy_run, relayout};
use super::truth;
use crate::array::Array;
use crate::dispatch_all;
use crate::dtype::{Bool, DType, Element};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// Conversion, by the shortest way that loses nothing on it.
#[derive(Clone, Copy)]
struct Cast;
impl<T: Element, U: Element> Unary<T, U> for Cast {
    /// AVX-512 narrows in one instruction what AVX2 packs and permutes.
    const WIDE: bool = U::DTYPE.is_half();
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> U {
        cast(x)
    }
}

/// Whether a value of this type is a float32, or one of fewer digits.
const fn is_narrow_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32)
}

#[inline(always)]
fn cast<T: Element, U: Element>(x: T) -> U {
    if !T::DTYPE.is_float() && !U::DTYPE.is_float() {
        U::from_i64(x.to_i64()) // large integers keep all their digits
    } else if is_narrow_float(T::DTYPE) || is_narrow_float(U::DTYPE) {
        U::from_f32(x.to_f32())
    } else {
        U::from_f64(x.to_f64())
    }
}

/// `out = x`, converted to `out`'s dtype; shapes are equal, storages differ.
pub fn copy(x: &Array, out: &Array) {
    use DType::{Bool as B, F32, F64, I32, I64, U8};
    if x.dtype() == out.dtype() {
        return relayout(x, out);
    }
    if out.dtype() == B {
        return truth::truths(x, out);
    }
    // The pairs that training meets are compiled for every instruction set.
    match (x.dtype(), out.dtype()) {
        (F32, dtype) => dispatch_all!(dtype, U => map::<f32, U, _>(x, out, Cast)),
        (dtype, F32) => dispatch_all!(dtype, T => map::<T, f32, _>(x, out, Cast)),
        (I64, F64) => map::<i64, f64, _>(x, out, Cast),
        (B, U8) => map::<Bool, u8, _>(x, out, Cast),
        (U8, I64) => map::<u8, i64, _>(x, out, Cast),
        (I32, I64) => map::<i32, i64, _>(x, out, Cast),
        (B, I64) => map::<Bool, i64, _>(x, out, Cast),
        (from, to) => {
            dispatch_all!(from, T => dispatch_all!(to, U => convert(x, out, cast::<T, U>)));
        }
    }
}

/// Elements up to which [`copy_rows`] is worth a way of its own: it runs on one thread.
pub const SMALL: usize = GRAIN_CHEAP / 2;

/// Copies the `rows` rows of `x` into as many longer rows of `out`, from element `start` of each on. Both are
/// contiguous and of one dtype.
pub fn copy_rows(x: &Array, out: &Array, start: usize, rows: usize) {
    if x.numel() == 0 {
        return;
    }
    let size = x.dtype().size();
    assert!(out.is_contiguous() && x.dtype() == out.dtype());
    let (from, to) = (x.bytes(), out.storage().as_ptr().wrapping_add(out.layout().offset() * size));
    let (len, row, start) = (from.len() / rows, out.numel() / rows * size, start * size);
    assert!(len * rows == from.len() && start + len <= row);
    dispatch(Rows { from, len, to: to.wrapping_add(start), row });
}

/// Runs of `len` bytes, one after the other, that go to places `row` bytes apart.
struct Rows<'a> {
    from: &'a [u8],
    len: usize,
    to: *mut u8,
    row: usize,
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for (r, from) in self.from.chunks_exact(self.len).enumerate() {
            // SAFETY: the run lies in row `r` of `copy_rows`'s output (asserted), which nobody else has yet.
            unsafe { copy_run(from.as_ptr(), self.to.add(r * self.row), self.len) };
        }
    }
}

/// As `map`, compiled for the baseline alone: all pairs of dtypes times every instruction set would
/// be a third of the library.
fn convert<T: Element, U: Element>(x: &Array, out: &Array, f: impl Fn(T) -> U + Sync) {
    let nest = Nest::new(out.shape(), [out.strides(), x.strides()]);
    let (op, xp) = (Shared(out.as_ptr::<U>()), Shared(x.as_ptr::<T>()));
    let [os, xs] = nest.inner_strides();
    par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
        nest.runs(range, &mut |[o, x], len| {
            for i in 0..len as isize {
                // SAFETY: the nest stays inside both layouts.
                unsafe { *op.at(o + i * os) = f(*xp.at(x + i * xs)) };
            }
        });
    });
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
    if out.numel() == 1 {
        // SAFETY: constructors keep the offset of a non-empty layout inside the storage.
        return unsafe { *op.0 = value };
    }
    let nest = Nest::new(out.shape(), [out.strides()]);
    let [step] = nest.inner_strides();
    par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
        nest.runs(range, &mut |[offset], len| {
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

/// The first element as an unsigned integer of its size; the array is not empty.
pub(super) fn first<W: Copy>(x: &Array) -> W {
    debug_assert!(x.numel() > 0);
    // SAFETY: as above; any bytes are such an integer.
    unsafe { *x.as_words::<W>() }
}
