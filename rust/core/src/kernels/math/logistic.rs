//! The logistic function, times any numerator: `y / (1 + exp(-x))`.
//!
//! A quarter of both is divided, so that 2^n is finite wherever the result is not 0. With `exp(-x) = 2^n (1 + p)` the
//! smaller one of 1 and 2^n is added to `2^n p` first, so that what is rounded twice is small: 2 ulp. (`1 + exp(-x)` has
//! 2.2; so has `fma(p, 2^n, 2^n + 1)`, for 2^24 + 1 is no float32.)

use super::exp::{power_of_two32, power_of_two64, reduce32, reduce64};
use crate::simd::Isa;

/// `y / (1 + exp(-x))` of float32; 0 below -89.4.
#[inline(always)]
pub(super) fn logistic32<I: Isa>(x: f32, y: f32) -> f32 {
    let x = if x > 60.0 { 60.0 } else { x };
    // 2^n is infinite there, and p is positive.
    let x = if x < -89.4 { -90.3 } else { x };
    let (p, t) = reduce32::<I>(-x);
    let scale = power_of_two32(t - 2.0);
    let large = if scale > 0.25 { scale } else { 0.25 };
    let small = if scale > 0.25 { 0.25 } else { scale };
    y * 0.25 / (I::fma32(p, scale, small) + large)
}

/// `y / (1 + exp(-x))` of float64; 0 below -710.4.
#[inline(always)]
pub(super) fn logistic64<I: Isa>(x: f64, y: f64) -> f64 {
    let x = if x > 60.0 { 60.0 } else { x };
    // As above.
    let x = if x < -710.4 { -711.3 } else { x };
    let (p, t) = reduce64::<I>(-x);
    let scale = power_of_two64(t - 2.0);
    let large = if scale > 0.25 { scale } else { 0.25 };
    let small = if scale > 0.25 { 0.25 } else { scale };
    y * 0.25 / (I::fma64(p, scale, small) + large)
}
