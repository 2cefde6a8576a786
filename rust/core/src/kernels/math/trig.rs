//! float32 sine, cosine and tangent, with the argument reduced in float64 without branches.
//!
//! `x = n pi/2 + r`: with fused multiply-add and pi/2 in two parts, `r` is right up to `|x| = 2^44`.
//! Larger arguments are first written as `x = m 2^k` with an integer `m < 2^44`, and `2^k` is replaced
//! by its remainder modulo 2 pi, so every float32 is reduced exactly.

use super::{horner32, is_fused};
use crate::simd::Isa;

/// Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
const HALF_PI_HI: f64 = std::f64::consts::FRAC_PI_2;
const HALF_PI_LO: f64 = 6.123_233_995_736_766e-17;

/// The value for arguments of magnitude `a` from 0, 2^44, 2^65, 2^86 and 2^107 on.
///
/// A chain of selects between plain values: a branch or a table would keep the loop scalar.
#[inline(always)]
fn pick(a: f32, v0: f64, v44: f64, v65: f64, v86: f64, v107: f64) -> f64 {
    let value = if a >= 1.759_218_604_441_6e13 { v44 } else { v0 };
    let value = if a >= 3.689_348_814_741_910_3e19 { v65 } else { value };
    let value = if a >= 7.737_125_245_533_627e25 { v86 } else { value };
    if a >= 1.622_592_768_292_133_6e32 {
        v107
    } else {
        value
    }
}

/// `2^-k`: the scaled argument is an integer below 2^44 in all but the first range.
#[inline(always)]
fn scale(a: f32) -> f64 {
    pick(
        a,
        1.0,
        4.768_371_582_031_25e-7,
        2.273_736_754_432_320_6e-13,
        1.084_202_172_485_504_4e-19,
        5.169_878_828_456_423e-26,
    )
}

/// `2^k` modulo 2 pi, in two parts.
#[inline(always)]
fn turn(a: f32) -> (f64, f64) {
    let high = pick(
        a,
        1.0,
        0.673_652_055_062_423_6,
        1.671_000_170_672_020_3,
        1.558_995_976_420_942_7,
        2.338_537_542_178_235,
    );
    let low = pick(
        a,
        0.0,
        4.399_545_655_382_635e-17,
        -3.073_001_941_088_177e-17,
        2.330_523_978_226_666_5e-17,
        -8.107_164_398_512_609e-17,
    );
    (high, low)
}

/// The remainder of `x` modulo pi/2, between -pi/4 and pi/4, and the number of the quadrant.
#[inline(always)]
fn reduce<I: Isa>(x: f32) -> (f32, u32) {
    let a = x.abs();
    let m = f64::from(x) * scale(a);
    let (turn, turn_low) = turn(a);
    let p = m * turn;
    let p_low = I::fma64(m, turn_low, I::fma64(m, turn, -p));
    let t = I::fma64(p, std::f64::consts::FRAC_2_PI, ROUND);
    let n = t - ROUND;
    let r = I::fma64(-n, HALF_PI_HI, p);
    let r = I::fma64(-n, HALF_PI_LO, r) + p_low;
    (r as f32, t.to_bits() as u32)
}

/// Sine of a reduced argument.
#[inline(always)]
fn sin_series<I: Isa>(r: f32, z: f32) -> f32 {
    let q = horner32::<I, 3>(z, [-0.166_666_548_028_99, 8.332_168_926_286_58e-3, -1.951_601_198_769e-4]);
    I::fma32(q * z, r, r)
}

/// Cosine of a reduced argument whose square is `z`.
#[inline(always)]
fn cos_series<I: Isa>(z: f32) -> f32 {
    let q = horner32::<I, 3>(z, [4.166_664_662_850_06e-2, -1.388_735_536_583_13e-3, 2.443_700_782_125_6e-5]);
    I::fma32(q * z, z, I::fma32(z, -0.5, 1.0))
}

/// `even` or `odd` as `n` is; by masks, so that neither is computed in a branch.
#[inline(always)]
fn choose(n: u32, even: f32, odd: f32) -> f32 {
    let mask = (n & 1).wrapping_neg();
    f32::from_bits((even.to_bits() & !mask) | (odd.to_bits() & mask))
}

/// Sine, `quarter` quarter turns ahead.
#[inline(always)]
fn sine<I: Isa>(x: f32, quarter: u32) -> f32 {
    let (r, n) = reduce::<I>(x);
    let n = n.wrapping_add(quarter);
    let z = r * r;
    let (s, c) = (sin_series::<I>(r, z), cos_series::<I>(z));
    f32::from_bits(choose(n, s, c).to_bits() ^ ((n & 2) << 30))
}

/// Sine.
#[inline(always)]
pub(super) fn sin32<I: Isa>(x: f32) -> f32 {
    if !is_fused::<I>() {
        return x.sin();
    }
    let y = sine::<I>(x, 0);
    // Keeps -0 and denormals.
    if x.abs() < 1e-4 {
        x
    } else {
        y
    }
}

/// Cosine.
#[inline(always)]
pub(super) fn cos32<I: Isa>(x: f32) -> f32 {
    if !is_fused::<I>() {
        return x.cos();
    }
    sine::<I>(x, 1)
}

/// Tangent.
#[inline(always)]
pub(super) fn tan32<I: Isa>(x: f32) -> f32 {
    if !is_fused::<I>() {
        return x.tan();
    }
    let (r, n) = reduce::<I>(x);
    let z = r * r;
    let (s, c) = (sin_series::<I>(r, z), cos_series::<I>(z));
    let y = choose(n, s, c) / choose(n, c, -s);
    if x.abs() < 1e-4 {
        x
    } else {
        y
    }
}
