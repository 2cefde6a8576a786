//! Exponentials: `x = n ln2 + r` with `|r| <= ln2 / 2`, a polynomial in `r`, scaled by `2^n`.

use super::{horner32, horner64};
use crate::simd::Isa;

/// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
pub(super) const ROUND32: f32 = 12_582_912.0;
// ln2 in two parts; the first has few bits, so that n times it is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// `expm1(r)` for the reduced argument, and `x`'s rounded multiple of ln2 as `n + ROUND32`.
#[inline(always)]
pub(super) fn reduce32<I: Isa>(x: f32) -> (f32, f32) {
    let t = I::fma32(x, std::f32::consts::LOG2_E, ROUND32);
    let n = t - ROUND32;
    let r = I::fma32(n, -LN2_LO, I::fma32(n, -LN2_HI, x));
    let q = horner32::<I, 5>(
        r,
        [0.500_000_006_208_648_9, 0.166_665_427_936_995, 0.041_666_281, 0.008_366_610_6, 0.001_394_649_7],
    );
    (I::fma32(q * r, r, r), t)
}

/// `2^n` for `t = n + ROUND32` and `-126 <= n <= 127`; infinity for 128.
#[inline(always)]
pub(super) fn power_of_two32(t: f32) -> f32 {
    // The bits of ROUND32 leave the word on the left.
    f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// e to the power of `x`; denormal results are kept.
#[inline(always)]
pub(super) fn exp32<I: Isa>(x: f32) -> f32 {
    // Beyond these bounds the result is 0 or inf; nan passes both selects.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (p, t) = reduce32::<I>(x);
    // n runs from -150 to 128, so 2^n is applied as two factors.
    let n = t.to_bits().wrapping_sub(ROUND32.to_bits()) as i32;
    let half = n >> 1;
    let first = f32::from_bits((half.wrapping_add(127) << 23) as u32);
    let second = f32::from_bits((n.wrapping_sub(half).wrapping_add(127) << 23) as u32);
    (p + 1.0) * first * second
}

/// `exp(x)` for `-87 <= x <= 0`.
#[inline(always)]
pub(super) fn exp_negative32<I: Isa>(x: f32) -> f32 {
    let (p, t) = reduce32::<I>(x);
    let scale = power_of_two32(t);
    I::fma32(p, scale, scale)
}

/// `exp(x)` for `x <= 0`, or a little above; 0 below -87: cheaper than the two factors of [`exp32`].
#[inline(always)]
pub(in crate::kernels) fn exp_or_zero32<I: Isa>(x: f32) -> f32 {
    let y = exp_negative32::<I>(if x < -87.0 { -87.0 } else { x });
    if x < -87.0 {
        0.0
    } else {
        y
    }
}

/// `exp(x) - 1`.
#[inline(always)]
pub(super) fn expm1_32<I: Isa>(x: f32) -> f32 {
    let y = if x > 89.0 { 89.0 } else { x };
    let y = if y < -18.0 { -18.0 } else { y };
    let (p, t) = reduce32::<I>(y);
    // Half of it, so that the scale of the largest finite results is finite.
    let scale = power_of_two32(t - 1.0);
    let result = 2.0 * I::fma32(p, scale, scale - 0.5);
    // Keeps -0 and denormals.
    if x.abs() < 5e-8 {
        x
    } else {
        result
    }
}

/// Adding 1.5 * 2^52 rounds a float64 to an integer, which then stands in the low bits.
const ROUND64: f64 = 6_755_399_441_055_744.0;
// The first part ends in 21 zero bits.
const LN2_HI64: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LO64: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// 1 / k! from k = 2 on; the first that is left out is 4e-18 of the result.
const FACTORS: [f64; 12] = [
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// As [`reduce32`], in float64.
#[inline(always)]
pub(super) fn reduce64<I: Isa>(x: f64) -> (f64, f64) {
    let t = I::fma64(x, std::f64::consts::LOG2_E, ROUND64);
    let n = t - ROUND64;
    let r = I::fma64(n, -LN2_LO64, I::fma64(n, -LN2_HI64, x));
    (I::fma64(horner64::<I, 12>(r, FACTORS) * r, r, r), t)
}

/// `2^n` for `t = n + ROUND64` and `-1022 <= n <= 1023`; infinity for 1024.
#[inline(always)]
pub(super) fn power_of_two64(t: f64) -> f64 {
    f64::from_bits((t.to_bits() << 52).wrapping_add(0x3ff0_0000_0000_0000))
}

/// e to the power of `x` in float64, within an ulp; denormal results are kept. The standard library's, one by one,
/// takes six times as long.
#[inline(always)]
pub(super) fn exp64<I: Isa>(x: f64) -> f64 {
    // Beyond these bounds the result is 0 or inf; nan passes both selects.
    let x = if x > 710.0 { 710.0 } else { x };
    let x = if x < -746.0 { -746.0 } else { x };
    let (p, t) = reduce64::<I>(x);
    // n runs from -1077 to 1024, so 2^n is applied as two factors; the exponents stay positive, for AVX2 cannot
    // shift a sign.
    let n = t.to_bits().wrapping_sub(ROUND64.to_bits()).wrapping_add(2 * 1023);
    let half = n >> 1;
    (1.0 + p) * f64::from_bits(half << 52) * f64::from_bits(n.wrapping_sub(half) << 52)
}
