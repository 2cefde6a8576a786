//! Element-wise loops over one, two or three inputs.
//!
//! A formula is a value whose `call` is compiled once per instruction set; the loops below give it
//! strides, threads and a vectorisable inner run. Callers have checked shapes and dtypes.

use super::nest::Nest;
use crate::array::Array;
use crate::dtype::Element;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// Elements per task for formulas of a few instructions: set by `benches/kernels.rs` (add of 1 Mi).
pub const GRAIN_CHEAP: usize = 32 * 1024;
/// Elements per task for transcendental formulas: set by `benches/kernels.rs` (exp of 1 Mi).
pub const GRAIN_COSTLY: usize = 4 * 1024;

/// `U` from one `T`.
pub trait Unary<T, U>: Copy + Send + Sync {
    /// Elements that are worth a task of their own.
    const GRAIN: usize = GRAIN_CHEAP;
    /// Whether the formula is long enough for AVX-512 to pay (see [`Kernel::WIDE`]).
    const WIDE: bool = false;
    /// The formula. Mark it `#[inline(always)]`.
    fn call<I: Isa>(self, x: T) -> U;
}

/// `U` from two `T`.
pub trait Binary<T, U>: Copy + Send + Sync {
    /// Elements that are worth a task of their own.
    const GRAIN: usize = GRAIN_CHEAP;
    /// Whether the formula is long enough for AVX-512 to pay (see [`Kernel::WIDE`]).
    const WIDE: bool = false;
    /// The formula. Mark it `#[inline(always)]`.
    fn call<I: Isa>(self, a: T, b: T) -> U;
}

/// A plain function as a formula.
#[derive(Debug, Clone, Copy)]
pub struct Plain<F>(pub F);

impl<T, U, F: Fn(T) -> U + Copy + Send + Sync> Unary<T, U> for Plain<F> {
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> U {
        (self.0)(x)
    }
}

impl<T, U, F: Fn(T, T) -> U + Copy + Send + Sync> Binary<T, U> for Plain<F> {
    #[inline(always)]
    fn call<I: Isa>(self, a: T, b: T) -> U {
        (self.0)(a, b)
    }
}

/// A pointer that may cross threads; the loops give each thread elements of its own.
#[derive(Debug)]
pub(crate) struct Shared<T>(pub(crate) *mut T);
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}
// SAFETY: tasks write disjoint output elements and only read inputs.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer, `steps` elements on.
    #[inline(always)]
    pub(crate) fn at(self, steps: isize) -> *mut T {
        self.0.wrapping_offset(steps)
    }
}

/// `out[i] = f(x[i])`; `x` has `out`'s shape.
pub fn map<T: Element, U: Element, F: Unary<T, U>>(x: &Array, out: &Array, f: F) {
    debug_assert_eq!(x.shape(), out.shape());
    let (xp, op) = (Shared(x.as_ptr::<T>()), Shared(out.as_ptr::<U>()));
    let nest = Nest::new(out.shape(), [out.strides(), x.strides()]);
    let steps = nest.inner_strides();
    par::for_each_chunk(out.numel(), F::GRAIN, |range| {
        nest.runs(range, &mut |[o, x], len| {
            dispatch(MapRun { xp: xp.at(x), op: op.at(o), steps, len, f });
        });
    });
}

/// One run of `map`.
struct MapRun<T, U, F> {
    xp: *const T,
    op: *mut U,
    steps: [isize; 2],
    len: usize,
    f: F,
}

impl<T: Element, U: Element, F: Unary<T, U>> Kernel for MapRun<T, U, F> {
    const WIDE: bool = F::WIDE;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { xp, op, steps: [os, xs], len, f } = self;
        // SAFETY: the nest stays inside both layouts.
        unsafe {
            if os == 1 && xs == 1 {
                (0..len).for_each(|i| *op.add(i) = f.call::<I>(*xp.add(i)));
            } else {
                (0..len as isize).for_each(|i| *op.offset(i * os) = f.call::<I>(*xp.offset(i * xs)));
            }
        }
    }
}

/// `out[i] = f(a[i], b[i])`; both inputs have been broadcast to `out`'s shape (stride 0).
pub fn zip<T: Element, U: Element, F: Binary<T, U>>(a: &Array, b: &Array, out: &Array, f: F) {
    debug_assert!(a.shape() == out.shape() && b.shape() == out.shape());
    let (ap, bp) = (Shared(a.as_ptr::<T>()), Shared(b.as_ptr::<T>()));
    let op = Shared(out.as_ptr::<U>());
    if out.numel() == 1 {
        dispatch(ZipRun { ap: ap.0, bp: bp.0, op: op.0, steps: [1, 1, 1], len: 1, f });
        return;
    }
    let nest = Nest::new(out.shape(), [out.strides(), a.strides(), b.strides()]);
    let steps = nest.inner_strides();
    par::for_each_chunk(out.numel(), F::GRAIN, |range| {
        nest.runs(range, &mut |[o, a, b], len| {
            dispatch(ZipRun { ap: ap.at(a), bp: bp.at(b), op: op.at(o), steps, len, f });
        });
    });
}

/// One run of `zip`.
struct ZipRun<T, U, F> {
    ap: *const T,
    bp: *const T,
    op: *mut U,
    steps: [isize; 3],
    len: usize,
    f: F,
}

impl<T: Element, U: Element, F: Binary<T, U>> Kernel for ZipRun<T, U, F> {
    const WIDE: bool = F::WIDE;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { ap, bp, op, steps, len, f } = self;
        // SAFETY: the nest stays inside all three layouts.
        unsafe {
            match steps {
                [1, 1, 1] => (0..len).for_each(|i| *op.add(i) = f.call::<I>(*ap.add(i), *bp.add(i))),
                [1, 1, 0] => {
                    let b = *bp;
                    (0..len).for_each(|i| *op.add(i) = f.call::<I>(*ap.add(i), b));
                }
                [1, 0, 1] => {
                    let a = *ap;
                    (0..len).for_each(|i| *op.add(i) = f.call::<I>(a, *bp.add(i)));
                }
                [os, sa, sb] => (0..len as isize).for_each(|i| {
                    *op.offset(i * os) = f.call::<I>(*ap.offset(i * sa), *bp.offset(i * sb));
                }),
            }
        }
    }
}

/// `out[i] = condition[i] ? a[i] : b[i]`; all inputs have been broadcast to `out`'s shape.
pub fn select<T: Element>(condition: &Array, a: &Array, b: &Array, out: &Array) {
    let nest = Nest::new(out.shape(), [out.strides(), condition.strides(), a.strides(), b.strides()]);
    let (ap, bp) = (Shared(a.as_ptr::<T>()), Shared(b.as_ptr::<T>()));
    let (cp, op) = (Shared(condition.as_ptr::<bool>()), Shared(out.as_ptr::<T>()));
    let [os, cs, sa, sb] = nest.inner_strides();
    par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
        nest.runs(range, &mut |[o, c, a, b], len| {
            let (op, cp, ap, bp) = (op.at(o), cp.at(c), ap.at(a), bp.at(b));
            for i in 0..len as isize {
                // SAFETY: the nest stays inside all four layouts.
                unsafe {
                    let (x, y) = (*ap.offset(i * sa), *bp.offset(i * sb));
                    *op.offset(i * os) = if *cp.offset(i * cs) { x } else { y };
                }
            }
        });
    });
}
