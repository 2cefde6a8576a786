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
        if contiguous {
            let out = op.at((range.start * item) as isize);
            return dispatch(TakeRun { x: xp.0, offsets: &offsets[range], item, out });
        }
        for b in range {
            let (from, to) = (xp.at(offsets[b] as isize), op.at((b * item) as isize));
            nest.runs(0..item, &mut |[start, offset], len| {
                for j in 0..len as isize {
                    // SAFETY: `take`'s callers check the offsets; `out` has `item` elements per offset (asserted).
                    unsafe { *to.offset(start + j * to_step) = *from.offset(offset + j * step) };
                }
            });
        }
    });
}

/// Items without gaps.
struct TakeRun<'a, W> {
    x: *const W,
    offsets: &'a [i64],
    item: usize,
    out: *mut W,
}

impl<W: Copy> Kernel for TakeRun<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { x, offsets, item, out } = self;
        let places = offsets.iter().enumerate();
        // SAFETY: `take`'s callers check the offsets; `out` has `item` elements per offset.
        unsafe {
            if item == 1 {
                places.for_each(|(b, &offset)| *out.add(b) = *x.offset(offset as isize));
            } else {
                places.for_each(|(b, &offset)| copy_run(x.offset(offset as isize), out.add(b * item), item));
            }
        }
    }
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

/// A type of indices.
trait IndexElement: Copy + Send + Sync {
    /// The position; of a negative index one that no dim has.
    fn position(self) -> u64;
}
impl IndexElement for i64 {
    #[inline(always)]
    fn position(self) -> u64 {
        self as u64
    }
}
impl IndexElement for i32 {
    #[inline(always)]
    fn position(self) -> u64 {
        i64::from(self) as u64
    }
}

/// The expression with `$index` bound to the type of indices, int32 or int64.
macro_rules! by_index {
    ($dtype:expr, $index:ident => $body:expr) => {
        if $dtype == DType::I32 {
            type $index = i32;
            $body
        } else {
            type $index = i64;
            $body
        }
    };
}

/// The contiguous int64 `index` as int32, which takes half of the memory; whether all of it are positions of a dim of
/// `extent`, which int32 holds.
#[must_use]
pub fn narrow(index: &Array, extent: usize, out: &Array) -> bool {
    assert!(index.is_contiguous() && out.is_contiguous() && index.numel() == out.numel());
    assert!(extent <= i32::MAX as usize);
    let (index, op) = (index.slice::<i64>(), Shared(out.as_ptr::<i32>()));
    let is_wrong = AtomicBool::new(false);
    par::for_each_chunk(index.len(), GRAIN_CHEAP, |range| {
        let out = op.at(range.start as isize);
        if !dispatch(Narrow { index: &index[range], extent: extent as u64, out }) {
            is_wrong.store(true, Ordering::Relaxed);
        }
    });
    !is_wrong.into_inner()
}

/// One run of [`narrow`].
struct Narrow<'a> {
    index: &'a [i64],
    extent: u64,
    out: *mut i32,
}

impl Kernel for Narrow<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let mut is_right = true;
        for (j, &index) in self.index.iter().enumerate() {
            is_right &= (index as u64) < self.extent;
            // SAFETY: `out` has an element for each index.
            unsafe { *self.out.add(j) = index as i32 };
        }
        is_right
    }
}

/// `out[i] = x[.., index[i], ..]` along `dim`; shapes are those of `index`, an int32 or int64 array that may lie
/// anyhow. Whether all of its indices are positions of the dim; if not, some elements are not written.
#[must_use]
pub fn gather(x: &Array, dim: usize, index: &Array, out: &Array) -> bool {
    assert!(out.shape() == index.shape() && x.rank() == index.rank() && x.shape()[dim] > 0);
    by_index!(index.dtype(), X => by_size!(x.dtype(), W => gather_words::<W, X>(x, dim, index, out)))
}

fn gather_words<W: Copy, X: IndexElement + Element>(
    x: &Array,
    dim: usize,
    index: &Array,
    out: &Array,
) -> bool {
    let (along, last) = (x.strides()[dim], x.shape()[dim] as u64 - 1);
    let nest = Nest::new(index.shape(), [out.strides(), index.strides(), &without(x.strides(), dim)]);
    let steps = nest.inner_strides();
    let (op, ip, xp) = (Shared(out.as_words::<W>()), Shared(index.as_ptr::<X>()), Shared(x.as_words::<W>()));
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
struct GatherRun<W, X> {
    out: *mut W,
    index: *const X,
    x: *const W,
    steps: [isize; 3],
    len: usize,
    along: isize,
    /// The last position.
    last: u64,
}

impl<W: Copy, X: IndexElement> Kernel for GatherRun<W, X> {
    const WIDE: bool = false;
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let Self { out, index, x, steps: [os, is, xs], len, along, last } = self;
        // Each position is compared when it is used. The branch is foretold, so it costs nothing; comparing blocks of
        // positions with vectors first takes half as long again, and AVX-512's gathers are no faster.
        //
        // SAFETY: the nest stays inside `out` and `index`; positions are checked.
        unsafe {
            match (os, is, xs, along) {
                (1, 0, 1, _) => {
                    let at = (*index).position();
                    if at > last {
                        return false;
                    }
                    copy_run(x.offset(at as isize * along), out, len);
                }
                (1, 1, 0, 1) => {
                    // By four, which the compiler does not do where a loop has two ends.
                    let whole = len - len % 4;
                    for j in (0..whole).step_by(4) {
                        for j in j..j + 4 {
                            let at = (*index.add(j)).position();
                            if at > last {
                                return false;
                            }
                            *out.add(j) = *x.add(at as usize);
                        }
                    }
                    for j in whole..len {
                        let at = (*index.add(j)).position();
                        if at > last {
                            return false;
                        }
                        *out.add(j) = *x.add(at as usize);
                    }
                }
                _ => {
                    for j in 0..len as isize {
                        let at = (*index.offset(j * is)).position();
                        if at > last {
                            return false;
                        }
                        *out.offset(j * os) = *x.offset(j * xs + at as isize * along);
                    }
                }
            }
        }
        true
    }
}

/// `out[.., index[i], ..] = src[i]` along `dim`, or `+=`, where indices coincide one after the other. Indices as for
/// [`gather`]; where some are wrong, some elements of `src` are not written.
#[must_use]
pub fn scatter(out: &Array, dim: usize, index: &Array, src: &Array, accumulate: bool) -> bool {
    assert!(src.shape() == index.shape() && out.rank() == index.rank() && out.shape()[dim] > 0);
    if accumulate {
        return dispatch_all!(out.dtype(), T => by_index!(index.dtype(), X => {
            scatter_with::<T, X>(out.as_ptr(), src.as_ptr(), [out, index, src], dim, add::<T>)
        }));
    }
    by_size!(out.dtype(), W => by_index!(index.dtype(), X => {
        scatter_with::<W, X>(out.as_words(), src.as_words(), [out, index, src], dim, |_, value| value)
    }))
}

/// Threads share the positions of another dim, the first or the last: what is written through one of these is written
/// by one thread.
fn scatter_with<T: Copy, X: IndexElement + Element>(
    out: *mut T,
    src: *mut T,
    [to, index, from]: [&Array; 3],
    dim: usize,
    join: impl Fn(T, T) -> T + Copy + Sync,
) -> bool {
    let (along, last) = (to.strides()[dim], to.shape()[dim] as u64 - 1);
    let shared = if dim > 0 { 0 } else { index.rank() - 1 };
    let (count, grain) = match index.shape()[shared] {
        _ if shared == dim => (1, 1), // a vector
        extent => {
            let least = if dim > 0 { 1 } else { MIN_COLUMNS };
            (extent, (GRAIN_CHEAP * extent / index.numel().max(1)).max(least))
        }
    };
    let (op, ip, sp) = (Shared(out), Shared(index.as_ptr::<X>()), Shared(src));
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
        nest.runs(0..nest.numel(), &mut |[i, s, o], len| {
            let (index, src, out) = (ip.at(start(index) + i), sp.at(start(from) + s), op.at(start(to) + o));
            if !dispatch(ScatterRun { index, src, out, steps, len, along, last, join }) {
                is_wrong.store(true, Ordering::Relaxed);
            }
        });
    });
    !is_wrong.into_inner()
}

/// One run of `scatter`.
struct ScatterRun<T, X, F> {
    index: *const X,
    src: *const T,
    out: *mut T,
    steps: [isize; 3],
    len: usize,
    along: isize,
    last: u64,
    join: F,
}

impl<T: Copy, X: IndexElement, F: Fn(T, T) -> T> Kernel for ScatterRun<T, X, F> {
    const WIDE: bool = false;
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let Self { index, src, out, steps: [is, ss, os], len, along, last, join } = self;
        // SAFETY: the nest stays inside all three; positions are checked.
        unsafe {
            if (is, ss, os, along) == (1, 1, 0, 1) {
                let write = |j: usize| {
                    let at = (*index.add(j)).position();
                    if at > last {
                        return false;
                    }
                    let slot = out.add(at as usize);
                    *slot = join(*slot, *src.add(j));
                    true
                };
                // By four, as for `gather`.
                let whole = len - len % 4;
                return (0..whole)
                    .step_by(4)
                    .all(|j| write(j) && write(j + 1) && write(j + 2) && write(j + 3))
                    && (whole..len).all(write);
            }
            for j in 0..len as isize {
                let at = (*index.offset(j * is)).position();
                if at > last {
                    return false;
                }
                let slot = out.offset(j * os + at as isize * along);
                *slot = join(*slot, *src.offset(j * ss));
            }
        }
        true
    }
}
