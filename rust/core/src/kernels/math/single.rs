//! float32: branch-free forms.

use super::{erf, exp, log, logistic, normal, pow, tanh, trig, Real};
use crate::simd::Isa;

impl<I: Isa> Real<I> for f32 {
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn fma(self, b: f32, c: f32) -> f32 {
        I::fma32(self, b, c)
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        exp::exp32::<I>(self)
    }
    #[inline(always)]
    fn expm1(self) -> f32 {
        exp::expm1_32::<I>(self)
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        log::ln32::<I>(self)
    }
    #[inline(always)]
    fn log1p(self) -> f32 {
        log::log1p_32::<I>(self)
    }
    #[inline(always)]
    fn log2(self) -> f32 {
        log::log2_32::<I>(self)
    }
    #[inline(always)]
    fn log10(self) -> f32 {
        log::log10_32::<I>(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        self.sqrt()
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        self.abs()
    }
    #[inline(always)]
    fn sin(self) -> f32 {
        trig::sin32::<I>(self)
    }
    #[inline(always)]
    fn cos(self) -> f32 {
        trig::cos32::<I>(self)
    }
    #[inline(always)]
    fn tan(self) -> f32 {
        trig::tan32::<I>(self)
    }
    #[inline(always)]
    fn tanh(self) -> f32 {
        tanh::tanh32::<I>(self)
    }
    #[inline(always)]
    fn logistic(self, numerator: f32) -> f32 {
        logistic::logistic32::<I>(self, numerator)
    }
    #[inline(always)]
    fn erf(self) -> f32 {
        erf::erf32::<I>(self)
    }
    #[inline(always)]
    fn normal(self) -> f32 {
        normal::normal32::<I>(self)
    }
    #[inline(always)]
    fn density(self) -> f32 {
        normal::density32::<I>(self)
    }
    #[inline(always)]
    fn pow(self, other: f32) -> f32 {
        pow::pow32::<I>(self, other)
    }
    #[inline(always)]
    fn floor(self) -> f32 {
        self.floor()
    }
    #[inline(always)]
    fn ceil(self) -> f32 {
        self.ceil()
    }
    #[inline(always)]
    fn round(self) -> f32 {
        self.round_ties_even()
    }
    #[inline(always)]
    fn trunc(self) -> f32 {
        self.trunc()
    }
}
