//! The arithmetic that convolution and average pooling ask of an element type.

use std::ops::{Add, AddAssign, Div, Mul};

use crate::dtype::Element;
use crate::kernels::gemm;
use crate::simd::Isa;

/// A floating-point type that kernels compute in: float32 or float64.
pub trait Float:
    Element
    + gemm::Float
    + gemm::BlockElement
    + Add<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
{
    /// 0.
    const ZERO: Self;
    /// `a * b + c`, fused where that is an instruction of `I`.
    fn fma<I: Isa>(a: Self, b: Self, c: Self) -> Self;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn fma<I: Isa>(a: Self, b: Self, c: Self) -> Self {
        I::fma32(a, b, c)
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn fma<I: Isa>(a: Self, b: Self, c: Self) -> Self {
        I::fma64(a, b, c)
    }
}
