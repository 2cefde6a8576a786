//! Element types, their order of promotion, and the macros that turn a run-time dtype into a type.

use std::fmt;

pub use half::{bf16, f16};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// IEEE half precision.
    F16,
    /// Brain float: the upper half of a float32.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

/// The kinds that type promotion ranks: a higher one wins over a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// `bool`
    Bool,
    /// All integers.
    Int,
    /// All floating-point types.
    Float,
}

impl DType {
    /// Every dtype, narrow to wide within its category.
    pub const ALL: [DType; 8] =
        [DType::Bool, DType::U8, DType::I32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::Bool | DType::U8 => 1,
            DType::F16 | DType::BF16 => 2,
            DType::I32 | DType::F32 => 4,
            DType::I64 | DType::F64 => 8,
        }
    }

    /// PyTorch's name without the module: `"float32"`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "uint8",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
        }
    }

    /// Name that PyTorch's error texts use: `"Float"`.
    pub const fn scalar_name(self) -> &'static str {
        match self {
            DType::Bool => "Bool",
            DType::U8 => "Byte",
            DType::I32 => "Int",
            DType::I64 => "Long",
            DType::F16 => "Half",
            DType::BF16 => "BFloat16",
            DType::F32 => "Float",
            DType::F64 => "Double",
        }
    }

    /// The kind that promotion ranks.
    pub const fn category(self) -> Category {
        match self {
            DType::Bool => Category::Bool,
            DType::U8 | DType::I32 | DType::I64 => Category::Int,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Category::Float,
        }
    }

    /// Whether gradients can flow through values of this type.
    pub const fn is_float(self) -> bool {
        matches!(self.category(), Category::Float)
    }

    /// Whether this is one of the 16-bit floats, which kernels compute through float32.
    pub const fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// The largest finite value; that of int64 is rounded up to 2^63.
    pub const fn largest(self) -> f64 {
        match self {
            DType::Bool => 1.0,
            DType::U8 => u8::MAX as f64,
            DType::I32 => i32::MAX as f64,
            DType::I64 => i64::MAX as f64,
            DType::F16 => 65_504.0,
            DType::BF16 => 3.389_531_389_251_535_5e38,
            DType::F32 => f32::MAX as f64,
            DType::F64 => f64::MAX,
        }
    }

    /// Binary digits of a value without its sign: a float dtype holds every integer up to 2 to this power.
    pub const fn digits(self) -> u32 {
        match self {
            DType::Bool => 1,
            DType::U8 | DType::BF16 => 8,
            DType::F16 => 11,
            DType::F32 => f32::MANTISSA_DIGITS,
            DType::I32 => 31,
            DType::F64 => f64::MANTISSA_DIGITS,
            DType::I64 => 63,
        }
    }

    /// The smallest type that both convert to, as PyTorch's `promote_types`.
    pub fn promote(self, other: DType) -> DType {
        if self == other {
            return self;
        }
        match (self.category(), other.category()) {
            (a, b) if a > b => self,
            (a, b) if a < b => other,
            (Category::Float, _) if self.is_half() && other.is_half() => DType::F32,
            _ => self.max(other),
        }
    }

    /// The type that holds results of functions such as `exp`: itself if float, else float32.
    pub const fn to_float(self) -> DType {
        if self.is_float() {
            self
        } else {
            DType::F32
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A truth value as tensors hold it: one byte, true unless it is 0.
///
/// Unlike Rust's `bool` every byte is valid, as memory of others (NumPy arrays, buffers) and memory without
/// a value yet may hold any. Comparisons and conversions go by the truth value.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// The truth value.
    #[inline(always)]
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    #[inline(always)]
    fn from(value: bool) -> Self {
        Self(value as u8)
    }
}

impl PartialEq for Bool {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl PartialOrd for Bool {
    #[inline(always)]
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A Rust type that tensors can hold.
pub trait Element: Copy + Send + Sync + Default + PartialEq + PartialOrd + fmt::Debug + 'static {
    /// Its run-time name.
    const DTYPE: DType;
    /// Nearest double (exact for all but large int64).
    fn to_f64(self) -> f64;
    /// From a double, rounded or truncated as PyTorch's `to` does.
    fn from_f64(value: f64) -> Self;
    /// Nearest float32.
    fn to_f32(self) -> f32;
    /// From a float32, rounded or truncated as PyTorch's `to` does.
    fn from_f32(value: f32) -> Self;
    /// As a 64-bit integer, floats truncated; i64::MIN where they do not fit, as on x86.
    fn to_i64(self) -> i64;
    /// From a 64-bit integer, wrapping as PyTorch's `to` does.
    fn from_i64(value: i64) -> Self;
}

/// Truncated; the lowest value where it does not fit, as the instruction of x86 that PyTorch relies on does.
#[inline(always)]
fn truncate64(value: f64) -> i64 {
    if value < 9_223_372_036_854_775_808.0 {
        value as i64
    } else {
        i64::MIN // nan, too
    }
}

/// As `truncate64`, for 32 bits.
#[inline(always)]
fn truncate32(value: f64) -> i32 {
    if value < 2_147_483_648.0 && value > -2_147_483_649.0 {
        value as i32
    } else {
        i32::MIN
    }
}

macro_rules! float_number {
    ($type:ty, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                value as $type
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                truncate64(self as f64)
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
        }
    };
}
float_number!(f32, F32);
float_number!(f64, F64);

macro_rules! integer {
    ($type:ty, $dtype:ident, $from_f64:expr, $from_f32:expr) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                $from_f64(value)
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                $from_f32(value)
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
        }
    };
}
// uint8 through int64: negative values wrap, as they do in PyTorch on x86.
integer!(u8, U8, |x| truncate64(x) as u8, |x: f32| truncate32(f64::from(x)) as u8);
integer!(i32, I32, truncate32, |x: f32| {
    // Compared in float32, which a vector loop does four times as fast.
    if x < 2_147_483_648.0 {
        x as i32
    } else {
        i32::MIN
    }
});
integer!(i64, I64, truncate64, |x: f32| truncate64(f64::from(x)));

impl Element for Bool {
    const DTYPE: DType = DType::Bool;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self.get()))
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        Self::from(value != 0.0)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(u8::from(self.get()))
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::from(value != 0.0)
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::from(self.get())
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        Self::from(value != 0)
    }
}

/// Without branches, so that a loop over it is vectorised; the conversions of `half` ask the CPU each time.
#[inline(always)]
fn f16_to_f32(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7fff);
    // The exponent's offset changes from 15 to 127 by a product, which is right for infinities and nan as well.
    let normal = f32::from_bits((rest << 13) + (0xe0 << 23)) * f32::from_bits(0x0780_0000);
    // Below 2^-14: the digits stand behind those of 0.5, which is then taken away.
    let subnormal = f32::from_bits(rest | (126 << 23)) - 0.5;
    let magnitude = if rest < 0x0400 { subnormal } else { normal };
    f32::from_bits(sign | magnitude.to_bits())
}

/// As `f16_to_f32`: rounded to nearest, ties to even.
#[inline(always)]
fn f32_to_f16(value: f32) -> f16 {
    let bits = value.to_bits();
    let (sign, twice) = ((bits & 0x8000_0000) >> 16, bits << 1);
    // Too large ones overflow to infinity here.
    let base = value.abs() * f32::from_bits(0x7780_0000) * f32::from_bits(0x0880_0000);
    let exponent = twice & 0xff00_0000;
    let exponent = if exponent < 0x7100_0000 { 0x7100_0000 } else { exponent };
    // A sum with a power of two rounds to the digits that a float16 has.
    let rounded = (f32::from_bits((exponent >> 1) + 0x0780_0000) + base).to_bits();
    let magnitude = ((rounded >> 13) & 0x7c00) + (rounded & 0x0fff);
    let magnitude = if twice > 0xff00_0000 { 0x7e00 } else { magnitude };
    f16::from_bits((sign | magnitude) as u16)
}

#[inline(always)]
fn bf16_to_f32(half: bf16) -> f32 {
    f32::from_bits(u32::from(half.to_bits()) << 16)
}

/// Rounded to nearest, ties to even.
#[inline(always)]
fn f32_to_bf16(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    bf16::from_bits(if bits << 1 > 0xff00_0000 { nan as u16 } else { rounded as u16 })
}

macro_rules! half_number {
    ($type:ty, $dtype:ident, $to:ident, $from:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from($to(self))
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                // Through float32, as PyTorch converts.
                $from(value as f32)
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to(self)
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                $from(value)
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                truncate64(f64::from($to(self)))
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                $from(value as f32)
            }
        }
    };
}

half_number!(f16, F16, f16_to_f32, f32_to_f16);
half_number!(bf16, BF16, bf16_to_f32, f32_to_bf16);

/// `dispatch_all!(dtype, T => expression)`: the expression with `T` bound to the element type.
#[macro_export]
macro_rules! dispatch_all {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::Bool => {
                type $t = $crate::dtype::Bool;
                $body
            }
            $crate::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::DType::F16 => {
                type $t = $crate::dtype::f16;
                $body
            }
            $crate::DType::BF16 => {
                type $t = $crate::dtype::bf16;
                $body
            }
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::DType::F64 => {
                type $t = f64;
                $body
            }
        }
    };
}

/// As `dispatch_all!` for the types that kernels compute in: float32, float64 and the integers.
/// 16-bit floats and bool must have been converted before; they give the typed error.
#[macro_export]
macro_rules! dispatch_compute {
    ($dtype:expr, $op:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::DType::F64 => {
                type $t = f64;
                $body
            }
            other => $crate::bail!(DType, "{}: not defined for {other}; convert with .to(...) first", $op),
        }
    };
}

/// As `dispatch_all!` for float32 and float64; any other dtype gives the typed error.
#[macro_export]
macro_rules! dispatch_float {
    ($dtype:expr, $op:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::DType::F64 => {
                type $t = f64;
                $body
            }
            other => $crate::bail!(DType, "{}: not defined for {other}; convert with .float() first", $op),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_follows_pytorch() {
        assert_eq!(DType::Bool.promote(DType::U8), DType::U8);
        assert_eq!(DType::I64.promote(DType::F16), DType::F16);
        assert_eq!(DType::F16.promote(DType::BF16), DType::F32);
        assert_eq!(DType::BF16.promote(DType::F32), DType::F32);
        assert_eq!(DType::I32.promote(DType::I64), DType::I64);
        for a in DType::ALL {
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a));
            }
        }
    }

    #[test]
    fn negative_floats_wrap_into_uint8() {
        assert_eq!(u8::from_f64(-1.0), 255);
        assert_eq!(u8::from_f64(300.7), 44);
        assert_eq!(u8::from_f32(-1.5), 255);
    }

    #[test]
    fn floats_that_no_integer_holds_become_the_lowest() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e20, -1e20] {
            assert_eq!((i64::from_f64(x), i32::from_f64(x), u8::from_f64(x)), (i64::MIN, i32::MIN, 0));
            assert_eq!((i64::from_f32(x as f32), i32::from_f32(x as f32)), (i64::MIN, i32::MIN));
        }
        assert_eq!((i32::from_f64(2147483647.9), i32::from_f64(-2147483648.9)), (i32::MAX, i32::MIN));
    }

    #[test]
    fn sixteen_bit_floats_convert_like_the_crate_half() {
        for bits in 0..=u16::MAX {
            let (a, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(a.to_f32().to_bits() == f16_to_f32(a).to_bits() || a.is_nan());
            assert_eq!(b.is_nan(), bf16_to_f32(b).is_nan());
            // Every value, the middle between neighbours, and what lies beside the middle.
            let next = f16::from_bits(bits.wrapping_add(1)).to_f32();
            let middle = a.to_f32() + (next - a.to_f32()) / 2.0;
            for x in [a.to_f32(), middle, middle.next_up(), middle.next_down()] {
                assert!(f32_to_f16(x) == f16::from_f32(x) || x.is_nan(), "{x}");
                assert_eq!(f32_to_f16(x).is_nan(), x.is_nan());
            }
            for low in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(bits) << 16 | low);
                assert!(f32_to_bf16(x) == bf16::from_f32(x) || x.is_nan(), "{x}");
                assert_eq!(f32_to_bf16(x).is_nan(), x.is_nan());
            }
        }
        assert_eq!(f32_to_f16(65520.0), f16::INFINITY);
        assert_eq!(f32_to_f16(f32::MAX), f16::INFINITY);
    }

    #[test]
    fn large_integers_are_rounded_once() {
        for x in [0x4000_0040_0000_0001_i64, (1 << 62) + (1 << 38) + 1, 9_007_199_791_611_905] {
            assert_eq!(x.to_f32(), x as f32);
        }
    }
}
