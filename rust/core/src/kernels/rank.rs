//! Numbers as unsigned integers of the same order.

use super::num::Num;
use std::ops::BitXor;

/// An unsigned integer as the low bits of a larger one.
pub trait Low {
    /// The low bits of `bits`.
    fn from_low(bits: u64) -> Self;
}
macro_rules! low {
    ($($unsigned:ty),*) => {
        $(impl Low for $unsigned {
            #[inline(always)]
            fn from_low(bits: u64) -> Self {
                bits as $unsigned
            }
        })*
    };
}
low!(u8, u32, u64);

/// A number that has a rank: NaN has the highest, 0 and -0 have the same.
pub trait Ranked: Num {
    /// An unsigned integer of the number's size.
    type Rank: Copy + Ord + Default + BitXor<Output = Self::Rank> + Into<u64> + Low + Send + Sync;
    /// All bits of a rank: what reverses the order.
    const ALL: Self::Rank;
    /// The rank.
    fn rank(self) -> Self::Rank;
    /// A number of this rank: the only one, unless the rank [is shared](Self::is_shared).
    fn of_rank(rank: Self::Rank) -> Self;
    /// Whether several numbers have this rank.
    fn is_shared(rank: Self::Rank) -> bool;
    /// The rank above, if there is one.
    fn above(rank: Self::Rank) -> Option<Self::Rank>;
}

macro_rules! integers {
    ($($type:ty: $unsigned:ty;)*) => {
        $(impl Ranked for $type {
            type Rank = $unsigned;
            const ALL: $unsigned = <$unsigned>::MAX;
            #[inline(always)]
            fn above(rank: $unsigned) -> Option<$unsigned> {
                rank.checked_add(1)
            }
            #[inline(always)]
            fn rank(self) -> $unsigned {
                // The lowest becomes 0.
                (self as $unsigned).wrapping_sub(<$type>::MIN as $unsigned)
            }
            #[inline(always)]
            fn of_rank(rank: $unsigned) -> $type {
                rank.wrapping_add(<$type>::MIN as $unsigned) as $type
            }
            #[inline(always)]
            fn is_shared(_: $unsigned) -> bool {
                false
            }
        })*
    };
}
integers! {
    u8: u8;
    i32: u32;
    i64: u64;
}

macro_rules! floats {
    ($($type:ty: $unsigned:ty;)*) => {
        $(impl Ranked for $type {
            type Rank = $unsigned;
            const ALL: $unsigned = <$unsigned>::MAX;
            #[inline(always)]
            fn above(rank: $unsigned) -> Option<$unsigned> {
                rank.checked_add(1)
            }
            #[inline(always)]
            fn rank(self) -> $unsigned {
                let bits = (self + 0.0).to_bits(); // -0 becomes 0
                let sign = 1 << (<$unsigned>::BITS - 1);
                // The bits of negative numbers grow as they fall.
                let rank = if bits & sign == 0 { bits | sign } else { !bits };
                if self.is_nan() {
                    <$unsigned>::MAX
                } else {
                    rank
                }
            }
            #[inline(always)]
            fn of_rank(rank: $unsigned) -> $type {
                let sign = 1 << (<$unsigned>::BITS - 1);
                <$type>::from_bits(if rank & sign == 0 { !rank } else { rank ^ sign })
            }
            #[inline(always)]
            fn is_shared(rank: $unsigned) -> bool {
                rank == <$unsigned>::MAX || rank == 1 << (<$unsigned>::BITS - 1)
            }
        })*
    };
}
floats! {
    f32: u32;
    f64: u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_the_order_of_the_numbers() {
        let numbers = [
            f64::NEG_INFINITY,
            -2.0,
            -f64::MIN_POSITIVE,
            -0.0,
            5e-324,
            1.0,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(numbers.map(Ranked::rank).is_sorted_by(|a, b| a < b));
        assert!(numbers.map(|x| (x as f32).rank()).is_sorted());
        assert_eq!((0.0f32.rank(), (-f32::NAN).rank()), ((-0.0f32).rank(), f32::ALL));
        assert!([i64::MIN, -1, 0, 1, i64::MAX].map(Ranked::rank).is_sorted_by(|a, b| a < b));
        assert!([i32::MIN, -1, 0, 1, i32::MAX].map(Ranked::rank).is_sorted_by(|a, b| a < b));
        assert_eq!([0u8, 255].map(Ranked::rank), [0, 255]);
    }

    #[test]
    fn numbers_of_ranks() {
        for x in [f64::NEG_INFINITY, -2.0, -5e-324, 5e-324, 1.0, f64::INFINITY] {
            assert_eq!(f64::of_rank(x.rank()), x);
            assert!(!f64::is_shared(x.rank()));
        }
        assert!([0.0f32, -0.0, f32::NAN, -f32::NAN].iter().all(|x| f32::is_shared(x.rank())));
        assert!([i64::MIN, -1, 0, i64::MAX].iter().all(|&x| i64::of_rank(x.rank()) == x));
        assert!([0u8, 7, 255].iter().all(|&x| u8::of_rank(x.rank()) == x));
    }
}
