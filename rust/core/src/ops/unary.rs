//! Element-wise functions of one tensor. A row is an op: formula, what its gradient reads, gradient.

use super::fused::{relu_grad, sigmoid_grad, silu_grad, tanh_grad};
use super::pow::first_power;
use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::op::check_target;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::kernels::map::{map, Unary, GRAIN_CHEAP, GRAIN_COSTLY};
use crate::kernels::math::Real;
use crate::kernels::num::Num;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, dispatch_float, DType, Result};

/// A formula on floats; integers are converted to float32 first.
trait FloatFormula: Copy + Send + Sync + 'static {
    fn call<I: Isa, R: Real<I>>(x: R) -> R;
}

/// A formula on any number.
trait NumFormula: Copy + Send + Sync + 'static {
    fn call<T: Num>(x: T) -> T;
}

#[derive(Clone, Copy)]
struct OnFloat<F>(F);
impl<F: FloatFormula> Unary<f32, f32> for OnFloat<F> {
    const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
    #[inline(always)]
    fn call<I: Isa>(self, x: f32) -> f32 {
        F::call::<I, f32>(x)
    }
}
impl<F: FloatFormula> Unary<f64, f64> for OnFloat<F> {
    const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
    #[inline(always)]
    fn call<I: Isa>(self, x: f64) -> f64 {
        F::call::<I, f64>(x)
    }
}

#[derive(Clone, Copy)]
struct OnNum<F>(F);
impl<T: Num, F: NumFormula> Unary<T, T> for OnNum<F> {
    const GRAIN: usize = GRAIN_CHEAP;
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> T {
        F::call(x)
    }
}

fn float_into<F: FloatFormula>(name: &str, f: F, x: &Array, out: &Array) -> Result<()> {
    dispatch_float!(x.dtype(), name, T => map::<T, T, _>(x, out, OnFloat(f)));
    Ok(())
}

/// Integers are rounded already.
fn rounded_into<F: FloatFormula>(name: &str, f: F, x: &Array, out: &Array) -> Result<()> {
    if x.dtype().is_float() {
        return float_into(name, f, x, out);
    }
    out.copy_from(x)
}

fn num_into<F: NumFormula>(name: &str, f: F, x: &Array, out: &Array) -> Result<()> {
    dispatch_compute!(x.dtype(), name, T => map::<T, T, _>(x, out, OnNum(f)));
    Ok(())
}

/// Runs `into` in the dtype that kernels compute in, and gives the result `dtype`.
fn forward(x: &Array, dtype: DType, into: impl Fn(&Array, &Array) -> Result<()>) -> Result<Array> {
    let x = x.as_dtype(compute_dtype(dtype))?;
    let out = Array::empty_like(x.layout(), x.dtype())?;
    into(&x, &out)?;
    out.into_dtype(dtype)
}

/// The same into an existing array, without an intermediate where the dtype allows.
fn forward_into(
    name: &str,
    x: &Array,
    dtype: DType,
    out: &Array,
    into: impl Fn(&Array, &Array) -> Result<()>,
) -> Result<()> {
    check_target(name, out, x.shape(), dtype)?;
    if out.dtype() == dtype && compute_dtype(dtype) == dtype && x.is_same_view(out) {
        return into(x, out);
    }
    out.copy_from(&forward(x, dtype, into)?)
}

/// Name, doc and test domain of a row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// As users spell it.
    pub name: &'static str,
    /// Where inputs may be sampled, away from kinks and poles.
    pub domain: (f64, f64),
}

macro_rules! saves {
    (nothing) => {
        Saves::nothing()
    };
    (input) => {
        Saves::all_inputs()
    };
    (output) => {
        Saves::output()
    };
}

macro_rules! saved {
    (nothing, $saved:ident, $g:ident) => {
        $g
    };
    (input, $saved:ident, $g:ident) => {
        &$saved.input(0)?
    };
    (output, $saved:ident, $g:ident) => {
        &$saved.output()?
    };
}

macro_rules! formula {
    (float, $op:ident, |$x:ident| $f:expr) => {
        impl FloatFormula for $op {
            #[inline(always)]
            fn call<I: Isa, R: Real<I>>($x: R) -> R {
                $f
            }
        }
    };
    (rounding, $op:ident, |$x:ident| $f:expr) => {
        formula!(float, $op, |$x| $f);
    };
    (only_float, $op:ident, |$x:ident| $f:expr) => {
        formula!(float, $op, |$x| $f);
    };
    ($number:ident, $op:ident, |$x:ident| $f:expr) => {
        impl NumFormula for $op {
            #[inline(always)]
            fn call<T: Num>($x: T) -> T {
                $f
            }
        }
    };
}

macro_rules! result_dtype {
    (float, $name:expr, $x:expr) => {
        $x.dtype().to_float()
    };
    (number, $name:expr, $x:expr) => {
        $x.dtype()
    };
    (square, $name:expr, $x:expr) => {
        if $x.dtype() == DType::Bool {
            DType::I64
        } else {
            $x.dtype()
        }
    };
    (only_float, $name:expr, $x:expr) => {{
        let dtype = $x.dtype();
        if !dtype.is_float() {
            bail!(
                DType,
                "{0}: \"{0}_cpu\" not implemented for '{1}'; convert with .float() first",
                $name,
                dtype.scalar_name()
            );
        }
        dtype
    }};
    ($no_bool:ident, $name:expr, $x:expr) => {{
        if $x.dtype() == DType::Bool {
            bail!(
                DType,
                "{0}: \"{0}_cpu\" not implemented for 'Bool'; to invert a mask use `~`, else convert with .int() first",
                $name
            );
        }
        $x.dtype()
    }};
}

macro_rules! kernel {
    (float) => {
        float_into
    };
    (only_float) => {
        float_into
    };
    (rounding) => {
        rounded_into
    };
    ($number:ident) => {
        num_into
    };
}

macro_rules! unary_ops {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident ($op:ident, $over:ident) {
        f: |$x:ident| $f:expr, keep: $keep:ident, df: |$g:ident, $s:ident| $df:expr, on: $low:literal..$high:literal
    })*) => {
        /// Every row, for the tests.
        pub const ROWS: &[Row] = &[$(Row { name: stringify!($name), domain: ($low, $high) }),*];
        $(
            #[derive(Debug, Clone, Copy)]
            struct $op;
            formula!($over, $op, |$x| $f);
            impl Op<1> for $op {
                const NAME: &'static str = stringify!($name);
                fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
                    saves!($keep)
                }
                fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
                    let dtype = result_dtype!($over, Self::NAME, x);
                    forward(x, dtype, |x, out| kernel!($over)(Self::NAME, *self, x, out))
                }
                fn forward_into(&mut self, [x]: [&Array; 1], out: &Array) -> Result<()> {
                    let dtype = result_dtype!($over, Self::NAME, x);
                    forward_into(Self::NAME, x, dtype, out, |x, out| kernel!($over)(Self::NAME, *self, x, out))
                }
                fn backward(&self, saved: &Saved<1>, $g: &Tensor) -> Result<Grads<1>> {
                    let _ = saved;
                    let $s = saved!($keep, saved, $g);
                    Ok([Some($df)])
                }
            }
            impl Tensor {
                $(#[doc = $doc])+
                pub fn $name(&self) -> Result<Tensor> {
                    apply($op, [self])
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                pub fn $inplace(&self) -> Result<()> {
                    apply_inplace($op, [self])
                }
            }
        )*
    };
}

/// The gradient of a step: zeros, even where the gradient of its result is infinite.
fn flat(grad: &Tensor) -> Result<Tensor> {
    Tensor::zeros(grad.shape(), grad.dtype())
}

/// 2 / sqrt(pi), the slope of `erf` at 0.
const TWO_OVER_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;

unary_ops! {
    /// Exponential, element-wise.
    exp / exp_ (Exp, float) { f: |x| x.exp(), keep: output, df: |g, y| g * y, on: -3.0..3.0 }
    /// `exp(x) - 1`, accurate near 0, element-wise.
    expm1 / expm1_ (Expm1, float) { f: |x| x.expm1(), keep: output, df: |g, y| g * (y + 1.0), on: -3.0..3.0 }
    /// Natural logarithm, element-wise: -inf at 0, nan below.
    log / log_ (Log, float) { f: |x| x.ln(), keep: input, df: |g, x| g / x, on: 0.1..4.0 }
    /// `log(1 + x)`, accurate near 0, element-wise.
    log1p / log1p_ (Log1p, float) { f: |x| x.log1p(), keep: input, df: |g, x| g / (x + 1.0), on: -0.9..4.0 }
    /// Logarithm to base 2, element-wise.
    log2 / log2_ (Log2, float) {
        f: |x| x.log2(), keep: input, df: |g, x| g / (x * std::f64::consts::LN_2), on: 0.1..4.0
    }
    /// Logarithm to base 10, element-wise.
    log10 / log10_ (Log10, float) {
        f: |x| x.log10(), keep: input, df: |g, x| g / (x * std::f64::consts::LN_10), on: 0.1..4.0
    }
    /// Square root, element-wise: nan below 0.
    sqrt / sqrt_ (Sqrt, float) { f: |x| x.sqrt(), keep: output, df: |g, y| g / (y * 2.0), on: 0.1..4.0 }
    /// `1 / sqrt(x)`, element-wise.
    rsqrt / rsqrt_ (Rsqrt, float) {
        f: |x| x.rsqrt(), keep: output, df: |g, y| g * -0.5 * (y * y * y), on: 0.1..4.0
    }
    /// `1 / x`, element-wise.
    reciprocal / reciprocal_ (Reciprocal, float) {
        f: |x| x.recip(), keep: output, df: |g, y| -(g * (y * y)), on: 0.2..4.0
    }
    /// Sine of an angle in radians, element-wise.
    sin / sin_ (Sin, float) { f: |x| x.sin(), keep: input, df: |g, x| g * x.cos()?, on: -4.0..4.0 }
    /// Cosine of an angle in radians, element-wise.
    cos / cos_ (Cos, float) { f: |x| x.cos(), keep: input, df: |g, x| -(g * x.sin()?), on: -4.0..4.0 }
    /// Tangent of an angle in radians, element-wise.
    tan / tan_ (Tan, float) { f: |x| x.tan(), keep: output, df: |g, y| g * (y * y + 1.0), on: -1.2..1.2 }
    /// Hyperbolic tangent, element-wise.
    tanh / tanh_ (Tanh, float) { f: |x| x.tanh(), keep: output, df: |g, y| tanh_grad(g, y)?, on: -3.0..3.0 }
    /// Logistic function `1 / (1 + exp(-x))`, element-wise.
    sigmoid / sigmoid_ (Sigmoid, float) {
        f: |x| x.sigmoid(), keep: output, df: |g, y| sigmoid_grad(g, y)?, on: -4.0..4.0
    }
    /// Error function, element-wise.
    erf / erf_ (Erf, float) {
        f: |x| x.erf(), keep: input, df: |g, x| g * ((-(x * x)).exp()? * TWO_OVER_SQRT_PI), on: -2.0..2.0
    }
    /// `x * sigmoid(x)`, element-wise.
    silu / silu_ (Silu, only_float) { f: |x| x.silu(), keep: input, df: |g, x| silu_grad(g, x)?, on: -4.0..4.0 }
    /// Largest integer not above `x`, element-wise.
    floor / floor_ (Floor, rounding) { f: |x| x.floor(), keep: nothing, df: |g, _g| flat(g)?, on: 0.1..0.9 }
    /// Smallest integer not below `x`, element-wise.
    ceil / ceil_ (Ceil, rounding) { f: |x| x.ceil(), keep: nothing, df: |g, _g| flat(g)?, on: 0.1..0.9 }
    /// Nearest integer, halves to even, element-wise.
    round / round_ (Round, rounding) { f: |x| x.round(), keep: nothing, df: |g, _g| flat(g)?, on: 0.1..0.4 }
    /// `x` without its fraction, element-wise.
    trunc / trunc_ (Trunc, rounding) { f: |x| x.trunc(), keep: nothing, df: |g, _g| flat(g)?, on: 0.1..0.9 }
    /// `-x`, element-wise.
    neg / neg_ (Neg, no_bool) { f: |x| x.neg(), keep: nothing, df: |g, _g| -g, on: -3.0..3.0 }
    /// Absolute value, element-wise.
    abs / abs_ (Abs, no_bool) { f: |x| x.abs(), keep: input, df: |g, x| g * x.sign()?, on: 0.1..3.0 }
    /// -1, 0 or 1, element-wise.
    sign / sign_ (Sign, number) { f: |x| x.sign(), keep: nothing, df: |g, _g| flat(g)?, on: 0.1..3.0 }
    /// `x * x`, element-wise.
    square / square_ (Square, square) { f: |x| x.mul(x), keep: input, df: |g, x| g * (first_power(x)? * 2.0), on: -3.0..3.0 }
    /// `max(x, 0)`, element-wise.
    relu / relu_ (Relu, no_bool) {
        f: |x| if x < T::ZERO { T::ZERO } else { x }, keep: output, df: |g, y| relu_grad(g, y)?, on: 0.1..3.0
    }
}
