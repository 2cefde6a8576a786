//! The error function.
//!
//! float64 follows W. J. Cody, "Rational Chebyshev approximations for the error function",
//! Math. Comp. 23 (1969): his three intervals and coefficients.

use super::{exp, horner32};
use crate::simd::Isa;

/// Error function of a float32.
#[inline(always)]
pub(super) fn erf32<I: Isa>(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let near = x * horner32::<I, 7>(
        z,
        [
            1.128_379_165_913_766_97,
            -0.376_126_271_360_780,
            0.112_836_001_775_759,
            -2.685_444_464_846_75e-2,
            5.189_535_448_882_53e-3,
            -8.020_842_256_844_48e-4,
            7.889_122_798_177_53e-5,
        ],
    );
    // Further out 1 - exp(q), where q fits ln(1 - erf); from 4 on the result is 1.
    let b = if a > 4.0 { 4.0 } else { a };
    let q = horner32::<I, 8>(
        b,
        [
            1.692_040_569_380_99e-4,
            -1.129_488_400_909_284,
            -0.633_400_862_829_076,
            -0.108_220_369_920_439,
            2.508_060_670_989_31e-2,
            -4.156_250_942_065_64e-3,
            4.313_926_901_400_82e-4,
            -2.082_852_873_773_45e-5,
        ],
    );
    let far = (1.0 - exp::exp_negative32::<I>(q)).copysign(x);
    if a < 0.95 {
        near
    } else {
        far
    }
}

/// Error function of a float64.
pub(super) fn erf64(x: f64) -> f64 {
    let a = x.abs();
    if a <= SMALL {
        return x * small(x * x);
    }
    if x.is_nan() {
        return x;
    }
    let tail = if a < 6.0 { tail(a) } else { 0.0 };
    (1.0 - tail).copysign(x)
}

/// `1 - erf(x)` of a float64, without losing the digits of its right tail.
pub(super) fn erfc64(x: f64) -> f64 {
    let a = x.abs();
    if a <= SMALL {
        return 1.0 - x * small(x * x);
    }
    if x.is_nan() {
        return x;
    }
    // erfc underflows from 27.3 on.
    let tail = if a < 28.0 { tail(a) } else { 0.0 };
    if x < 0.0 {
        2.0 - tail
    } else {
        tail
    }
}

/// The interval of the first approximation.
const SMALL: f64 = 0.46875;

/// `erf(x) / x` in terms of `z = x^2`.
fn small(z: f64) -> f64 {
    const P: [f64; 5] = [
        3.20937758913846947e3,
        3.77485237685302021e2,
        1.13864154151050156e2,
        3.16112374387056560e0,
        1.85777706184603153e-1,
    ];
    const Q: [f64; 5] =
        [2.84423683343917062e3, 1.28261652607737228e3, 2.44024637934444173e2, 2.36012909523441209e1, 1.0];
    ratio(z, &P, &Q)
}

/// `1 - erf(a)` for `a` above the first interval.
fn tail(a: f64) -> f64 {
    let scaled = if a <= 4.0 { middle(a) } else { far(a) };
    // exp(-a^2), with a^2 split so that its rounding does not matter.
    let coarse = (a * 16.0).trunc() / 16.0;
    let rest = (a - coarse) * (a + coarse);
    (-coarse * coarse).exp() * (-rest).exp() * scaled
}

/// `exp(a^2) erfc(a)` up to 4.
fn middle(a: f64) -> f64 {
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
    ratio(a, &P, &Q)
}

/// `exp(a^2) erfc(a)` from 4 on.
fn far(a: f64) -> f64 {
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
    (FRAC_1_SQRT_PI - z * ratio(z, &P, &Q)) / a
}

/// Quotient of two polynomials, constant terms first.
fn ratio<const N: usize>(x: f64, p: &[f64; N], q: &[f64; N]) -> f64 {
    let eval = |c: &[f64; N]| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
    eval(p) / eval(q)
}
