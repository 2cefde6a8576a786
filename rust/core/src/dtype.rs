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

/// A Rust type that tensors can hold.
pub trait Element: Copy + Send + Sync + Default + PartialEq + PartialOrd + fmt::Debug + 'static {
    /// Its run-time name.
    const DTYPE: DType;
    /// Nearest double (exact for all but large int64).
    fn to_f64(self) -> f64;
    /// From a double, rounded or truncated as PyTorch's `to` does.
    fn from_f64(value: f64) -> Self;
    /// As a 64-bit integer, floats truncated.
    fn to_i64(self) -> i64;
    /// From a 64-bit integer, wrapping as PyTorch's `to` does.
    fn from_i64(value: i64) -> Self;
}

macro_rules! number {
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

number!(i32, I32);
number!(i64, I64);
number!(f32, F32);
number!(f64, F64);

impl Element for u8 {
    const DTYPE: DType = DType::U8;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        // Through i64: negative values wrap, as they do in PyTorch on x86.
        value as i64 as u8
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        value as u8
    }
}

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        value != 0
    }
}

macro_rules! half_number {
    ($type:ty, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self.to_f32())
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                // Through float32, as PyTorch converts.
                Self::from_f32(value as f32)
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self.to_f32() as i64
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                Self::from_f32(value as f32)
            }
        }
    };
}

half_number!(f16, F16);
half_number!(bf16, BF16);

/// `dispatch_all!(dtype, T => expression)`: the expression with `T` bound to the element type.
#[macro_export]
macro_rules! dispatch_all {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::Bool => {
                type $t = bool;
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
    }
}
