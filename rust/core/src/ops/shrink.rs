//! Functions that flatten a part of the line: a threshold, hard and soft shrinking. Nan lies outside of that part.

use super::activation::{Activate, Activation};
use super::fused::{r, Rule};
use crate::autograd::{apply::apply, inplace::apply_inplace};
use crate::kernels::math::Real;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::Result;

/// A rule of slope 1 where the function is not flat.
macro_rules! flat_in_part {
    ($type:ident, $backward:literal) => {
        impl Rule for $type {
            const BACKWARD: &'static str = $backward;

            #[inline(always)]
            fn slope<I: Isa, R: Real<I>>(self, x: R) -> R {
                self.backward::<I, R>(r(1.0), x)
            }

            #[inline(always)]
            fn backward<I: Isa, R: Real<I>>(self, grad: R, x: R) -> R {
                if self.is_flat::<I, R>(x) {
                    r(0.0)
                } else {
                    grad
                }
            }

            fn curvature(self, _: &Tensor) -> Result<Option<Tensor>> {
                Ok(None)
            }
        }
    };
}

/// `x` above the threshold, `value` elsewhere.
#[derive(Debug, Clone, Copy)]
struct Threshold {
    threshold: f64,
    value: f64,
}

impl Threshold {
    #[inline(always)]
    fn is_flat<I: Isa, R: Real<I>>(self, x: R) -> bool {
        x <= r(self.threshold)
    }
}

flat_in_part!(Threshold, "threshold_backward");
impl Activation for Threshold {
    const NAME: &'static str = "threshold";
    const NODE: &'static str = "ThresholdBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        if self.is_flat::<I, R>(x) {
            r(self.value)
        } else {
            x
        }
    }
}

#[inline(always)]
fn is_near_zero<I: Isa, R: Real<I>>(x: R, reach: f64) -> bool {
    x >= r(-reach) && x <= r(reach)
}

/// `x`, and 0 from `-reach` to `reach`.
#[derive(Debug, Clone, Copy)]
struct HardShrink {
    reach: f64,
}

impl HardShrink {
    #[inline(always)]
    fn is_flat<I: Isa, R: Real<I>>(self, x: R) -> bool {
        is_near_zero(x, self.reach)
    }
}

flat_in_part!(HardShrink, "hardshrink_backward");
impl Activation for HardShrink {
    const NAME: &'static str = "hardshrink";
    const NODE: &'static str = "HardshrinkBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        if self.is_flat::<I, R>(x) {
            r(0.0)
        } else {
            x
        }
    }
}

/// `x` moved by `reach` towards 0, and 0 from `-reach` to `reach`.
#[derive(Debug, Clone, Copy)]
struct SoftShrink {
    reach: f64,
}

impl SoftShrink {
    #[inline(always)]
    fn is_flat<I: Isa, R: Real<I>>(self, x: R) -> bool {
        is_near_zero(x, self.reach)
    }
}

flat_in_part!(SoftShrink, "softshrink_backward");
impl Activation for SoftShrink {
    const NAME: &'static str = "softshrink";
    const NODE: &'static str = "SoftshrinkBackward0";

    #[inline(always)]
    fn value<I: Isa, R: Real<I>>(self, x: R) -> R {
        let high = x - r(self.reach);
        let low = x + r(self.reach);
        if x > r(self.reach) {
            high
        } else if x < r(-self.reach) {
            low
        } else {
            x * r(0.0)
        }
    }
}

impl Tensor {
    /// `x` above `threshold`, `value` elsewhere.
    pub fn threshold(&self, threshold: f64, value: f64) -> Result<Tensor> {
        apply(Activate(Threshold { threshold, value }), [self])
    }

    /// In-place [`Tensor::threshold`].
    pub fn threshold_(&self, threshold: f64, value: f64) -> Result<()> {
        apply_inplace(Activate(Threshold { threshold, value }), [self])
    }

    /// `x`, and 0 where its size is at most `reach`.
    pub fn hardshrink(&self, reach: f64) -> Result<Tensor> {
        apply(Activate(HardShrink { reach }), [self])
    }

    /// `x` moved by `reach` towards 0, and 0 where its size is at most `reach`.
    pub fn softshrink(&self, reach: f64) -> Result<Tensor> {
        apply(Activate(SoftShrink { reach }), [self])
    }
}
