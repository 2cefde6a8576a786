//! Losses of two values: element-wise, or summed without an intermediate.

use super::{sum_of, Floating};
use crate::array::Array;
use crate::kernels::map::{zip, Binary, Shared, GRAIN_COSTLY};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// A loss of prediction `a` and target `b`.
pub trait PairFormula: Copy + Send + Sync + 'static {
    /// The loss.
    fn value<I: Isa, T: Floating>(self, a: T, b: T) -> T;
    /// Its derivative by the prediction.
    fn by_input<I: Isa, T: Floating>(self, a: T, b: T) -> T;
    /// Its derivative by the target.
    #[inline(always)]
    fn by_target<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        self.by_input::<I, T>(a, b).neg()
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
}
/// `-(b ln(a) + (1 - b) ln(1 - a))`, with logarithms of at least -100.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy;
/// [`CrossEntropy`] of `sigmoid(a)`.
#[derive(Debug, Clone, Copy)]
pub struct LogitsCrossEntropy;

impl PairFormula for Squared {
    #[inline(always)]
    fn value<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        (a - b) * (a - b)
    }
    #[inline(always)]
    fn by_input<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        (a - b) * T::from_f64(2.0)
    }
}

impl PairFormula for Absolute {
    #[inline(always)]
    fn value<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        (a - b).abs()
    }
    #[inline(always)]
    fn by_input<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        (a - b).sign()
    }
}

impl PairFormula for Rounded {
    #[inline(always)]
    fn value<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        let (d, reach, half) = ((a - b).abs(), T::from_f64(self.reach), T::from_f64(0.5));
        let scaled = d * T::from_f64(self.factor);
        if d < reach {
            half * d * scaled
        } else {
            T::from_f64(self.factor * self.reach) * (d - half * reach)
        }
    }
    #[inline(always)]
    fn by_input<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        let d = a - b;
        if d.abs() < T::from_f64(self.reach) {
            d * T::from_f64(self.factor)
        } else {
            d.sign() * T::from_f64(self.factor * self.reach)
        }
    }
}

/// The logarithms of `a` and `1 - a`, at least -100; nan stays.
#[inline(always)]
fn limited_logs<I: Isa, T: Floating>(a: T) -> (T, T) {
    let low = T::from_f64(-100.0);
    (a.ln::<I>().maximum(low), a.neg().ln_1p::<I>().maximum(low))
}

impl PairFormula for CrossEntropy {
    #[inline(always)]
    fn value<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        let (log, log_rest) = limited_logs::<I, T>(a);
        (b - T::ONE) * log_rest - b * log
    }
    #[inline(always)]
    fn by_input<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        (a - b) / ((T::ONE - a) * a).maximum(T::from_f64(1e-12))
    }
    #[inline(always)]
    fn by_target<I: Isa, T: Floating>(self, a: T, _b: T) -> T {
        let (log, log_rest) = limited_logs::<I, T>(a);
        log_rest - log
    }
}

impl PairFormula for LogitsCrossEntropy {
    #[inline(always)]
    fn value<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        a.maximum(T::ZERO) - a * b + a.abs().neg().exp::<I>().ln_1p::<I>()
    }
    #[inline(always)]
    fn by_input<I: Isa, T: Floating>(self, a: T, b: T) -> T {
        T::ONE / (T::ONE + a.neg().exp::<I>()) - b
    }
    #[inline(always)]
    fn by_target<I: Isa, T: Floating>(self, a: T, _b: T) -> T {
        a.neg()
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

impl<F: PairFormula, T: Floating> Binary<T, T> for Value<F> {
    const GRAIN: usize = GRAIN_COSTLY;
    #[inline(always)]
    fn call<I: Isa>(self, a: T, b: T) -> T {
        self.0.value::<I, T>(a, b)
    }
}

impl<F: PairFormula, T: Floating> Binary<T, T> for ByInput<F, T> {
    const GRAIN: usize = GRAIN_COSTLY;
    #[inline(always)]
    fn call<I: Isa>(self, a: T, b: T) -> T {
        self.0.by_input::<I, T>(a, b) * self.1
    }
}

impl<F: PairFormula, T: Floating> Binary<T, T> for ByTarget<F, T> {
    const GRAIN: usize = GRAIN_COSTLY;
    #[inline(always)]
    fn call<I: Isa>(self, a: T, b: T) -> T {
        self.0.by_target::<I, T>(a, b) * self.1
    }
}

/// Writes what is wanted of each pair, derivatives times `scale`; all three arrays have one shape.
pub fn each<T: Floating, F: PairFormula>(f: F, wanted: Wanted, scale: T, a: &Array, b: &Array, out: &Array) {
    match wanted {
        Wanted::Value => zip::<T, T, _>(a, b, out, Value(f)),
        Wanted::ByInput => zip::<T, T, _>(a, b, out, ByInput(f, scale)),
        Wanted::ByTarget => zip::<T, T, _>(a, b, out, ByTarget(f, scale)),
    }
}

/// Elements that are summed in the loss's own dtype before doubles take over.
const BLOCK: usize = 2048;

/// The sum of the losses of two contiguous slices.
pub fn sum<T: Floating, F: PairFormula>(f: F, a: &[T], b: &[T]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    let mut sums = vec![0f64; a.len().div_ceil(BLOCK)];
    let shared = Shared(sums.as_mut_ptr());
    par::for_each_chunk(sums.len(), GRAIN_COSTLY.div_ceil(BLOCK), |range| {
        for block in range {
            let span = block * BLOCK..a.len().min((block + 1) * BLOCK);
            let sum = dispatch(Sum { f, a: &a[span.clone()], b: &b[span] });
            // SAFETY: each block belongs to one chunk, and `sums` has an element for each.
            unsafe { *shared.at(block as isize) = sum.to_f64() };
        }
    });
    sums.iter().sum()
}

struct Sum<'a, T, F> {
    f: F,
    a: &'a [T],
    b: &'a [T],
}

impl<T: Floating, F: PairFormula> Kernel for Sum<'_, T, F> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self) -> T {
        let f = self.f;
        sum_of(self.a, self.b, |a, b| f.value::<I, T>(a, b))
    }
}
