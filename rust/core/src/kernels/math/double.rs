//! float64: the standard library's functions, but where ours are faster (`exp`, `tanh`, the logistic function) or there
//! is none (`erf`).

use super::{erf, exp, logistic, tanh, Real};
use crate::simd::Isa;

impl<I: Isa> Real<I> for f64 {
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn fma(self, b: f64, c: f64) -> f64 {
        I::fma64(self, b, c)
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        exp::exp64::<I>(self)
    }
    #[inline(always)]
    fn expm1(self) -> f64 {
        self.exp_m1()
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        self.ln()
    }
    #[inline(always)]
    fn log1p(self) -> f64 {
        self.ln_1p()
    }
    #[inline(always)]
    fn log2(self) -> f64 {
        self.log2()
    }
    #[inline(always)]
    fn log10(self) -> f64 {
        self.log10()
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> f64 {
        self.abs()
    }
    #[inline(always)]
    fn sin(self) -> f64 {
        self.sin()
    }
    #[inline(always)]
    fn cos(self) -> f64 {
        self.cos()
    }
    #[inline(always)]
    fn tan(self) -> f64 {
        self.tan()
    }
    #[inline(always)]
    fn tanh(self) -> f64 {
        tanh::tanh64::<I>(self)
    }
    #[inline(always)]
    fn logistic(self, numerator: f64) -> f64 {
        logistic::logistic64::<I>(self, numerator)
    }
    #[inline(always)]
    fn erf(self) -> f64 {
        erf::erf64::<I>(self)
    }
    #[inline(always)]
    fn normal(self) -> f64 {
        // erfc keeps the digits that 1 + erf would lose in the left tail.
        0.5 * erf::erfc64::<I>(-self * std::f64::consts::FRAC_1_SQRT_2)
    }
    #[inline(always)]
    fn pow(self, other: f64) -> f64 {
        self.powf(other)
    }
    #[inline(always)]
    fn floor(self) -> f64 {
        self.floor()
    }
    #[inline(always)]
    fn ceil(self) -> f64 {
        self.ceil()
    }
    #[inline(always)]
    fn round(self) -> f64 {
        self.round_ties_even()
    }
    #[inline(always)]
    fn trunc(self) -> f64 {
        self.trunc()
    }
}
