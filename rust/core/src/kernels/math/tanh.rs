//! The hyperbolic tangent: near 0 a polynomial; further out `1 - 2 / (exp(2 |x|) + 1)`, where the quotient is at most
//! a half, so that what the exponential and the quotient lose counts half or less.
//!
//! (`-m / (m + 2)` with `m = expm1(-2 |x|)` needs no polynomial, but every rounding counts in full: 2.5 ulp.)

use super::exp::{power_of_two32, power_of_two64, reduce64, ROUND32};
use super::{horner32, horner64};
use crate::simd::Isa;

/// Where the second form begins: `tanh` is above a half from there on.
const FAR: f64 = 0.55;

/// Hyperbolic tangent of a float32.
#[inline(always)]
pub(super) fn tanh32<I: Isa>(x: f32) -> f32 {
    const TWICE_LOG2_E: f32 = 2.0 * std::f32::consts::LOG2_E;
    let a = x.abs();
    // The result is 1 from 9.1 on.
    let a = if a > 10.0 { 10.0 } else { a };
    let z = a * a;
    // `(tanh(a) / a - 1) / z` by Remez exchange: within 2^-24.7 of tanh.
    let p = horner32::<I, 4>(z, [-0.333_329_466_3, 0.133_207_249_1, -0.052_671_804_15, 0.016_437_563_23]);
    let near = I::fma32(a * z, p, a);
    // exp(2a) = 2^(n + f) with |f| <= 1/2. The polynomial is `2^f - 1` by Remez exchange, weighted with what it counts
    // in the result: within 2^-24.4 of that.
    let t = I::fma32(a, TWICE_LOG2_E, ROUND32);
    let f = I::fma32(a, TWICE_LOG2_E, ROUND32 - t);
    let p = f * horner32::<I, 5>(
        f,
        [0.693_146_814_4, 0.240_222_776_1, 0.055_510_121_67, 0.009_669_625_222, 0.001_317_636_802],
    );
    let scale = power_of_two32(t);
    let far = 1.0 - 2.0 / I::fma32(p, scale, scale + 1.0);
    (if a < FAR as f32 { near } else { far }).copysign(x)
}

/// Hyperbolic tangent of a float64.
#[inline(always)]
pub(super) fn tanh64<I: Isa>(x: f64) -> f64 {
    let a = x.abs();
    // The result is 1 from 19.1 on.
    let a = if a > 20.0 { 20.0 } else { a };
    let z = a * a;
    // As in float32: within 2^-60 of tanh.
    let p = horner64::<I, 11>(
        z,
        [
            -0.333_333_333_333_332_984,
            0.133_333_333_333_266_209,
            -0.053_968_253_963_760_687_6,
            0.021_869_488_385_858_062_6,
            -0.008_863_232_601_476_759_75,
            0.003_592_092_030_782_170_46,
            -0.001_455_542_847_910_196_36,
            0.000_588_444_494_829_137_088,
            -0.000_233_381_586_586_824_023,
            0.000_083_316_476_997_095_891_1,
            -0.000_019_494_705_134_550_087_6,
        ],
    );
    let near = I::fma64(a * z, p, a);
    let (p, t) = reduce64::<I>(2.0 * a);
    let scale = power_of_two64(t);
    let far = 1.0 - 2.0 / I::fma64(p, scale, scale + 1.0);
    (if a < FAR { near } else { far }).copysign(x)
}
