//! Element-wise functions of one tensor.

use super::PyTensor;
use crate::enter::enter;
use crate::tensor::lent::{run, Call};
use crate::tensor::Out;
use firesteel::Tensor;
use pyo3::prelude::*;

#[inline]
fn forward(py: Python<'_>, x: &PyTensor, call: Call) -> PyResult<Out> {
    run(py, x, call).map(Out)
}

macro_rules! unary_methods {
    ($($doc:literal $name:ident $inplace:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input) -> Tensor: ", $doc)]
                fn $name(&self, py: Python<'_>) -> PyResult<Out> {
                    forward(py, self, Tensor::$name)
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                fn $inplace<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
                    let x = &slf.get().tensor();
                    enter(slf.py(), x.numel(), || x.$inplace())?;
                    Ok(slf)
                }
            )*
        }
        /// Methods that are also functions of the module.
        pub const FUNCTIONS: &[&str] = &[$(stringify!($name), stringify!($inplace)),*];
    };
}

// The rows of the core's `ops/unary.rs`; a test compares the names.
unary_methods! {
    "Exponential, element-wise." exp exp_;
    "`exp(x) - 1`, accurate near 0, element-wise." expm1 expm1_;
    "Natural logarithm, element-wise: -inf at 0, nan below." log log_;
    "`log(1 + x)`, accurate near 0, element-wise." log1p log1p_;
    "Logarithm to base 2, element-wise." log2 log2_;
    "Logarithm to base 10, element-wise." log10 log10_;
    "Square root, element-wise: nan below 0." sqrt sqrt_;
    "`1 / sqrt(x)`, element-wise." rsqrt rsqrt_;
    "`1 / x`, element-wise." reciprocal reciprocal_;
    "Sine of an angle in radians, element-wise." sin sin_;
    "Cosine of an angle in radians, element-wise." cos cos_;
    "Tangent of an angle in radians, element-wise." tan tan_;
    "Hyperbolic tangent, element-wise." tanh tanh_;
    "Logistic function `1 / (1 + exp(-x))`, element-wise." sigmoid sigmoid_;
    "Error function, element-wise." erf erf_;
    "`x * sigmoid(x)`, element-wise." silu silu_;
    "Largest integer not above `x`, element-wise." floor floor_;
    "Smallest integer not below `x`, element-wise." ceil ceil_;
    "Nearest integer, halves to even, element-wise." round round_;
    "`x` without its fraction, element-wise." trunc trunc_;
    "`-x`, element-wise." neg neg_;
    "Absolute value, element-wise." abs abs_;
    "-1, 0 or 1, element-wise." sign sign_;
    "`x * x`, element-wise." square square_;
    "`max(x, 0)`, element-wise." relu relu_;
}

#[pymethods]
impl PyTensor {
    fn __neg__(&self, py: Python<'_>) -> PyResult<Out> {
        forward(py, self, Tensor::neg)
    }

    fn __abs__(&self, py: Python<'_>) -> PyResult<Out> {
        forward(py, self, Tensor::abs)
    }

    fn __pos__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
}
