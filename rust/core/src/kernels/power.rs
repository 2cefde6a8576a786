//! Powers of floats and integers.

use super::math::Real;
use super::num::Num;
use crate::simd::Isa;

/// A number that can be raised to a power.
pub trait Power: Num {
    /// `self` to the power of `exponent`. Integers wrap around; negative powers of integers other
    /// than 1 and -1 give 0.
    fn power<I: Isa>(self, exponent: Self) -> Self;
}

macro_rules! float {
    ($($type:ty),*) => {
        $(
            impl Power for $type {
                #[inline(always)]
                fn power<I: Isa>(self, exponent: Self) -> Self {
                    Real::<I>::pow(self, exponent)
                }
            }
        )*
    };
}
float!(f32, f64);

macro_rules! integer {
    ($($type:ty),*) => {
        $(impl Power for $type {
            #[inline(always)]
            #[allow(unused_comparisons)] // u8 has no negative values
            fn power<I: Isa>(self, exponent: Self) -> Self {
                if exponent < 0 {
                    return match (self, exponent & 1) {
                        (1, _) => 1,
                        (base, odd) if base.wrapping_add(1) == 0 => if odd == 1 { base } else { 1 },
                        _ => 0,
                    };
                }
                let (mut result, mut base, mut left) = (1 as $type, self, exponent);
                while left > 0 {
                    if left & 1 == 1 {
                        result = result.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                result
            }
        })*
    };
}
integer!(u8, i32, i64);
