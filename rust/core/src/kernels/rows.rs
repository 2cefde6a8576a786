//! What kernels over the rows of a matrix share: float arithmetic, sums in lanes, rows as tasks.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::map::Shared;
use super::math::{exp_or_zero32, Real};
use crate::dtype::Element;
use crate::simd::Isa;

/// Elements per task where each costs an `exp`: set by `benches/kernels.rs` (exp of 1 Mi).
pub(super) const GRAIN: usize = 4 * 1024;
/// Independent partial sums: four AVX2 registers of f32.
const LANES: usize = 32;
/// Elements that one set of lanes takes before its sum joins a float64 total.
const BLOCK: usize = 2048;

/// f32 or f64: [`Real`] with the instruction set as a parameter of the methods.
pub trait Float:
    Element
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// e to the power of `self`.
    fn exp<I: Isa>(self) -> Self;
    /// The same of a number that is not above 0, or hardly: less work; below the normal numbers the result is 0.
    fn exp_negative<I: Isa>(self) -> Self;
    /// Natural logarithm.
    fn ln<I: Isa>(self) -> Self;
    /// `1 / (1 + exp(-self))`.
    fn sigmoid<I: Isa>(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh<I: Isa>(self) -> Self;
}

macro_rules! float {
    ($($type:ty: $exp_negative:path),+) => {
        $(impl Float for $type {
            #[inline(always)]
            fn exp<I: Isa>(self) -> Self {
                Real::<I>::exp(self)
            }
            #[inline(always)]
            fn exp_negative<I: Isa>(self) -> Self {
                $exp_negative(self)
            }
            #[inline(always)]
            fn ln<I: Isa>(self) -> Self {
                Real::<I>::ln(self)
            }
            #[inline(always)]
            fn sigmoid<I: Isa>(self) -> Self {
                Real::<I>::sigmoid(self)
            }
            #[inline(always)]
            fn tanh<I: Isa>(self) -> Self {
                Real::<I>::tanh(self)
            }
        })+
    };
}
float!(f32: exp_or_zero32::<I>, f64: Real::<I>::exp);

/// The sum in the order of the values. Rust's own sum of no floats is -0, that of PyTorch 0.
pub(crate) fn total(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// Joins the lanes as a tree.
#[inline(always)]
fn join<T: Copy>(mut lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of `f` over the elements of `xs`, which are of one length.
///
/// The order of additions depends on that length alone. Blocks are summed in `T`, their sums in float64.
#[inline(always)]
pub(super) fn sum_of<T: Float, const N: usize>(xs: [&[T]; N], f: impl Fn([T; N]) -> T) -> f64 {
    let len = xs[0].len();
    assert!(xs.iter().all(|x| x.len() == len));
    // SAFETY: callers pass indices below `len`, the length of every slice.
    let at = |i: usize| f(std::array::from_fn(|n| unsafe { *xs[n].get_unchecked(i) }));
    let mut total = 0.0;
    for start in (0..len).step_by(BLOCK) {
        let end = len.min(start + BLOCK);
        let mut lanes = [T::default(); LANES];
        let mut i = start;
        while i + LANES <= end {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum += at(i + lane);
            }
            i += LANES;
        }
        // The rest goes through an array of its own: an index that varies would keep `lanes` in memory.
        let mut rest = [T::default(); LANES];
        for (lane, rest) in rest[..end - i].iter_mut().enumerate() {
            *rest = at(i + lane);
        }
        for (sum, rest) in lanes.iter_mut().zip(rest) {
            *sum += rest;
        }
        total += join(lanes, |a, b| a + b).to_f64();
    }
    total
}

/// The largest element, nan left out; -inf if there is none.
#[inline(always)]
pub(super) fn max_of<T: Float>(x: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::from_f64(f64::NEG_INFINITY); LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (max, x) in lanes.iter_mut().zip(chunk) {
            *max = larger(*max, *x);
        }
    }
    let mut rest = [T::from_f64(f64::NEG_INFINITY); LANES];
    rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    for (max, rest) in lanes.iter_mut().zip(rest) {
        *max = larger(*max, rest);
    }
    join(lanes, larger)
}

/// The rows of a matrix that threads write, each its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowsMut<T> {
    start: Shared<T>,
    rows: usize,
    cols: usize,
}

impl<T> RowsMut<T> {
    /// `x` as rows of `cols` elements.
    pub(super) fn new(x: &mut [T], cols: usize) -> Self {
        Self { start: Shared(x.as_mut_ptr()), rows: x.len().checked_div(cols).unwrap_or(0), cols }
    }

    /// Row `row`.
    ///
    /// # Safety
    /// The slice given to `new` is still borrowed, and nobody else has this row.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn row(&self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: the row lies inside the slice; the caller promises that it is borrowed only once.
        unsafe { std::slice::from_raw_parts_mut(self.start.at((row * self.cols) as isize), self.cols) }
    }
}

/// Rows that are worth a task, where a row has `cols` elements.
pub(super) fn grain(cols: usize) -> usize {
    (GRAIN / cols.max(1)).max(1)
}
