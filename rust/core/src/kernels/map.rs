//! Element-wise loops over one, two or three inputs.
//!
//! A formula is a value whose `call` is compiled once per instruction set; the loops below give it
//! strides, threads and a vectorisable inner run. Callers have checked shapes and dtypes.

use super::nest::Nest;
use super::num::Num;
use crate::array::Array;
use crate::dtype::{Bool, DType, Element};
use crate::layout::Strides;
use crate::par;
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
    debug_assert_eq!(x.shape(), out.shape());
    let (xp, op) = (Shared(x.as_ptr::<T>()), Shared(out.as_ptr::<U>()));
    if out.numel() == 1 {
        return dispatch(MapRun { xp: xp.0, op: op.0, steps: [1, 1], len: 1, f });
    }
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
        // SAFETY: the nest stays inside both layouts; in place the types are equal.
        unsafe {
            if os == 1 && xs == 1 && xp.cast::<U>() == op && T::DTYPE == U::DTYPE {
                in_place::<I, T, U, F>(std::slice::from_raw_parts_mut(op.cast::<T>(), len), f);
            } else if os == 1 && xs == 1 {
                (0..len).for_each(|i| *op.add(i) = f.call::<I>(*xp.add(i)));
            } else {
                (0..len as isize).for_each(|i| *op.offset(i * os) = f.call::<I>(*xp.offset(i * xs)));
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
    // SAFETY: the types are equal.
    let put = |x: &mut T, value: U| unsafe { *std::ptr::from_mut(x).cast::<U>() = value };
    if x.len() < PIECE {
        return x.iter_mut().for_each(|x| put(x, f.call::<I>(*x)));
    }
    let mut copy = [T::default(); PIECE];
    for piece in x.chunks_mut(PIECE) {
        let copy = &mut copy[..piece.len()];
        copy.copy_from_slice(piece);
        piece.iter_mut().zip(copy.iter()).for_each(|(x, &value)| put(x, f.call::<I>(value)));
    }
}

/// `out[i] = f(a[i], b[i])`; both inputs have been broadcast to `out`'s shape (stride 0), or are 0-d.
pub fn zip<T: Element, U: Element, F: Binary<T, U>>(a: &Array, b: &Array, out: &Array, f: F) {
    debug_assert!([a, b].iter().all(|x| x.rank() == 0 || x.shape() == out.shape()));
    let (ap, bp) = (Shared(a.as_ptr::<T>()), Shared(b.as_ptr::<T>()));
    let op = Shared(out.as_ptr::<U>());
    if out.numel() == 1 {
        let (steps, row_steps) = ([1, 1, 1], [0, 0, 0]);
        dispatch(ZipRows { ap: ap.0, bp: bp.0, op: op.0, steps, len: 1, rows: 1, row_steps, f });
        return;
    }
    let still = Strides::from_elem(0, out.rank());
    let [a_strides, b_strides] = [a, b].map(|x| if x.rank() == 0 { still.as_slice() } else { x.strides() });
    let nest = Nest::new(out.shape(), [out.strides(), a_strides, b_strides]);
    let (steps, row_steps) = (nest.inner_strides(), nest.row_strides());
    par::for_each_chunk(out.numel(), F::GRAIN, |range| {
        let mut run = |[o, a, b]: [isize; 3], len, rows| {
            dispatch(ZipRows { ap: ap.at(a), bp: bp.at(b), op: op.at(o), steps, len, rows, row_steps, f });
        };
        if in_planes::<T, U, F>() {
            nest.planes(range, &mut run);
        } else {
            nest.runs(range, &mut |offsets, len| run(offsets, len, 1));
        }
    });
}

/// Whether the kernel of `zip` goes from run to run by itself: 1000 x 1000 plus a row takes 66 microseconds then, not
/// 81. For other dtypes it would add a third of a megabyte to the library.
const fn in_planes<T: Element, U, F: Binary<T, U>>() -> bool {
    matches!(T::DTYPE, DType::F32) && !F::ALIKE
}

/// Runs of `zip` that follow each other.
struct ZipRows<T, U, F> {
    ap: *const T,
    bp: *const T,
    op: *mut U,
    steps: [isize; 3],
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
        // SAFETY: the nest stays inside all three layouts; in place the types are equal.
        unsafe {
            let is_taken = !F::ALIKE || steps[2] == 1 && ap != bp;
            if is_taken && steps[0] == 1 && steps[1] == 1 && ap.cast::<U>() == op && T::DTYPE == U::DTYPE {
                // In place: as one slice, for the compiler cannot vectorise a loop over two that overlap.
                let target = std::slice::from_raw_parts_mut(op.cast::<T>(), len);
                let put = |x: &mut T, value: U| *std::ptr::from_mut(x).cast::<U>() = value;
                match steps[2] {
                    1 if !F::ALIKE && bp == ap => target.iter_mut().for_each(|x| put(x, f.call::<I>(*x, *x))),
                    1 => {
                        let b = std::slice::from_raw_parts(bp, len);
                        target.iter_mut().zip(b).for_each(|(x, &b)| put(x, f.call::<I>(*x, b)));
                    }
                    0 if !F::ALIKE => {
                        let b = *bp;
                        target.iter_mut().for_each(|x| put(x, f.call::<I>(*x, b)));
                    }
                    sb => target
                        .iter_mut()
                        .enumerate()
                        .for_each(|(i, x)| put(x, f.call::<I>(*x, *bp.offset(i as isize * sb)))),
                }
                return;
            }
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
    debug_assert!([condition, a, b].iter().all(|x| x.shape() == out.shape()));
    let nest = Nest::new(out.shape(), [out.strides(), condition.strides(), a.strides(), b.strides()]);
    let (ap, bp) = (Shared(a.as_ptr::<T>()), Shared(b.as_ptr::<T>()));
    let (cp, op) = (Shared(condition.as_ptr::<Bool>()), Shared(out.as_ptr::<T>()));
    let steps = nest.inner_strides();
    par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
        nest.runs(range, &mut |[o, c, a, b], len| {
            dispatch(SelectRun { cp: cp.at(c), ap: ap.at(a), bp: bp.at(b), op: op.at(o), steps, len });
        });
    });
}

/// One run of `select`.
struct SelectRun<T> {
    cp: *const Bool,
    ap: *const T,
    bp: *const T,
    op: *mut T,
    steps: [isize; 4],
    len: usize,
}

impl<T: Element> Kernel for SelectRun<T> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { cp, ap, bp, op, steps, len } = self;
        // SAFETY: the nest stays inside all four layouts.
        unsafe {
            // A blend of both, and not a branch that reads one of them: an `if` becomes that.
            let pick = |c: Bool, a: T, b: T| select_unpredictable(c.get(), a, b);
            if steps == [1, 1, 0, 1] && bp.cast_mut() == op {
                // In place: as one slice, for the compiler cannot vectorise a loop over two that overlap.
                let (target, conditions, a) =
                    (std::slice::from_raw_parts_mut(op, len), std::slice::from_raw_parts(cp, len), *ap);
                target.iter_mut().zip(conditions).for_each(|(x, &c)| *x = pick(c, a, *x));
                return;
            }
            match steps {
                [1, 1, 1, 1] => {
                    (0..len).for_each(|i| *op.add(i) = pick(*cp.add(i), *ap.add(i), *bp.add(i)));
                }
                [1, 1, 1, 0] => {
                    let b = *bp;
                    (0..len).for_each(|i| *op.add(i) = pick(*cp.add(i), *ap.add(i), b));
                }
                [1, 1, 0, 1] => {
                    let a = *ap;
                    (0..len).for_each(|i| *op.add(i) = pick(*cp.add(i), a, *bp.add(i)));
                }
                [os, cs, sa, sb] => (0..len as isize).for_each(|i| {
                    *op.offset(i * os) = pick(*cp.offset(i * cs), *ap.offset(i * sa), *bp.offset(i * sb));
                }),
            }
        }
    }
}

/// `out[i] = a[i] + weight[i] (b[i] - a[i])`, from the nearer end as PyTorch computes it; all inputs have been
/// broadcast to `out`'s shape.
pub fn lerp<T: Num>(a: &Array, b: &Array, weight: &Array, out: &Array) {
    debug_assert!([a, b, weight].iter().all(|x| x.shape() == out.shape()));
    let nest = Nest::new(out.shape(), [out.strides(), a.strides(), b.strides(), weight.strides()]);
    let (ap, bp) = (Shared(a.as_ptr::<T>()), Shared(b.as_ptr::<T>()));
    let (wp, op) = (Shared(weight.as_ptr::<T>()), Shared(out.as_ptr::<T>()));
    let steps = nest.inner_strides();
    par::for_each_chunk(out.numel(), GRAIN_CHEAP, |range| {
        nest.runs(range, &mut |[o, a, b, w], len| {
            dispatch(LerpRun { ap: ap.at(a), bp: bp.at(b), wp: wp.at(w), op: op.at(o), steps, len });
        });
    });
}

/// One run of `lerp`.
struct LerpRun<T> {
    ap: *const T,
    bp: *const T,
    wp: *const T,
    op: *mut T,
    steps: [isize; 4],
    len: usize,
}

impl<T: Num> Kernel for LerpRun<T> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { ap, bp, wp, op, steps, len } = self;
        let half = T::from_f64(0.5);
        let between = |a: T, b: T, weight: T| {
            let step = b.sub(a);
            let (near, far) = (a.add(weight.mul(step)), b.sub(step.mul(T::ONE.sub(weight))));
            select_unpredictable(weight.abs() < half, near, far)
        };
        // SAFETY: the nest stays inside all four layouts.
        unsafe {
            match steps {
                [1, 1, 1, 1] => {
                    (0..len).for_each(|i| *op.add(i) = between(*ap.add(i), *bp.add(i), *wp.add(i)));
                }
                [os, sa, sb, sw] => (0..len as isize).for_each(|i| {
                    *op.offset(i * os) = between(*ap.offset(i * sa), *bp.offset(i * sb), *wp.offset(i * sw));
                }),
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
