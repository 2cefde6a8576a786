//! Gradients of `maximum` and `minimum`: to the winner, by halves where both are equal.

use super::binary::{operands, result_like};
use super::fused::{r, Rule, WithSlope};
use crate::autograd::apply::apply;
use crate::dispatch_float;
use crate::kernels::map::{zip, Binary, GRAIN_CHEAP};
use crate::kernels::math::Real;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::Result;

/// What the first of two gets of the gradient of the larger: all, half or nothing of it. Where one is nan neither
/// has lost, and both get all of it.
#[derive(Debug, Clone, Copy)]
struct Share;

macro_rules! shares {
    ($($type:ty),*) => {
        $(
            impl Binary<$type, $type> for Share {
                const GRAIN: usize = GRAIN_CHEAP;
                #[inline(always)]
                fn call<I: Isa>(self, a: $type, b: $type) -> $type {
                    1.0 - 0.5 * (<$type>::from(a < b) + <$type>::from(a <= b))
                }
            }
        )*
    };
}
shares!(f32, f64);

#[derive(Debug, Clone, Copy)]
struct ShareRule;

impl Rule for ShareRule {
    const BACKWARD: &'static str = "winner_backward";

    #[inline(always)]
    fn slope<I: Isa, R: Real<I>>(self, share: R) -> R {
        share
    }

    #[inline(always)]
    fn backward<I: Isa, R: Real<I>>(self, grad: R, share: R) -> R {
        // Chosen, not multiplied: an infinite gradient times 0 is nan.
        if share == r(0.0) {
            r(0.0)
        } else {
            grad * share
        }
    }

    fn curvature(self, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Of the gradient of an extremum of `a` and `b` what goes to `a`.
pub(super) fn winner_grad(name: &str, grad: &Tensor, a: &Tensor, b: &Tensor, larger: bool) -> Result<Tensor> {
    let (a, b) = if larger { (a, b) } else { (b, a) };
    let (a, b) = operands(name, a.array(), b.array(), grad.dtype())?;
    let share = result_like(&a, &b, a.dtype())?;
    dispatch_float!(a.dtype(), name, T => zip::<T, T, _>(&a, &b, &share, Share));
    apply(WithSlope(ShareRule), [grad, &Tensor::constant(share.to_dtype(grad.dtype())?)])
}
