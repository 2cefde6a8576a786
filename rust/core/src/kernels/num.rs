//! Arithmetic on the types that kernels compute in, with PyTorch's meaning for each.

use crate::dtype::Element;

/// A number: integers wrap around, floats follow IEEE 754.
pub trait Num: Element {
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `-self`
    fn neg(self) -> Self;
    /// `|self|`
    fn abs(self) -> Self;
    /// -1, 0 or 1; NaN gives 0, as in PyTorch.
    fn sign(self) -> Self;
    /// The larger; NaN if either is.
    fn maximum(self, b: Self) -> Self;
    /// The smaller; NaN if either is.
    fn minimum(self, b: Self) -> Self;
    /// Quotient rounded down. Integers: the divisor is not zero.
    fn floor_div(self, b: Self) -> Self;
    /// Quotient rounded towards zero. Integers: the divisor is not zero.
    fn trunc_div(self, b: Self) -> Self;
    /// Remainder with the divisor's sign. Integers: the divisor is not zero.
    fn remainder(self, b: Self) -> Self;
    /// Remainder with the dividend's sign. Integers: the divisor is not zero.
    fn fmod(self, b: Self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
}

macro_rules! integer {
    ($type:ty, $abs:expr, $sign:expr, $floor:expr, $rem:expr) => {
        impl Num for $type {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                self.wrapping_sub(b)
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                $sign(self)
            }
            #[inline(always)]
            fn maximum(self, b: Self) -> Self {
                self.max(b)
            }
            #[inline(always)]
            fn minimum(self, b: Self) -> Self {
                self.min(b)
            }
            #[inline(always)]
            fn floor_div(self, b: Self) -> Self {
                $floor(self, b)
            }
            #[inline(always)]
            fn trunc_div(self, b: Self) -> Self {
                self.wrapping_div(b)
            }
            #[inline(always)]
            fn remainder(self, b: Self) -> Self {
                $rem(self, b)
            }
            #[inline(always)]
            fn fmod(self, b: Self) -> Self {
                self.wrapping_rem(b)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
        }
    };
}

macro_rules! signed {
    ($type:ty) => {
        integer!(
            $type,
            <$type>::wrapping_abs,
            <$type>::signum,
            |a: $type, b: $type| {
                let q = a.wrapping_div(b);
                let r = a.wrapping_sub(q.wrapping_mul(b)); // one division, where `wrapping_rem` would be a second
                if r != 0 && (a < 0) != (b < 0) {
                    q - 1
                } else {
                    q
                }
            },
            |a: $type, b: $type| {
                let r = a.wrapping_rem(b);
                if r != 0 && (r < 0) != (b < 0) {
                    r.wrapping_add(b)
                } else {
                    r
                }
            }
        );
    };
}
signed!(i32);
signed!(i64);
integer!(u8, |a| a, |a: u8| a.min(1), u8::wrapping_div, u8::wrapping_rem);

/// `a % b`, without the C library's loop where the quotient is small: a product of it with a float32 is exact in
/// double precision, and so is the difference.
#[inline(always)]
fn fmod32(a: f32, b: f32) -> f32 {
    let quotient = f64::from(a) / f64::from(b);
    // Nor is the quotient rounded to the next integer: its distance from that is 2^-24 at least.
    if quotient.abs() < 16_777_216.0 && b.abs() < f32::INFINITY {
        let rem = f64::from(a) - f64::from(quotient as i32) * f64::from(b);
        (rem as f32).copysign(a)
    } else {
        a % b
    }
}

macro_rules! float {
    ($type:ty, $fmod:expr) => {
        impl Num for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self + b
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                self - b
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self * b
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$type>::abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                (if self > 0.0 { 1.0 } else { 0.0 }) - (if self < 0.0 { 1.0 } else { 0.0 })
            }
            #[inline(always)]
            fn maximum(self, b: Self) -> Self {
                if self > b || self != self {
                    self
                } else {
                    b
                }
            }
            #[inline(always)]
            fn minimum(self, b: Self) -> Self {
                if self < b || self != self {
                    self
                } else {
                    b
                }
            }
            #[inline(always)]
            fn floor_div(self, b: Self) -> Self {
                // Python's rule, as in PyTorch: exact remainders, and a quotient that agrees with them.
                if b == 0.0 {
                    return self / b;
                }
                let rem = $fmod(self, b);
                let mut quotient = (self - rem) / b;
                if rem != 0.0 && (b < 0.0) != (rem < 0.0) {
                    quotient -= 1.0;
                }
                if quotient == 0.0 {
                    return (0.0 as $type).copysign(self / b);
                }
                let floor = quotient.floor();
                if quotient - floor > 0.5 {
                    floor + 1.0
                } else {
                    floor
                }
            }
            #[inline(always)]
            fn trunc_div(self, b: Self) -> Self {
                (self / b).trunc()
            }
            #[inline(always)]
            fn remainder(self, b: Self) -> Self {
                let rem = $fmod(self, b);
                if rem != 0.0 && (b < 0.0) != (rem < 0.0) {
                    rem + b
                } else {
                    rem
                }
            }
            #[inline(always)]
            fn fmod(self, b: Self) -> Self {
                $fmod(self, b)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
        }
    };
}
float!(f32, fmod32);
float!(f64, |a: f64, b: f64| a % b);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_exact() {
        let special =
            [0.0, 1.0, 3.0, 0.1, 1e-45, 1.5e-38, 3e38, 16_777_215.0, 16_777_217.0, f32::INFINITY, f32::NAN];
        let mut word = 1u32;
        let mut any = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(word)
        };
        let drawn: Vec<f32> = (0..2000).map(|_| any()).collect();
        let near: Vec<f32> =
            drawn.iter().map(|x| f32::from_bits(x.to_bits() & 0x83ff_ffff | 0x3c00_0000)).collect();
        let values: Vec<f32> = special.iter().flat_map(|&x| [x, -x]).chain(drawn).chain(near).collect();
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        for (i, &a) in values.iter().enumerate() {
            for &b in values.iter().skip(i % 7).step_by(7).chain(&values[..22]) {
                assert!(same(fmod32(a, b), a % b), "{a:e} % {b:e}: {:e}", fmod32(a, b));
            }
        }
    }

    #[test]
    fn quotients_of_integers_round_down() {
        for (a, b, q) in
            [(7i64, -2, -4), (-7, 2, -4), (-8, 2, -4), (8, -2, -4), (i64::MIN, -1, i64::MIN), (7, 2, 3)]
        {
            assert_eq!(a.floor_div(b), q, "{a} // {b}");
        }
    }
}
