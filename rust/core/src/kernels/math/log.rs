//! float32 logarithms: `x = 2^e m` with `m` between sqrt(1/2) and sqrt(2), a polynomial in `m - 1`.

use super::{horner32, pow};
use crate::simd::Isa;

// ln2 in two parts; the first has few bits, so that e times it is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Bits of sqrt(1/2).
const SQRT_HALF: u32 = 0x3f35_04f3;

/// `ln(2^exponent (1 + f))`.
#[inline(always)]
fn ln_series<I: Isa>(f: f32, exponent: f32) -> f32 {
    let p = horner32::<I, 9>(
        f,
        [
            0.333_333_126_040_570_3,
            -0.250_000_095_994_186_7,
            0.200_021_186_591_576,
            -0.166_679_958_530_048,
            0.142_195_523_530_576,
            -0.124_055_889_334_782,
            0.118_881_623_385_753,
            -0.116_756_517_610_125,
            0.067_466_402_821_0,
        ],
    );
    let square = f * f;
    let tail = I::fma32(exponent, LN2_LO, f * square * p);
    let tail = I::fma32(square, -0.5, tail);
    I::fma32(exponent, LN2_HI, f + tail)
}

/// Natural logarithm: -inf at 0, nan below.
#[inline(always)]
pub(super) fn ln32<I: Isa>(x: f32) -> f32 {
    let is_tiny = x < f32::MIN_POSITIVE;
    let y = if is_tiny { x * 8_388_608.0 } else { x };
    let bits = y.to_bits().wrapping_sub(SQRT_HALF) as i32;
    let exponent = (bits >> 23) as f32 - if is_tiny { 23.0 } else { 0.0 };
    let m = f32::from_bits(((bits & 0x7f_ffff) as u32).wrapping_add(SQRT_HALF));
    let result = ln_series::<I>(m - 1.0, exponent);
    // inf and nan stay what they are.
    let result = if x < f32::INFINITY { result } else { x };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x < 0.0 {
        f32::NAN
    } else {
        result
    }
}

/// `ln(1 + x)`.
#[inline(always)]
pub(super) fn log1p_32<I: Isa>(x: f32) -> f32 {
    let u = 1.0 + x;
    // What the sum lost, exactly: the larger term is subtracted first.
    let lost = if x < 1.0 { x - (u - 1.0) } else { 1.0 - (u - x) };
    let bits = u.to_bits().wrapping_sub(SQRT_HALF) as i32;
    let e = bits >> 23;
    let m = f32::from_bits(((bits & 0x7f_ffff) as u32).wrapping_add(SQRT_HALF));
    // 2^-e; from 2^127 on it is 0, where nothing that was lost matters.
    let scale = f32::from_bits((127_i32.wrapping_sub(e).max(0) << 23) as u32);
    let result = ln_series::<I>(I::fma32(lost, scale, m - 1.0), e as f32);
    let result = if x < f32::INFINITY { result } else { x };
    let result = if x == -1.0 { f32::NEG_INFINITY } else { result };
    // Keeps -0 and denormals.
    let result = if x.abs() < 5e-8 { x } else { result };
    if x < -1.0 {
        f32::NAN
    } else {
        result
    }
}

/// The special values that all logarithms share, and `finite` elsewhere.
#[inline(always)]
fn or_special(x: f32, finite: f32) -> f32 {
    let result = if x < f32::INFINITY { finite } else { x };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x < 0.0 {
        f32::NAN
    } else {
        result
    }
}

/// Logarithm to base 2, through float64.
#[inline(always)]
pub(super) fn log2_32<I: Isa>(x: f32) -> f32 {
    or_special(x, pow::log2_wide::<I>(f64::from(x)) as f32)
}

/// Logarithm to base 10, through float64.
#[inline(always)]
pub(super) fn log10_32<I: Isa>(x: f32) -> f32 {
    or_special(x, (pow::log2_wide::<I>(f64::from(x)) * std::f64::consts::LOG10_2) as f32)
}
