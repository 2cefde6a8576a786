//! Element-wise loops over one, two or three inputs.
//!
//! A formula is a value whose `call` is compiled once per instruction set; the loops below give it
//! strides, threads and a vectorisable inner run. Callers have checked shapes and dtypes.

use super::num::Num;
use super::tiles::{for_each_run, Runs};
use crate::array::Array;
use crate::dtype::{Bool, DType, Element};
use crate::simd::{dispatch, Isa, Kernel};
use std::hint::select_unpredictable;

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
    /// Whether the operands are nearly always as large as the result, as in losses and their gradients: the loops for
    /// rows and numbers in place are left out then (all such formulas: 0.2 MB of the library).
    const ALIKE: bool = false;
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
    debug_assert!(x.shape() == out.shape() && x.dtype() == T::DTYPE && out.dtype() == U::DTYPE);
    if out.numel() == 1 {
        return dispatch(MapRun { xp: x.as_ptr::<T>(), op: out.as_ptr::<U>(), len: 1, f });
    }
    for_each_run([out, x], F::GRAIN, &[], &|runs| {
        runs.each([U::DTYPE, T::DTYPE], |[op, xp]| {
            dispatch(MapRun { xp: xp.cast::<T>(), op: op.cast::<U>(), len: runs.len, f });
        });
    });
}

/// One run of `map`.
struct MapRun<T, U, F> {
    xp: *const T,
    op: *mut U,
    len: usize,
    f: F,
}

impl<T: Element, U: Element, F: Unary<T, U>> Kernel for MapRun<T, U, F> {
    const WIDE: bool = F::WIDE;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { xp, op, len, f } = self;
        // SAFETY: runs stay inside both layouts; in place the types are equal.
        unsafe {
            if xp.cast::<U>() == op && T::DTYPE == U::DTYPE {
                return in_place::<I, T, U, F>(std::slice::from_raw_parts_mut(op.cast::<T>(), len), f);
            }
            for i in 0..len {
                *op.add(i) = f.call::<I>(*xp.add(i));
            }
        }
    }
}

/// Elements that [`in_place`] copies at a time.
const PIECE: usize = 64;

/// `x[i] = f(x[i])`, where `T` and `U` are one type.
///
/// The compiler cannot vectorise a loop over two slices that overlap. Nor does it where a formula may return its
/// argument, as `relu` does, for then it stores only some elements; so pieces are read from a copy.
#[inline(always)]
fn in_place<I: Isa, T: Element, U: Element, F: Unary<T, U>>(x: &mut [T], f: F) {
    debug_assert_eq!(T::DTYPE, U::DTYPE);
    if x.len() < PIECE {
        for x in x {
            put(x, f.call::<I>(*x));
        }
        return;
    }
    let mut copy = [T::default(); PIECE];
    for piece in x.chunks_mut(PIECE) {
        let copy = &mut copy[..piece.len()];
        copy.copy_from_slice(piece);
        for (x, &value) in piece.iter_mut().zip(copy.iter()) {
            put(x, f.call::<I>(value));
        }
    }
}

/// `x = value`, where `T` and `U` are one type.
#[inline(always)]
fn put<T: Element, U: Element>(x: &mut T, value: U) {
    debug_assert_eq!(T::DTYPE, U::DTYPE);
    // SAFETY: the types are equal.
    unsafe { *std::ptr::from_mut(x).cast::<U>() = value };
}

/// `out[i] = f(a[i], b[i])`; both inputs have been broadcast to `out`'s shape (stride 0), or are 0-d.
pub fn zip<T: Element, U: Element, F: Binary<T, U>>(a: &Array, b: &Array, out: &Array, f: F) {
    debug_assert!([a, b].iter().all(|x| x.rank() == 0 || x.shape() == out.shape()));
    debug_assert!(a.dtype() == T::DTYPE && b.dtype() == T::DTYPE && out.dtype() == U::DTYPE);
    if out.numel() == 1 {
        let (ap, bp, op) = (a.as_ptr::<T>(), b.as_ptr::<T>(), out.as_ptr::<U>());
        dispatch(ZipRows { ap, bp, op, steps: [1, 1], len: 1, rows: 1, row_steps: [0; 3], f });
        return;
    }
    for_each_run([out, a, b], F::GRAIN, &[[1, 1, 0], [1, 0, 1]], &|runs| {
        let Runs { steps: [_, sa, sb], len, rows, row_steps, .. } = runs;
        let zip = |[op, ap, bp]: [*mut u8; 3], rows| {
            let (op, ap, bp) = (op.cast::<U>(), ap.cast::<T>(), bp.cast::<T>());
            dispatch(ZipRows { ap, bp, op, steps: [sa, sb], len, rows, row_steps, f });
        };
        if in_planes::<T, U, F>() {
            zip(runs.starts, rows);
        } else {
            runs.each([U::DTYPE, T::DTYPE, T::DTYPE], |starts| zip(starts, 1));
        }
    });
}

/// Whether the kernel of `zip` goes from run to run by itself: 1000 x 1000 plus a row takes 66 microseconds then, not
/// 81. For other dtypes it would add a third of a megabyte to the library.
const fn in_planes<T: Element, U, F: Binary<T, U>>() -> bool {
    matches!(T::DTYPE, DType::F32) && !F::ALIKE
}

/// Runs of `zip` that follow each other. Steps in a run are 1, one of them may be 0.
struct ZipRows<T, U, F> {
    ap: *const T,
    bp: *const T,
    op: *mut U,
    steps: [isize; 2],
    len: usize,
    rows: usize,
    row_steps: [isize; 3],
    f: F,
}

impl<T: Element, U: Element, F: Binary<T, U>> Kernel for ZipRows<T, U, F> {
    const WIDE: bool = F::WIDE;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        if !in_planes::<T, U, F>() {
            return self.row::<I>(self.op, self.ap, self.bp);
        }
        let [o, a, b] = self.row_steps;
        for row in 0..self.rows as isize {
            self.row::<I>(
                self.op.wrapping_offset(row * o),
                self.ap.wrapping_offset(row * a),
                self.bp.wrapping_offset(row * b),
            );
        }
    }
}

impl<T: Element, U: Element, F: Binary<T, U>> ZipRows<T, U, F> {
    #[inline(always)]
    fn row<I: Isa>(&self, op: *mut U, ap: *const T, bp: *const T) {
        let Self { steps, len, f, .. } = *self;
        let is_in_place = ap.cast::<U>() == op.cast_const() && T::DTYPE == U::DTYPE;
        // SAFETY: runs stay inside all three layouts; in place the types are equal.
        unsafe {
            if is_in_place && steps[0] == 1 && (!F::ALIKE || steps[1] == 1 && ap != bp) {
                // As one slice, for the compiler cannot vectorise a loop over two that overlap.
                let target = std::slice::from_raw_parts_mut(op.cast::<T>(), len);
                match steps[1] {
                    1 if !F::ALIKE && bp == ap => {
                        for x in target {
                            put(x, f.call::<I>(*x, *x));
                        }
                    }
                    0 if !F::ALIKE => {
                        let b = *bp;
                        for x in target {
                            put(x, f.call::<I>(*x, b));
                        }
                    }
                    _ => {
                        for (x, &b) in target.iter_mut().zip(std::slice::from_raw_parts(bp, len)) {
                            put(x, f.call::<I>(*x, b));
                        }
                    }
                }
                return;
            }
            match steps {
                [1, 0] => {
                    let b = *bp;
                    for i in 0..len {
                        *op.add(i) = f.call::<I>(*ap.add(i), b);
                    }
                }
                [0, 1] => {
                    let a = *ap;
                    for i in 0..len {
                        *op.add(i) = f.call::<I>(a, *bp.add(i));
                    }
                }
                _ => {
                    debug_assert_eq!(steps, [1, 1]);
                    for i in 0..len {
                        *op.add(i) = f.call::<I>(*ap.add(i), *bp.add(i));
                    }
                }
            }
        }
    }
}

/// `out[i] = condition[i] ? a[i] : b[i]`; all inputs have been broadcast to `out`'s shape.
pub fn select<T: Element>(condition: &Array, a: &Array, b: &Array, out: &Array) {
    debug_assert!([condition, a, b].iter().all(|x| x.shape() == out.shape()));
    debug_assert!(condition.dtype() == DType::Bool && [a, b, out].iter().all(|x| x.dtype() == T::DTYPE));
    for_each_run([out, condition, a, b], GRAIN_CHEAP, &[[1, 1, 1, 0], [1, 1, 0, 1]], &|runs| {
        let Runs { steps: [_, _, sa, sb], len, .. } = runs;
        runs.each([T::DTYPE, DType::Bool, T::DTYPE, T::DTYPE], |[op, cp, ap, bp]| {
            let (cp, ap, bp) = (cp.cast(), ap.cast(), bp.cast());
            dispatch(SelectRun { cp, ap, bp, op: op.cast::<T>(), steps: [sa, sb], len });
        });
    });
}

/// One run of `select`. Steps of `a` and `b` are 1, one of them may be 0.
struct SelectRun<T> {
    cp: *const Bool,
    ap: *const T,
    bp: *const T,
    op: *mut T,
    steps: [isize; 2],
    len: usize,
}

impl<T: Element> Kernel for SelectRun<T> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { cp, ap, bp, op, steps, len } = self;
        // A blend of both, and not a branch that reads one of them: an `if` becomes that.
        let pick = |c: Bool, a: T, b: T| select_unpredictable(c.get(), a, b);
        // SAFETY: runs stay inside all four layouts.
        unsafe {
            match steps {
                [0, 1] if bp.cast_mut() == op => {
                    // In place: as one slice, for the compiler cannot vectorise a loop over two that overlap.
                    let (target, conditions, a) =
                        (std::slice::from_raw_parts_mut(op, len), std::slice::from_raw_parts(cp, len), *ap);
                    for (x, &c) in target.iter_mut().zip(conditions) {
                        *x = pick(c, a, *x);
                    }
                }
                [1, 0] => {
                    let b = *bp;
                    for i in 0..len {
                        *op.add(i) = pick(*cp.add(i), *ap.add(i), b);
                    }
                }
                [0, 1] => {
                    let a = *ap;
                    for i in 0..len {
                        *op.add(i) = pick(*cp.add(i), a, *bp.add(i));
                    }
                }
                _ => {
                    debug_assert_eq!(steps, [1, 1]);
                    for i in 0..len {
                        *op.add(i) = pick(*cp.add(i), *ap.add(i), *bp.add(i));
                    }
                }
            }
        }
    }
}

/// `out[i] = a[i] + weight[i] (b[i] - a[i])`, from the nearer end as PyTorch computes it; all inputs have been
/// broadcast to `out`'s shape.
pub fn lerp<T: Num>(a: &Array, b: &Array, weight: &Array, out: &Array) {
    debug_assert!([a, b, weight].iter().all(|x| x.shape() == out.shape() && x.dtype() == T::DTYPE));
    for_each_run([out, a, b, weight], GRAIN_CHEAP, &[], &|runs| {
        runs.each([T::DTYPE; 4], |[op, ap, bp, wp]| {
            let (ap, bp, wp) = (ap.cast::<T>(), bp.cast(), wp.cast());
            dispatch(LerpRun { ap, bp, wp, op: op.cast(), len: runs.len });
        });
    });
}

/// One run of `lerp`.
struct LerpRun<T> {
    ap: *const T,
    bp: *const T,
    wp: *const T,
    op: *mut T,
    len: usize,
}

impl<T: Num> Kernel for LerpRun<T> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { ap, bp, wp, op, len } = self;
        let half = T::from_f64(0.5);
        for i in 0..len {
            // SAFETY: runs stay inside all four layouts.
            unsafe {
                let (a, b, weight) = (*ap.add(i), *bp.add(i), *wp.add(i));
                let step = b.sub(a);
                let (near, far) = (a.add(weight.mul(step)), b.sub(step.mul(T::ONE.sub(weight))));
                *op.add(i) = select_unpredictable(weight.abs() < half, near, far);
            }
        }
    }
}

/// A formula on float32 as one on a 16-bit float: converted, computed and rounded in one pass.
#[derive(Debug, Clone, Copy)]
pub struct Half<F>(pub F);

impl<T: Element, F: Binary<f32, f32>> Binary<T, T> for Half<F> {
    const GRAIN: usize = F::GRAIN;
    /// The conversions are what takes time; those of float16 are instructions of AVX2.
    const WIDE: bool = matches!(T::DTYPE, DType::BF16);
    #[inline(always)]
    fn call<I: Isa>(self, a: T, b: T) -> T {
        T::from_f32(self.0.call::<I>(a.to_f32(), b.to_f32()))
    }
}
