//! Losses of two values: element-wise, or summed without an intermediate.

use super::map::{zip, Binary, Shared, GRAIN_COSTLY};
use super::math::Real;
use super::rows::{sum_of, total, Float};
use crate::array::Array;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::Range;

/// A loss of prediction `a` and target `b`.
pub trait PairFormula: Copy + Send + Sync + 'static {
    /// The loss.
    fn value<I: Isa, R: Real<I>>(self, a: R, b: R) -> R;
    /// Its derivative by the prediction.
    fn by_input<I: Isa, R: Real<I>>(self, a: R, b: R) -> R;
    /// Its derivative by the target.
    #[inline(always)]
    fn by_target<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        -self.by_input::<I, R>(a, b)
    }
}

/// `(a - b)^2`
#[derive(Debug, Clone, Copy)]
pub struct Squared;
/// `|a - b|`
#[derive(Debug, Clone, Copy)]
pub struct Absolute;
/// `factor d^2 / 2` where `|d| < reach` for `d = a - b`, beyond it the tangent there.
#[derive(Debug, Clone, Copy)]
pub struct Rounded {
    /// Curvature inside.
    pub factor: f64,
    /// Where the straight lines begin.
    pub reach: f64,
    /// Their slope, `factor * reach`: a number of its own, for that product may be 0 times infinity.
    pub limit: f64,
}
/// `-(b ln(a) + (1 - b) ln(1 - a))`, with logarithms of at least -100.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy;
/// [`CrossEntropy`] of `sigmoid(a)`.
#[derive(Debug, Clone, Copy)]
pub struct LogitsCrossEntropy;

impl PairFormula for Squared {
    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        (a - b) * (a - b)
    }
    #[inline(always)]
    fn by_input<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        (a - b) * R::of(2.0)
    }
}

impl PairFormula for Absolute {
    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        (a - b).abs()
    }
    #[inline(always)]
    fn by_input<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        (a - b).sign()
    }
}

impl PairFormula for Rounded {
    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        let (d, reach, half) = ((a - b).abs(), R::of(self.reach), R::of(0.5));
        let scaled = d * R::of(self.factor);
        if d < reach {
            half * d * scaled
        } else {
            R::of(self.limit) * (d - half * reach)
        }
    }
    #[inline(always)]
    fn by_input<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        let d = a - b;
        // Asked this way, nan lies inside and stays: its sign would be 0.
        if d.abs() >= R::of(self.reach) {
            d.sign() * R::of(self.limit)
        } else {
            d * R::of(self.factor)
        }
    }
}

/// The logarithms of `a` and `1 - a`, at least -100; nan stays.
#[inline(always)]
fn limited_logs<I: Isa, R: Real<I>>(a: R) -> (R, R) {
    let low = R::of(-100.0);
    (a.ln().maximum(low), (-a).log1p().maximum(low))
}

impl PairFormula for CrossEntropy {
    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        let (log, log_rest) = limited_logs::<I, R>(a);
        (b - R::of(1.0)) * log_rest - b * log
    }
    #[inline(always)]
    fn by_input<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        (a - b) / ((R::of(1.0) - a) * a).maximum(R::of(1e-12))
    }
    #[inline(always)]
    fn by_target<I: Isa, R: Real<I>>(self, a: R, _b: R) -> R {
        (-a).log1p() - a.ln()
    }
}

impl PairFormula for LogitsCrossEntropy {
    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        // `(1 - b) a - ln(sigmoid(a))`: infinite logits give what they give in PyTorch.
        (R::of(1.0) - b) * a + ((-a).maximum(R::of(0.0)) + (-a.abs()).exp().log1p())
    }
    #[inline(always)]
    fn by_input<I: Isa, R: Real<I>>(self, a: R, b: R) -> R {
        a.sigmoid() - b
    }
    #[inline(always)]
    fn by_target<I: Isa, R: Real<I>>(self, a: R, _b: R) -> R {
        -a
    }
}

/// What an element-wise loop writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The loss.
    Value,
    /// Its derivative by the prediction.
    ByInput,
    /// Its derivative by the target.
    ByTarget,
}

#[derive(Clone, Copy)]
struct Value<F>(F);
#[derive(Clone, Copy)]
struct ByInput<F, T>(F, T);
#[derive(Clone, Copy)]
struct ByTarget<F, T>(F, T);

macro_rules! formulas {
    ($type:ty) => {
        impl<F: PairFormula> Binary<$type, $type> for Value<F> {
            const GRAIN: usize = GRAIN_COSTLY;
            const WIDE: bool = true;
            const ALIKE: bool = true;
            #[inline(always)]
            fn call<I: Isa>(self, a: $type, b: $type) -> $type {
                self.0.value::<I, $type>(a, b)
            }
        }
        impl<F: PairFormula> Binary<$type, $type> for ByInput<F, $type> {
            const GRAIN: usize = GRAIN_COSTLY;
            const WIDE: bool = true;
            const ALIKE: bool = true;
            #[inline(always)]
            fn call<I: Isa>(self, a: $type, b: $type) -> $type {
                self.0.by_input::<I, $type>(a, b) * self.1
            }
        }
        impl<F: PairFormula> Binary<$type, $type> for ByTarget<F, $type> {
            const GRAIN: usize = GRAIN_COSTLY;
            const WIDE: bool = true;
            const ALIKE: bool = true;
            #[inline(always)]
            fn call<I: Isa>(self, a: $type, b: $type) -> $type {
                self.0.by_target::<I, $type>(a, b) * self.1
            }
        }
        impl PairFloat for $type {
            fn each<F: PairFormula>(f: F, wanted: Wanted, scale: f64, a: &Array, b: &Array, out: &Array) {
                let scale = scale as $type;
                match wanted {
                    Wanted::Value => zip::<$type, $type, _>(a, b, out, Value(f)),
                    Wanted::ByInput => zip::<$type, $type, _>(a, b, out, ByInput(f, scale)),
                    Wanted::ByTarget => zip::<$type, $type, _>(a, b, out, ByTarget(f, scale)),
                }
            }
            fn sum<F: PairFormula>(f: F, a: &[$type], b: &[$type]) -> f64 {
                assert_eq!(a.len(), b.len());
                sum_blocks(a.len(), |block| dispatch(Sum { f, a: &a[block.clone()], b: &b[block] }))
            }
        }
        impl<F: PairFormula> Kernel for Sum<'_, $type, F> {
            type Output = f64;
            #[inline(always)]
            fn run<I: Isa>(self) -> f64 {
                let f = self.f;
                sum_of([self.a, self.b], |[a, b]| f.value::<I, $type>(a, b))
            }
        }
    };
}
formulas!(f32);
formulas!(f64);

/// A type that the loops of this file are written for.
pub trait PairFloat: Float {
    /// Writes what is wanted of each pair, derivatives times `scale`; all three arrays have one shape.
    fn each<F: PairFormula>(f: F, wanted: Wanted, scale: f64, a: &Array, b: &Array, out: &Array);
    /// The sum of the losses of two contiguous slices.
    fn sum<F: PairFormula>(f: F, a: &[Self], b: &[Self]) -> f64;
}

/// Elements of a task of a sum; each task has a partial sum.
const BLOCK: usize = 8 * 1024;

struct Sum<'a, T, F> {
    f: F,
    a: &'a [T],
    b: &'a [T],
}

/// The sum over blocks of `len` elements, in their order.
fn sum_blocks(len: usize, block_sum: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    let mut sums = vec![0f64; len.div_ceil(BLOCK)];
    let shared = Shared(sums.as_mut_ptr());
    par::for_each_chunk(sums.len(), 1, |range| {
        for block in range {
            let sum = block_sum(block * BLOCK..len.min((block + 1) * BLOCK));
            // SAFETY: each block belongs to one chunk, and `sums` has an element for each.
            unsafe { *shared.at(block as isize) = sum };
        }
    });
    total(sums.into_iter())
}
