//! Activation functions with arguments: a value, a slope for the fused gradient, and the slope's own
//! derivative in tensor operations, from which all further derivatives follow.

use super::clamp::masked;
use super::promote::{compute_dtype, Scalar};
use crate::array::Array;
use crate::autograd::op::check_target;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::kernels::map::{map, zip, Binary, Unary, GRAIN_COSTLY};
use crate::kernels::math::Real;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Result};
use std::fmt::Debug;

/// A function of one float with arguments in its fields.
trait Activation: Copy + Debug + Send + Sync + 'static {
    /// As users spell it.
    const NAME: &'static str;
    /// The gradient's name in messages.
    const BACKWARD: &'static str;
    /// PyTorch's name of the node.
    const NODE: &'static str;
    /// The function.
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R;
    /// Its derivative.
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R;
    /// Its second derivative; none where that is 0.
    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>>;
}

/// A number as `R`.
#[inline(always)]
fn r<I: Isa, R: Real<I>>(value: f64) -> R {
    R::from_f64(value)
}

#[derive(Clone, Copy)]
struct Value<A>(A);
#[derive(Clone, Copy)]
struct Slope<A>(A);

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
            impl<A: Activation> Binary<$type, $type> for Slope<A> {
                const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
                #[inline(always)]
                fn call<I: Isa>(self, grad: $type, x: $type) -> $type {
                    grad * self.0.slope::<I, $type>(x)
                }
            }
        )*
    };
}
formulas!(f32, f64);

/// An activation as an operation.
#[derive(Debug, Clone, Copy)]
struct Activate<A>(A);

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
        out.to_dtype(x.dtype())
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
        Ok([Some(apply(ActivateGrad(self.0), [grad, &saved.input(0)?])?)])
    }
}

/// The gradient of an activation, from that of its result and its input.
#[derive(Debug, Clone, Copy)]
struct ActivateGrad<A>(A);

impl<A: Activation> Op<2> for ActivateGrad<A> {
    const NAME: &'static str = A::BACKWARD;

    fn saves(&self, _needs: [bool; 2]) -> Saves<2> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [grad, x]: [&Array; 2]) -> Result<Array> {
        let compute = compute_dtype(x.dtype());
        let (g, y) = (grad.to_dtype(compute)?.broadcast_to(A::BACKWARD, x.shape())?, x.to_dtype(compute)?);
        let out = Array::empty_like(y.layout(), compute)?;
        dispatch_float!(compute, A::BACKWARD, T => zip::<T, T, _>(&g, &y, &out, Slope(self.0)));
        out.to_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let x = saved.input(1)?;
        let by_x = if !saved.needs(1) {
            None
        } else {
            Some(match self.0.curvature(&x)? {
                Some(curvature) => grad * saved.input(0)? * curvature,
                None => Tensor::zeros(x.shape(), x.dtype())?,
            })
        };
        Ok([Some(apply(ActivateGrad(self.0), [grad, &x])?), by_x])
    }
}

const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// 1 / sqrt(2 pi), the normal density at 0.
const DENSITY: f64 = 0.398_942_280_401_432_7;

/// `x` times the normal distribution function.
#[derive(Debug, Clone, Copy)]
struct Gelu;

impl Activation for Gelu {
    const NAME: &'static str = "gelu";
    const BACKWARD: &'static str = "gelu_backward";
    const NODE: &'static str = "GeluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x * r(0.5) * ((x * r(SQRT_HALF)).erf() + r(1.0))
    }

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let below = ((x * r(SQRT_HALF)).erf() + r(1.0)) * r(0.5);
        below + x * (x * x * r(-0.5)).exp() * r(DENSITY)
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
    const BACKWARD: &'static str = "gelu_backward";
    const NODE: &'static str = "GeluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        let inner = x * (x * x * r(TANH_CUBE) + r(1.0)) * r(TANH_SCALE);
        x * r(0.5) * (inner.tanh() + r(1.0))
    }

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
    const BACKWARD: &'static str = "softplus_backward";
    const NODE: &'static str = "SoftplusBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        let scaled = x * r(self.beta);
        let soft = scaled.exp().log1p() / r(self.beta);
        if scaled > r(self.threshold) {
            x
        } else {
            soft
        }
    }

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
        Ok(Some(masked(&curve, &scaled.le_scalar(self.threshold)?)?))
    }
}

/// `x` above 0, `slope x` below.
#[derive(Debug, Clone, Copy)]
struct LeakyRelu(f64);

impl Activation for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const BACKWARD: &'static str = "leaky_relu_backward";
    const NODE: &'static str = "LeakyReluBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        if x > r(0.0) {
            x
        } else {
            x * r(self.0)
        }
    }

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
    const BACKWARD: &'static str = "elu_backward";
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

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let low = (x * r(self.input_scale)).exp() * r(self.alpha * self.scale * self.input_scale);
        if x <= r(0.0) {
            low
        } else {
            r(self.scale)
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
    const BACKWARD: &'static str = "log_sigmoid_backward";
    const NODE: &'static str = "LogSigmoidBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        let negative = if x < r(0.0) { x } else { -x };
        let low = if x > r(0.0) { r(0.0) } else { x };
        low - negative.exp().log1p()
    }

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
    const BACKWARD: &'static str = "hardtanh_backward";
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

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        if x > r(self.min) && x < r(self.max) {
            r(1.0)
        } else {
            r(0.0)
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
    const BACKWARD: &'static str = "hardswish_backward";
    const NODE: &'static str = "HardswishBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        HardTanh { min: 0.0, max: 6.0 }.value::<I, R>(x + r(3.0)) * x / r(6.0)
    }

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        if x <= r(-3.0) {
            r(0.0)
        } else if x >= r(3.0) {
            r(1.0)
        } else {
            x / r(3.0) + r(0.5)
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
    const BACKWARD: &'static str = "hardsigmoid_backward";
    const NODE: &'static str = "HardsigmoidBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        HardTanh { min: 0.0, max: 6.0 }.value::<I, R>(x + r(3.0)) / r(6.0)
    }

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        HardTanh { min: -3.0, max: 3.0 }.slope::<I, R>(x) / r(6.0)
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
    const BACKWARD: &'static str = "mish_backward";
    const NODE: &'static str = "MishBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        x * Softplus { beta: 1.0, threshold: 20.0 }.value::<I, R>(x).tanh()
    }

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
    ensure!(x.dtype() != DType::Bool, DType, "hardtanh: Bool inputs not supported for hardtanh");
    ensure!(
        x.dtype() != DType::U8 || (min >= 0.0 && max >= 0.0),
        Value,
        "hardtanh: cannot do hardtanh on an unsigned type with negative limits {min} and {max}"
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

    /// `relu6(x + 3) / 6`, element-wise.
    pub fn hardsigmoid(&self) -> Result<Tensor> {
        apply(Activate(HardSigmoid), [self])
    }

    /// `x tanh(softplus(x))`, element-wise.
    pub fn mish(&self) -> Result<Tensor> {
        apply(Activate(Mish), [self])
    }
}
