//! float32 powers, through base-2 logarithm and exponential in float64.

use super::{horner64, is_fused};
use crate::simd::Isa;

/// Bits of a value a little below sqrt(1/2).
const SQRT_HALF: u64 = 0x3fe6_a09e_0000_0000;
const BIAS: u64 = 1023 << 52;
/// Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Base-2 logarithm of a positive finite float32 in float64, to about 1e-13 relative.
#[inline(always)]
pub(super) fn log2_wide<I: Isa>(x: f64) -> f64 {
    let bits = x.to_bits();
    // Exponent plus 1023: never negative for a float32, so that the shift needs no sign (AVX2 has none).
    let biased = bits.wrapping_sub(SQRT_HALF).wrapping_add(BIAS) >> 52;
    // Into the low bits of 2^52: an integer conversion that every instruction set can do.
    let exponent = f64::from_bits(biased | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let m = f64::from_bits(bits.wrapping_sub(biased << 52).wrapping_add(BIAS));
    let s = (m - 1.0) / (m + 1.0);
    let p = horner64::<I, 6>(
        s * s,
        [
            2.885_390_081_777_848_6,
            0.961_796_694_116_049_07,
            0.577_077_941_542_514_46,
            0.412_209_338_946_366_52,
            0.319_902_009_953_116_35,
            0.282_954_700_803_009_995,
        ],
    );
    I::fma64(s, p, exponent)
}

/// 2 to the power of `x` in float64, to about 1e-12 relative, for results that fit a float32.
#[inline(always)]
fn exp2_wide<I: Isa>(x: f64) -> f64 {
    let x = if x > 140.0 { 140.0 } else { x };
    let x = if x < -160.0 { -160.0 } else { x };
    let t = x + ROUND;
    let p = horner64::<I, 9>(
        x - (t - ROUND),
        [
            1.0,
            0.693_147_180_545_886_31,
            0.240_226_506_954_675_15,
            5.550_410_941_396_188_9e-2,
            9.618_129_228_570_958_6e-3,
            1.333_345_038_546_721_7e-3,
            1.540_341_157_314_972_2e-4,
            1.531_012_792_039_154_8e-5,
            1.326_408_047_902_438_8e-6,
        ],
    );
    p * f64::from_bits((t.to_bits() << 52).wrapping_add(BIAS))
}

/// `x` to the power of `y`, with the special values of C's `pow`.
#[inline(always)]
pub(super) fn pow32<I: Isa>(x: f32, y: f32) -> f32 {
    if !is_fused::<I>() {
        // Without SSE4.1, trunc would be a call for each element anyway.
        return x.powf(y);
    }
    let a = x.abs();
    let log = log2_wide::<I>(f64::from(a));
    let log = if a == 0.0 { f64::NEG_INFINITY } else { log };
    let log = if a < f32::INFINITY { log } else { f64::from(a) };
    let r = exp2_wide::<I>(f64::from(y) * log) as f32;
    // 1^(+-inf), where the product above was 0 * inf; y = nan stays nan unless x is 1.
    let r = if (a == 1.0) & (y.abs() == f32::INFINITY) { 1.0 } else { r };
    let is_integer = y.trunc() == y;
    let half = y * 0.5;
    let is_odd = is_integer & (half.trunc() != half);
    let is_negative = x.to_bits() >> 31 != 0;
    let r = if is_negative & is_odd { -r } else { r };
    // A negative finite base has real powers for integers only.
    let r = if (x < 0.0) & (x > f32::NEG_INFINITY) & !is_integer { f32::NAN } else { r };
    if (y == 0.0) | (x == 1.0) {
        1.0
    } else {
        r
    }
}
