//! Activation functions with arguments: a value, a slope for the fused gradient, and the slope's own
//! derivative in tensor operations, from which all further derivatives follow.

use super::clamp::masked;
use super::fused::{r, Rule, WithSlope};
use super::promote::{compute_dtype, Scalar};
use crate::array::Array;
use crate::autograd::op::check_target;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::kernels::map::{map, Unary, GRAIN_COSTLY};
use crate::kernels::math::Real;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Result};
use std::fmt::Debug;

/// A function of one float.
pub(super) trait Activation: Rule {
    /// As users spell it.
    const NAME: &'static str;
    /// PyTorch's name of the node.
    const NODE: &'static str;
    /// The function.
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R;
}

#[derive(Clone, Copy)]
struct Value<A>(A);
macro_rules! formulas {
    ($($type:ty),*) => {
        $(
            impl<A: Activation> Unary<$type, $type> for Value<A> {
                const GRAIN: usize = GRAIN_COSTLY;
                const WIDE: bool = true;
                #[inline(always)]
                fn call<I: Isa>(self, x: $type) -> $type {
                    self.0.value::<I, $type>(x)
                }
            }
        )*
    };
}
formulas!(f32, f64);

/// An activation as an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activate<A>(pub A);

impl<A: Activation> Activate<A> {
    fn check(x: &Array) -> Result<()> {
        ensure!(
            x.dtype().is_float(),
            DType,
            "{}: not implemented for '{}'; convert with .float() first",
            A::NAME,
            x.dtype().scalar_name()
        );
        Ok(())
    }

    fn write(self, x: &Array, out: &Array) -> Result<()> {
        dispatch_float!(x.dtype(), A::NAME, T => map::<T, T, _>(x, out, Value(self.0)));
        Ok(())
    }
}

impl<A: Activation> Op<1> for Activate<A> {
    const NAME: &'static str = A::NAME;

    fn grad_fn_name(&self) -> String {
        A::NODE.into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Self::check(x)?;
        let compute = x.to_dtype(compute_dtype(x.dtype()))?;
        let out = Array::empty_like(compute.layout(), compute.dtype())?;
        self.write(&compute, &out)?;
        out.into_dtype(x.dtype())
    }

    fn forward_into(&mut self, [x]: [&Array; 1], out: &Array) -> Result<()> {
        Self::check(x)?;
        check_target(A::NAME, out, x.shape(), x.dtype())?;
        if x.is_same_view(out) && compute_dtype(x.dtype()) == x.dtype() && out.dtype() == x.dtype() {
            return self.write(x, out);
        }
        out.copy_from(&self.forward([x])?)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(WithSlope(self.0), [grad, &saved.input(0)?])?)])
    }
}

/// 1 / sqrt(2 pi), the normal density at 0.
const DENSITY: f64 = 0.398_942_280_401_432_7;

/// `x` times the normal distribution function.
#[derive(Debug, Clone, Copy)]
struct Gelu;

impl Activation for Gelu {
    const NAME: &'static str = "gelu";
    const NODE: &'static str = "GeluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x.gelu()
    }
}

impl Rule for Gelu {
    const BACKWARD: &'static str = "gelu_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        x.normal() + x * x.density()
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let square = x * x;
        Ok(Some((&square * -0.5).exp()? * DENSITY * (2.0 - square)))
    }
}

/// sqrt(2 / pi)
const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
const TANH_CUBE: f64 = 0.044715;

/// `gelu` with tanh in place of the normal distribution function.
#[derive(Debug, Clone, Copy)]
struct GeluTanh;

impl Activation for GeluTanh {
    const NAME: &'static str = "gelu";
    const NODE: &'static str = "GeluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x.gelu_tanh()
    }
}

impl Rule for GeluTanh {
    const BACKWARD: &'static str = "gelu_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let square = x * x;
        let t = (x * (square * r(TANH_CUBE) + r(1.0)) * r(TANH_SCALE)).tanh();
        let inner_slope = (square * r(3.0 * TANH_CUBE) + r(1.0)) * r(TANH_SCALE);
        (t + r(1.0)) * r(0.5) + x * r(0.5) * (r::<I, R>(1.0) - t * t) * inner_slope
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let square = x * x;
        let t = (x * (&square * TANH_CUBE + 1.0) * TANH_SCALE).tanh()?;
        let first = (square * (3.0 * TANH_CUBE) + 1.0) * TANH_SCALE;
        let second = x * (6.0 * TANH_CUBE * TANH_SCALE);
        let s = 1.0 - &t * &t;
        Ok(Some(&s * (&first - x * t * (&first * &first) + x * second * 0.5)))
    }
}

/// `log(1 + exp(beta x)) / beta`, and `x` itself above the threshold.
#[derive(Debug, Clone, Copy)]
struct Softplus {
    beta: f64,
    threshold: f64,
}

impl Activation for Softplus {
    const NAME: &'static str = "softplus";
    const NODE: &'static str = "SoftplusBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x.softplus(r(self.beta), r(self.threshold))
    }
}

impl Rule for Softplus {
    const BACKWARD: &'static str = "softplus_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let scaled = x * r(self.beta);
        let soft = scaled.sigmoid();
        if scaled > r(self.threshold) {
            r(1.0)
        } else {
            soft
        }
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let scaled = x * self.beta;
        let s = scaled.sigmoid()?;
        let curve = &s * (1.0 - &s) * self.beta;
        Ok(Some(curve.masked_fill(&scaled.gt_scalar(self.threshold)?, 0i64)?))
    }
}

/// `x` above 0, `slope x` below.
#[derive(Debug, Clone, Copy)]
struct LeakyRelu(f64);

impl Activation for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const NODE: &'static str = "LeakyReluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        if x > r(0.0) {
            x
        } else {
            x * r(self.0)
        }
    }
}

impl Rule for LeakyRelu {
    const BACKWARD: &'static str = "leaky_relu_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        if x > r(0.0) {
            r(1.0)
        } else {
            r(self.0)
        }
    }

    fn curvature(self, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// `scale x` above 0, `alpha scale (exp(input_scale x) - 1)` below.
#[derive(Debug, Clone, Copy)]
struct Elu {
    alpha: f64,
    scale: f64,
    input_scale: f64,
}

impl Activation for Elu {
    const NAME: &'static str = "elu";
    const NODE: &'static str = "EluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        let low = (x * r(self.input_scale)).expm1() * r(self.alpha * self.scale);
        if x < r(0.0) {
            low
        } else {
            x * r(self.scale)
        }
    }
}

impl Rule for Elu {
    const BACKWARD: &'static str = "elu_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let low = (x * r(self.input_scale)).exp() * r(self.alpha * self.scale * self.input_scale);
        // Asked this way, nan takes the branch that keeps it.
        if x > r(0.0) {
            r(self.scale)
        } else {
            low
        }
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let factor = self.alpha * self.scale * self.input_scale * self.input_scale;
        let below = x.lt_scalar(0.0)?;
        // Positive numbers are set to 0 first: their powers would overflow.
        Ok(Some(masked(&((masked(x, &below)? * self.input_scale).exp()? * factor), &below)?))
    }
}

/// `log(sigmoid(x))`
#[derive(Debug, Clone, Copy)]
struct LogSigmoid;

impl Activation for LogSigmoid {
    const NAME: &'static str = "log_sigmoid";
    const NODE: &'static str = "LogSigmoidBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x.log_sigmoid()
    }
}

impl Rule for LogSigmoid {
    const BACKWARD: &'static str = "log_sigmoid_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        (-x).sigmoid()
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let s = x.sigmoid()?;
        Ok(Some(&s * (&s - 1.0)))
    }
}

/// Limited to a range; flat at its ends.
#[derive(Debug, Clone, Copy)]
struct HardTanh {
    min: f64,
    max: f64,
}

impl Activation for HardTanh {
    const NAME: &'static str = "hardtanh";
    const NODE: &'static str = "HardtanhBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        let low = if x < r(self.min) { r(self.min) } else { x };
        if low > r(self.max) {
            r(self.max)
        } else {
            low
        }
    }
}

impl Rule for HardTanh {
    const BACKWARD: &'static str = "hardtanh_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        self.backward::<I, R>(r(1.0), x)
    }

    #[inline(always)]
    fn backward<I: Isa, R: Real<I>>(self, grad: R, x: R) -> R {
        if x <= r(self.min) || x >= r(self.max) {
            r(0.0)
        } else {
            grad
        }
    }

    fn curvature(self, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// `x relu6(x + 3) / 6`
#[derive(Debug, Clone, Copy)]
struct HardSwish;

impl Activation for HardSwish {
    const NAME: &'static str = "hardswish";
    const NODE: &'static str = "HardswishBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        HardTanh { min: 0.0, max: 6.0 }.value::<I, R>(x + r(3.0)) * x / r(6.0)
    }
}

impl Rule for HardSwish {
    const BACKWARD: &'static str = "hardswish_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        self.backward::<I, R>(r(1.0), x)
    }

    #[inline(always)]
    fn backward<I: Isa, R: Real<I>>(self, grad: R, x: R) -> R {
        let inside = grad * (x / r(3.0) + r(0.5));
        // Asked this way, nan lies inside and stays.
        if x <= r(-3.0) {
            r(0.0)
        } else if x >= r(3.0) {
            grad
        } else {
            inside
        }
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let inside = x.abs()?.lt_scalar(3.0)?;
        Ok(Some(inside.to_dtype(x.dtype())? * (1.0 / 3.0)))
    }
}

/// `relu6(x + 3) / 6`
#[derive(Debug, Clone, Copy)]
struct HardSigmoid;

impl Activation for HardSigmoid {
    const NAME: &'static str = "hardsigmoid";
    const NODE: &'static str = "HardsigmoidBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        HardTanh { min: 0.0, max: 6.0 }.value::<I, R>(x + r(3.0)) / r(6.0)
    }
}

impl Rule for HardSigmoid {
    const BACKWARD: &'static str = "hardsigmoid_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        self.backward::<I, R>(r(1.0), x)
    }

    #[inline(always)]
    fn backward<I: Isa, R: Real<I>>(self, grad: R, x: R) -> R {
        if x > r(-3.0) && x < r(3.0) {
            grad / r(6.0)
        } else {
            r(0.0)
        }
    }

    fn curvature(self, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// `x tanh(softplus(x))`
#[derive(Debug, Clone, Copy)]
struct Mish;

impl Activation for Mish {
    const NAME: &'static str = "mish";
    const NODE: &'static str = "MishBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x * Softplus { beta: 1.0, threshold: 20.0 }.value::<I, R>(x).tanh()
    }
}

impl Rule for Mish {
    const BACKWARD: &'static str = "mish_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let w = Softplus { beta: 1.0, threshold: 20.0 }.value::<I, R>(x).tanh();
        w + x * x.sigmoid() * (r::<I, R>(1.0) - w * w)
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let w = x.softplus(1.0, 20.0)?.tanh()?;
        let s = x.sigmoid()?;
        let slope = &s * (1.0 - &w * &w);
        Ok(Some(&slope * (2.0 + x * ((1.0 - &s) - &w * &s * 2.0))))
    }
}

/// How `gelu` computes the normal distribution function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approximate {
    /// With erf.
    None,
    /// With tanh.
    Tanh,
}

/// `hardtanh` takes signed integers, and unsigned ones when the limits are not negative.
fn check_int_limits(x: &Tensor, min: f64, max: f64) -> Result<()> {
    ensure!(
        x.dtype() != DType::Bool,
        DType,
        "hardtanh: Bool inputs not supported for hardtanh; convert with .int() first"
    );
    ensure!(
        x.dtype() != DType::U8 || (min >= 0.0 && max >= 0.0),
        Value,
        "hardtanh: cannot do hardtanh on an unsigned type with negative limits {min} and {max}; \
         convert with .int() first"
    );
    Ok(())
}

impl Tensor {
    /// `x` times the normal distribution function, element-wise.
    pub fn gelu(&self, approximate: Approximate) -> Result<Tensor> {
        match approximate {
            Approximate::None => apply(Activate(Gelu), [self]),
            Approximate::Tanh => apply(Activate(GeluTanh), [self]),
        }
    }

    /// `log(1 + exp(beta x)) / beta`, and `x` where `beta x > threshold`.
    pub fn softplus(&self, beta: f64, threshold: f64) -> Result<Tensor> {
        apply(Activate(Softplus { beta, threshold }), [self])
    }

    /// `x` above 0, `negative_slope x` below.
    pub fn leaky_relu(&self, negative_slope: f64) -> Result<Tensor> {
        apply(Activate(LeakyRelu(negative_slope)), [self])
    }

    /// In-place [`Tensor::leaky_relu`].
    pub fn leaky_relu_(&self, negative_slope: f64) -> Result<()> {
        apply_inplace(Activate(LeakyRelu(negative_slope)), [self])
    }

    /// `scale x` above 0, `scale alpha (exp(input_scale x) - 1)` below.
    pub fn elu(&self, alpha: f64, scale: f64, input_scale: f64) -> Result<Tensor> {
        apply(Activate(Elu { alpha, scale, input_scale }), [self])
    }

    /// In-place [`Tensor::elu`].
    pub fn elu_(&self, alpha: f64, scale: f64, input_scale: f64) -> Result<()> {
        apply_inplace(Activate(Elu { alpha, scale, input_scale }), [self])
    }

    /// `log(sigmoid(x))`, element-wise, without overflow.
    pub fn log_sigmoid(&self) -> Result<Tensor> {
        apply(Activate(LogSigmoid), [self])
    }

    /// Values limited to `min..=max`; no gradient at the ends. Integers stay integers.
    pub fn hardtanh(&self, min: f64, max: f64) -> Result<Tensor> {
        if !self.dtype().is_float() {
            check_int_limits(self, min, max)?;
            return self.clamp(Some(Scalar::Int(min as i64)), Some(Scalar::Int(max as i64)));
        }
        apply(Activate(HardTanh { min, max }), [self])
    }

    /// In-place [`Tensor::hardtanh`].
    pub fn hardtanh_(&self, min: f64, max: f64) -> Result<()> {
        if !self.dtype().is_float() {
            check_int_limits(self, min, max)?;
            return self.clamp_(Some(Scalar::Int(min as i64)), Some(Scalar::Int(max as i64)));
        }
        apply_inplace(Activate(HardTanh { min, max }), [self])
    }

    /// `x relu6(x + 3) / 6`, element-wise.
    pub fn hardswish(&self) -> Result<Tensor> {
        apply(Activate(HardSwish), [self])
    }

    /// In-place [`Tensor::hardswish`].
    pub fn hardswish_(&self) -> Result<()> {
        apply_inplace(Activate(HardSwish), [self])
    }

    /// `relu6(x + 3) / 6`, element-wise.
    pub fn hardsigmoid(&self) -> Result<Tensor> {
        apply(Activate(HardSigmoid), [self])
    }

    /// In-place [`Tensor::hardsigmoid`].
    pub fn hardsigmoid_(&self) -> Result<()> {
        apply_inplace(Activate(HardSigmoid), [self])
    }

    /// `x tanh(softplus(x))`, element-wise.
    pub fn mish(&self) -> Result<Tensor> {
        apply(Activate(Mish), [self])
    }

    /// In-place [`Tensor::mish`].
    pub fn mish_(&self) -> Result<()> {
        apply_inplace(Activate(Mish), [self])
    }
}
