//! The error function: near 0 `x + x p(x^2)`, further out 1 less a tail. Those polynomials are by Remez exchange,
//! weighted with what they count in the result.
//!
//! The tail of float64 follows W. J. Cody, "Rational Chebyshev approximations for the error function",
//! Math. Comp. 23 (1969): his intervals and coefficients from 0.46875 on.

use super::exp::{exp64, power_of_two32, ROUND32};
use super::{horner32, horner64, is_fused};
use crate::simd::Isa;

/// Error function of a float32.
#[inline(always)]
pub(super) fn erf32<I: Isa>(x: f32) -> f32 {
    let a = x.abs();
    // From 4 on the result is 1.
    let a = if a > 4.0 { 4.0 } else { a };
    // Within 2^-26.3 of erf.
    let p = horner32::<I, 6>(
        a * a,
        [
            0.128_379_153_8,
            -0.376_125_232_7,
            0.112_821_407_7,
            -0.026_778_907_17,
            0.005_011_960_08,
            -0.000_609_034_550_9,
        ],
    );
    let near = I::fma32(a, p, a);
    // The tail as 2^q, where q fits log2(1 - erf): within 2^-29 of erf.
    let q = horner32::<I, 7>(
        a,
        [
            -0.000_240_132_113_9,
            -1.627_067_489,
            -0.918_962_246_6,
            -0.150_204_269_5,
            0.032_194_033_16,
            -0.004_422_562_733,
            0.000_285_969_863_7,
        ],
    );
    // q = n + f with |f| <= 1/2; `2^f - 1` within 2^-25.7 of erf.
    let t = q + ROUND32;
    let f = q - (t - ROUND32);
    let p = f * horner32::<I, 5>(
        f,
        [0.693_146_888_1, 0.240_222_217_1, 0.055_508_306_67, 0.009_672_455_699, 0.001_324_113_746],
    );
    let scale = power_of_two32(t);
    let far = I::fma32(-p, scale, 1.0 - scale);
    (if a < 0.9 { near } else { far }).copysign(x)
}

/// Error function of a float64.
#[inline(always)]
pub(super) fn erf64<I: Isa>(x: f64) -> f64 {
    let a = x.abs();
    if a < 0.85 {
        return near::<I>(x);
    }
    if x.is_nan() {
        return x;
    }
    let tail = if a < 6.0 { tail::<I>(a) } else { 0.0 };
    (1.0 - tail).copysign(x)
}

/// `1 - erf(x)` of a float64, without losing the digits of its right tail.
#[inline(always)]
pub(super) fn erfc64<I: Isa>(x: f64) -> f64 {
    if x > -0.85 && x <= 0.46875 {
        return 1.0 - near::<I>(x);
    }
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    // erfc underflows from 27.3 on.
    let tail = if a < 28.0 { tail::<I>(a) } else { 0.0 };
    if x < 0.0 {
        2.0 - tail
    } else {
        tail
    }
}

/// `erf(x)` below 0.85: the polynomial is within 2^-62 of it.
#[inline(always)]
fn near<I: Isa>(x: f64) -> f64 {
    let p = horner64::<I, 12>(
        x * x,
        [
            0.128_379_167_095_512_574,
            -0.376_126_389_031_837_453,
            0.112_837_916_709_546_585,
            -0.026_866_170_645_011_530_7,
            0.005_223_977_623_853_922_99,
            -0.000_854_832_689_885_777_737,
            0.000_120_553_267_709_511_762,
            -0.000_014_925_445_950_375_850_4,
            1.645_760_809_238_188_33e-6,
            -1.629_979_391_930_045_63e-7,
            1.418_551_025_593_354_47e-8,
            -8.826_994_532_991_192_56e-10,
        ],
    );
    // A sum of zeros of either sign would be 0.
    I::fma64(x.abs(), p, x.abs()).copysign(x)
}

/// `1 - erf(a)` from 0.46875 on.
#[inline(always)]
fn tail<I: Isa>(a: f64) -> f64 {
    let scaled = if a <= 4.0 { middle::<I>(a) } else { far::<I>(a) };
    // exp(-a^2): the square of a's upper half is exact, and that leaves `rest`, below 3e-5.
    let upper = f64::from_bits(a.to_bits() & !0x7ff_ffff);
    let rest = (upper - a) * (upper + a);
    let e = if is_fused::<I>() { exp64::<I>(-upper * upper) } else { (-upper * upper).exp() };
    I::fma64(e, rest * horner64::<I, 3>(rest, [1.0, 0.5, 1.0 / 6.0]), e) * scaled
}

/// `exp(a^2) erfc(a)` up to 4.
#[inline(always)]
fn middle<I: Isa>(a: f64) -> f64 {
    const P: [f64; 9] = [
        1.23033935479799725e3,
        2.05107837782607147e3,
        1.71204761263407058e3,
        8.81952221241769090e2,
        2.98635138197400131e2,
        6.61191906371416295e1,
        8.88314979438837594e0,
        5.64188496988670089e-1,
        2.15311535474403846e-8,
    ];
    const Q: [f64; 9] = [
        1.23033935480374942e3,
        3.43936767414372164e3,
        4.36261909014324716e3,
        3.29079923573345963e3,
        1.62138957456669019e3,
        5.37181101862009858e2,
        1.17693950891312499e2,
        1.57449261107098347e1,
        1.0,
    ];
    horner64::<I, 9>(a, P) / horner64::<I, 9>(a, Q)
}

/// `exp(a^2) erfc(a)` from 4 on.
#[inline(always)]
fn far<I: Isa>(a: f64) -> f64 {
    const P: [f64; 6] = [
        6.58749161529837803e-4,
        1.60837851487422766e-2,
        1.25781726111229246e-1,
        3.60344899949804439e-1,
        3.05326634961232344e-1,
        1.63153871373020978e-2,
    ];
    const Q: [f64; 6] = [
        2.33520497626869185e-3,
        6.05183413124413191e-2,
        5.27905102951428412e-1,
        1.87295284992346725e0,
        2.56852019228982242e0,
        1.0,
    ];
    const FRAC_1_SQRT_PI: f64 = 0.564_189_583_547_756_3;
    let z = 1.0 / (a * a);
    (FRAC_1_SQRT_PI - z * horner64::<I, 6>(z, P) / horner64::<I, 6>(z, Q)) / a
}
