//! Gradients of element-wise functions in one pass over the elements: a slope for the fused kernel, and the
//! slope's own derivative in tensor operations, from which all further derivatives follow.

use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves};
use crate::dispatch_float;
use crate::kernels::map::{zip, Binary, GRAIN_COSTLY};
use crate::kernels::math::Real;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::Result;
use std::fmt::Debug;

/// How a gradient goes back through a function of one float, with the function's arguments in its fields. `x` is
/// what the rule reads: the function's input, or its result where the derivative follows from that.
pub(super) trait Rule: Copy + Debug + Send + Sync + 'static {
    /// The gradient's name in messages.
    const BACKWARD: &'static str;
    /// The derivative.
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R;
    /// The gradient times the derivative. Where that is flat the gradient may be infinite, and yet gives 0.
    #[inline(always)]
    fn backward<I: Isa, R: Real<I>>(self, grad: R, x: R) -> R {
        grad * self.slope::<I, R>(x)
    }
    /// The derivative of `slope`, by what that reads; none where it is 0.
    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>>;
}

/// A number as `R`.
#[inline(always)]
pub(super) fn r<I: Isa, R: Real<I>>(value: f64) -> R {
    R::from_f64(value)
}

#[derive(Clone, Copy)]
struct Slope<A>(A);

macro_rules! formulas {
    ($($type:ty),*) => {
        $(
            impl<A: Rule> Binary<$type, $type> for Slope<A> {
                const GRAIN: usize = GRAIN_COSTLY;
                const WIDE: bool = true;
                const ALIKE: bool = true;
                #[inline(always)]
                fn call<I: Isa>(self, grad: $type, x: $type) -> $type {
                    self.0.backward::<I, $type>(grad, x)
                }
            }
        )*
    };
}
formulas!(f32, f64);

/// A gradient times a function's derivative, from that of its result and its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct WithSlope<A>(pub A);

impl<A: Rule> Op<2> for WithSlope<A> {
    const NAME: &'static str = A::BACKWARD;

    fn saves(&self, _needs: [bool; 2]) -> Saves<2> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [grad, x]: [&Array; 2]) -> Result<Array> {
        let compute = compute_dtype(x.dtype());
        let (g, y) = (grad.to_dtype(compute)?.broadcast_to(A::BACKWARD, x.shape())?, x.to_dtype(compute)?);
        let out = Array::empty_like(y.layout(), compute)?;
        dispatch_float!(compute, A::BACKWARD, T => zip::<T, T, _>(&g, &y, &out, Slope(self.0)));
        out.into_dtype(x.dtype())
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
        let by_grad = saved.needs(0).then(|| apply(WithSlope(self.0), [grad, &x])).transpose()?;
        Ok([by_grad, by_x])
    }
}

// The gradients of rows of `unary.rs`, in one pass; those of `relu`, `tanh` and `sigmoid` read the result.

#[derive(Debug, Clone, Copy)]
struct ReluRule;

impl Rule for ReluRule {
    const BACKWARD: &'static str = "threshold_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, y: R) -> R {
        self.backward::<I, R>(r(1.0), y)
    }

    #[inline(always)]
    fn backward<I: Isa, R: Real<I>>(self, grad: R, y: R) -> R {
        if y <= r(0.0) {
            r(0.0)
        } else {
            grad
        }
    }

    fn curvature(self, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

#[derive(Debug, Clone, Copy)]
struct TanhRule;

impl Rule for TanhRule {
    const BACKWARD: &'static str = "tanh_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, y: R) -> R {
        r::<I, R>(1.0) - y * y
    }

    fn curvature(self, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(y * -2.0))
    }
}

#[derive(Debug, Clone, Copy)]
struct SigmoidRule;

impl Rule for SigmoidRule {
    const BACKWARD: &'static str = "sigmoid_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, y: R) -> R {
        y * (r::<I, R>(1.0) - y)
    }

    fn curvature(self, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(1.0 - y * 2.0))
    }
}

#[derive(Debug, Clone, Copy)]
struct SiluRule;

impl Rule for SiluRule {
    const BACKWARD: &'static str = "silu_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
        let s = x.sigmoid();
        s * (x * (r::<I, R>(1.0) - s) + r(1.0))
    }

    fn curvature(self, x: &Tensor) -> Result<Option<Tensor>> {
        let s = x.sigmoid()?;
        let slope = &s * (1.0 - &s);
        Ok(Some(slope * (2.0 + x * (1.0 - s * 2.0))))
    }
}

/// Gradient of `relu` from that of its result `y`.
pub(super) fn relu_grad(grad: &Tensor, y: &Tensor) -> Result<Tensor> {
    apply(WithSlope(ReluRule), [grad, y])
}

/// Gradient of `tanh` from that of its result `y`.
pub(super) fn tanh_grad(grad: &Tensor, y: &Tensor) -> Result<Tensor> {
    apply(WithSlope(TanhRule), [grad, y])
}

/// Gradient of `sigmoid` from that of its result `y`.
pub(super) fn sigmoid_grad(grad: &Tensor, y: &Tensor) -> Result<Tensor> {
    apply(WithSlope(SigmoidRule), [grad, y])
}

/// Gradient of `silu` from that of its result and its input.
pub(super) fn silu_grad(grad: &Tensor, x: &Tensor) -> Result<Tensor> {
    apply(WithSlope(SiluRule), [grad, x])
}
