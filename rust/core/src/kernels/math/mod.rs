//! Element-wise formulas, written once for both float types and every instruction set.
//!
//! The float32 forms are polynomials without branches, so that a loop over them is vectorised; most
//! float64 forms call the standard library. Polynomials are minimax fits made for this crate.

#![allow(clippy::excessive_precision)] // coefficients as they were computed

mod double;
mod erf;
mod exp;
mod log;
mod logistic;
mod normal;
mod pow;
mod single;
mod tanh;
#[cfg(test)]
mod tests;
mod trig;

pub(super) use exp::exp_or_zero32;
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::dtype::Element;
use crate::simd::{Isa, Level};

/// A float type that element-wise formulas are written in, for the instruction set `I`.
///
/// float32 results are within about 1 ulp of the exact value (`exp`, `ln`, `pow`), 4 (`tan`), 2 (the others), but for
/// `normal` and `density`, which are exact to some 1e-7, and what is made of them.
pub trait Real<I: Isa>:
    Element
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// The nearest value of this type; a constant where `value` is one.
    fn of(value: f64) -> Self;
    /// `self * b + c`, fused where that is an instruction.
    fn fma(self, b: Self, c: Self) -> Self;
    /// e to the power of `self`.
    fn exp(self) -> Self;
    /// `exp(self) - 1`, exact near zero.
    fn expm1(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + self)`, exact near zero.
    fn log1p(self) -> Self;
    /// Logarithm to base 2.
    fn log2(self) -> Self;
    /// Logarithm to base 10.
    fn log10(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Sine; exact reduction of arguments of any size.
    fn sin(self) -> Self;
    /// Cosine; exact reduction of arguments of any size.
    fn cos(self) -> Self;
    /// Tangent; exact reduction of arguments of any size.
    fn tan(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// `numerator / (1 + exp(-self))`.
    fn logistic(self, numerator: Self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Standard normal distribution function.
    fn normal(self) -> Self;
    /// `self` to the power of `other`, with the special values of C's `pow`.
    fn pow(self, other: Self) -> Self;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// Smallest integer not below.
    fn ceil(self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// Integer part, towards zero.
    fn trunc(self) -> Self;

    /// `1 / self`.
    #[inline(always)]
    fn recip(self) -> Self {
        Self::of(1.0) / self
    }

    /// `1 / sqrt(self)`.
    #[inline(always)]
    fn rsqrt(self) -> Self {
        Self::of(1.0) / self.sqrt()
    }

    /// `1 / (1 + exp(-self))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        self.logistic(Self::of(1.0))
    }

    /// `self * sigmoid(self)`.
    #[inline(always)]
    fn silu(self) -> Self {
        self.logistic(self)
    }

    /// Standard normal density.
    #[inline(always)]
    fn density(self) -> Self {
        (self * self * Self::of(-0.5)).exp() * Self::of(0.398_942_280_401_432_7)
    }

    /// `self` times the standard normal distribution function: the erf form of GELU.
    #[inline(always)]
    fn gelu(self) -> Self {
        self * self.normal()
    }

    /// GELU with its tanh approximation: `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    #[inline(always)]
    fn gelu_tanh(self) -> Self {
        // 0.5 (1 + tanh(u)) = sigmoid(2u); 2 sqrt(2/pi) is the factor below.
        let cubic = (self * self).fma(Self::of(0.044715), Self::of(1.0));
        (self * Self::of(1.595_769_121_605_730_8) * cubic).logistic(self)
    }

    /// `ln(1 + exp(beta * self)) / beta`, or `self` where `beta * self > threshold`.
    #[inline(always)]
    fn softplus(self, beta: Self, threshold: Self) -> Self {
        let x = self * beta;
        let tail = (-x.abs()).exp().log1p();
        let positive = if x > Self::of(0.0) { x } else { Self::of(0.0) };
        if x > threshold {
            self
        } else {
            (positive + tail) / beta
        }
    }

    /// `ln(sigmoid(self))`.
    #[inline(always)]
    fn log_sigmoid(self) -> Self {
        let negative = if self < Self::of(0.0) { self } else { Self::of(0.0) };
        negative - (-self.abs()).exp().log1p()
    }

    /// The larger one; nan if either is nan.
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        let larger = if self > other { self } else { other };
        if self.is_nan() {
            self
        } else {
            larger
        }
    }

    /// The smaller one; nan if either is nan.
    #[inline(always)]
    fn minimum(self, other: Self) -> Self {
        let smaller = if self < other { self } else { other };
        if self.is_nan() {
            self
        } else {
            smaller
        }
    }

    /// -1, 0 or 1; 0 for nan, as in PyTorch.
    #[inline(always)]
    fn sign(self) -> Self {
        let positive = if self > Self::of(0.0) { Self::of(1.0) } else { Self::of(0.0) };
        if self < Self::of(0.0) {
            Self::of(-1.0)
        } else {
            positive
        }
    }

    /// Whether this is not a number.
    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn is_nan(self) -> bool {
        self != self
    }
}

/// Whether multiply-add is one instruction, so that float32 formulas may rely on its single rounding.
#[inline(always)]
const fn is_fused<I: Isa>() -> bool {
    !matches!(I::LEVEL, Level::Baseline) || cfg!(target_arch = "aarch64")
}

/// The polynomial with coefficients `c`, constant term first, in float32.
#[inline(always)]
fn horner32<I: Isa, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = I::fma32(sum, x, c[i]);
    }
    sum
}

/// The polynomial with coefficients `c`, constant term first, in float64.
#[inline(always)]
fn horner64<I: Isa, const N: usize>(x: f64, c: [f64; N]) -> f64 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = I::fma64(sum, x, c[i]);
    }
    sum
}
