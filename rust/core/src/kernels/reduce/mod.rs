//! Reductions: rows, columns, and any pattern of kept and reduced dims, without transposed copies.
//!
//! [`plan`] takes a reduction to pieces: rows and columns of contiguous memory. Their loops are here, a pair for each
//! type of elements and each kind of fold; what comes before them does not know these types and is compiled once.

mod plan;
mod run;

pub(crate) use run::fold_run;

use super::map::Shared;
use super::num::Num;
use crate::array::Array;
use crate::dtype::{DType, Element};
use crate::simd::{dispatch, Isa, Kernel};
use crate::Result;
use plan::{ColumnsTask, Loops, RowsTask};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Rows that one set of columns takes before it is joined to the others.
const BLOCK_ROWS: usize = 64;

/// What an element contributes.
pub trait Load<T, A>: Copy + Send + Sync {
    /// The contribution. Mark it `#[inline(always)]`.
    fn load(self, x: T) -> A;
}

/// How contributions are joined: associative up to rounding.
pub trait Fold<A>: Copy + Send + Sync {
    /// The result of nothing.
    fn start(self) -> A;
    /// Two results as one. Mark it `#[inline(always)]`.
    fn join(self, a: A, b: A) -> A;
}

/// The element itself.
#[derive(Debug, Clone, Copy)]
pub struct Itself;
impl<T> Load<T, T> for Itself {
    #[inline(always)]
    fn load(self, x: T) -> T {
        x
    }
}

/// A plain function as a contribution.
#[derive(Debug, Clone, Copy)]
pub struct By<F>(pub F);
impl<T, A, F: Fn(T) -> A + Copy + Send + Sync> Load<T, A> for By<F> {
    #[inline(always)]
    fn load(self, x: T) -> A {
        (self.0)(x)
    }
}

/// Addition.
#[derive(Debug, Clone, Copy)]
pub struct Plus;
impl<A: Num> Fold<A> for Plus {
    fn start(self) -> A {
        A::ZERO
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        a.add(b)
    }
}

/// Multiplication.
#[derive(Debug, Clone, Copy)]
pub struct Times;
impl<A: Num> Fold<A> for Times {
    fn start(self) -> A {
        A::ONE
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        a.mul(b)
    }
}

/// The ends of a number type's range.
pub trait Bounds: Num {
    /// Not above any value.
    const LOWEST: Self;
    /// Not below any value.
    const HIGHEST: Self;
}

macro_rules! bounds {
    ($($type:ty: $low:expr, $high:expr;)*) => {
        $(impl Bounds for $type {
            const LOWEST: Self = $low;
            const HIGHEST: Self = $high;
        })*
    };
}
bounds! {
    u8: u8::MIN, u8::MAX;
    i32: i32::MIN, i32::MAX;
    i64: i64::MIN, i64::MAX;
    f32: f32::NEG_INFINITY, f32::INFINITY;
    f64: f64::NEG_INFINITY, f64::INFINITY;
}

/// The largest; NaN if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Largest;
impl<A: Bounds> Fold<A> for Largest {
    fn start(self) -> A {
        A::LOWEST
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        b.maximum(a) // of 0 and -0 the first, as in PyTorch
    }
}

/// The smallest; NaN if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Smallest;
impl<A: Bounds> Fold<A> for Smallest {
    fn start(self) -> A {
        A::HIGHEST
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        b.minimum(a)
    }
}

/// Reduces the dims that `mask` marks; the result has the others, in row-major order. An `x` of another dtype than `T`
/// is converted first.
pub fn reduce<T, A, L, F>(x: &Array, mask: &[bool], load: L, fold: F) -> Result<Array>
where
    T: Element,
    A: Element,
    L: Load<T, A>,
    F: Fold<A>,
{
    let first = Typed::<T, A, L, F> { load, fold, types: PhantomData };
    let later = Typed::<A, A, Itself, F> { load: Itself, fold, types: PhantomData };
    plan::reduce(x, mask, &first, &later)
}

/// The loops for elements of `T` and results of `A`.
struct Typed<T, A, L, F> {
    load: L,
    fold: F,
    types: PhantomData<fn(T) -> A>,
}

impl<T: Element, A: Element, L: Load<T, A>, F: Fold<A>> Loops for Typed<T, A, L, F> {
    fn dtypes(&self) -> [DType; 2] {
        [T::DTYPE, A::DTYPE]
    }

    fn nothing(&self, out: &mut Array) {
        out.slice_mut::<A>().fill(self.fold.start());
    }

    fn repeat(&self, out: &mut Array, times: usize) {
        for value in out.slice_mut::<A>() {
            *value = fold_times(*value, times, self.fold);
        }
    }

    fn rows(&self, task: RowsTask) {
        dispatch(Rows { load: self.load, fold: self.fold, task, types: self.types });
    }

    fn columns(&self, task: ColumnsTask) {
        dispatch(Columns { load: self.load, fold: self.fold, task, types: self.types });
    }
}

/// The fold of `times` equal values, by doubling.
fn fold_times<A: Element, F: Fold<A>>(value: A, mut times: usize, fold: F) -> A {
    let (mut result, mut power) = (fold.start(), value);
    while times > 0 {
        if times & 1 == 1 {
            result = fold.join(result, power);
        }
        power = fold.join(power, power);
        times >>= 1;
    }
    result
}

struct Rows<T, A, L, F> {
    load: L,
    fold: F,
    task: RowsTask,
    types: PhantomData<fn(T) -> A>,
}

impl<T: Element, A: Element, L: Load<T, A>, F: Fold<A>> Kernel for Rows<T, A, L, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let RowsTask { x, len, pieces, piece_len, range, out } = self.task;
        let (x, out) = (Shared(x.0.cast::<T>()), Shared(out.0.cast::<A>()));
        for task in range {
            let start = (task % pieces) * piece_len;
            let at = (task / pieces) * len + start;
            // SAFETY: the plan passes complete rows, and a result for each of their pieces.
            unsafe {
                let row = std::slice::from_raw_parts(x.at(at as isize), piece_len.min(len - start));
                *out.at(task as isize) = fold_run(row, self.load, self.fold);
            }
        }
    }
}

struct Columns<T, A, L, F> {
    load: L,
    fold: F,
    task: ColumnsTask,
    types: PhantomData<fn(T) -> A>,
}

impl<T: Element, A: Element, L: Load<T, A>, F: Fold<A>> Kernel for Columns<T, A, L, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (load, fold) = (self.load, self.fold);
        let ColumnsTask { x, from, rows, stride, width, out, to } = self.task;
        // SAFETY: the plan passes `width` results and rows that are inside the input.
        let out = unsafe { std::slice::from_raw_parts_mut(out.0.cast::<A>().add(to), width) };
        // SAFETY: as above.
        let row =
            |r: usize| unsafe { std::slice::from_raw_parts(x.0.cast::<T>().add(from + r * stride), width) };
        out.fill(fold.start());
        let mut buffer = [const { MaybeUninit::<A>::uninit() }; plan::TILE];
        // SAFETY: these are as good as the elements of any array, and are filled before they are read.
        let block = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<A>(), width) };
        let mut start = 0;
        while start < rows {
            let end = (start + BLOCK_ROWS).min(rows);
            block.fill(fold.start());
            let mut r = start;
            while r + 4 <= end {
                let (a, b, c, d) = (row(r), row(r + 1), row(r + 2), row(r + 3));
                for i in 0..width {
                    let ab = fold.join(load.load(a[i]), load.load(b[i]));
                    let cd = fold.join(load.load(c[i]), load.load(d[i]));
                    block[i] = fold.join(block[i], fold.join(ab, cd));
                }
                r += 4;
            }
            for r in r..end {
                for (acc, &x) in block.iter_mut().zip(row(r)) {
                    *acc = fold.join(*acc, load.load(x));
                }
            }
            for (out, &acc) in out.iter_mut().zip(block.iter()) {
                *out = fold.join(*out, acc);
            }
            start = end;
        }
    }
}
