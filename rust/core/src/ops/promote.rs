//! Type promotion between tensors and Python numbers, as PyTorch does it.

use crate::array::Array;
use crate::dtype::{Bool, Category};
use crate::tensor::Tensor;
use crate::{bail, simd, DType, Result};
use std::fmt;

/// A Python number as an operand: it promotes less than any tensor of its category.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// `True` or `False`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

impl Scalar {
    /// Its kind.
    pub fn category(self) -> Category {
        match self {
            Scalar::Bool(_) => Category::Bool,
            Scalar::Int(_) => Category::Int,
            Scalar::Float(_) => Category::Float,
        }
    }

    /// As a double.
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Bool(b) => f64::from(u8::from(b)),
            Scalar::Int(i) => i as f64,
            Scalar::Float(f) => f,
        }
    }

    /// The dtype of a tensor made of this number alone.
    pub fn default_dtype(self) -> DType {
        match self {
            Scalar::Bool(_) => DType::Bool,
            Scalar::Int(_) => DType::I64,
            Scalar::Float(_) => DType::F32,
        }
    }

    /// The dtype that it takes beside a tensor of `dtype`.
    #[inline]
    pub fn dtype_beside(self, dtype: DType) -> DType {
        if self.category() > dtype.category() {
            self.default_dtype()
        } else {
            dtype
        }
    }

    /// A 0-d array of `dtype`; what does not fit wraps or becomes infinite (see [`Scalar::to_value`]).
    #[inline]
    pub fn to_array(self, dtype: DType) -> Result<Array> {
        match (self, dtype) {
            (scalar, DType::F32) => Array::scalar(scalar.to_f64() as f32),
            (Scalar::Int(i), _) => {
                let out = Array::empty(&[], dtype)?;
                crate::kernels::copy::fill_i64(&out, i);
                Ok(out)
            }
            _ => Array::full(&[], self.to_f64(), dtype),
        }
    }

    /// A 0-d array of `dtype`, which must be able to hold this number: the way of numbers into tensors that keep
    /// their dtype.
    #[inline]
    pub fn to_value(self, op: &str, dtype: DType) -> Result<Array> {
        self.check_fits(op, dtype)?;
        self.to_array(dtype)
    }

    /// Itself as an operand beside values of `dtype`, without loss: what an operation then makes of it is
    /// the operation's choice.
    #[inline]
    fn to_number(self, dtype: DType) -> Result<Array> {
        match (self, dtype) {
            (scalar, DType::F32) => Array::number(scalar.to_f64() as f32),
            (scalar, DType::F64) => Array::number(scalar.to_f64()),
            (Scalar::Bool(b), DType::Bool) => Array::number(Bool::from(b)),
            (Scalar::Float(f), _) => Array::number(f as f32),
            (scalar, DType::F16 | DType::BF16) => Array::number(scalar.to_f64() as f32),
            (Scalar::Int(i), _) => integer(i, dtype),
            (Scalar::Bool(b), _) => integer(i64::from(b), dtype),
        }
    }

    /// An error unless `dtype` can hold this number. As in PyTorch all is well beside bool, and with
    /// negative integers that wrap into an unsigned one.
    pub fn check_fits(self, op: &str, dtype: DType) -> Result<()> {
        let fits = match (self, dtype) {
            (Scalar::Int(i), DType::U8) => (-255..=255).contains(&i),
            (Scalar::Int(i), DType::I32) => i32::try_from(i).is_ok(),
            (Scalar::Float(f), DType::U8) => (0.0..=255.0).contains(&f),
            (Scalar::Float(f), DType::I32) => (-2_147_483_648.0..=2_147_483_647.0).contains(&f),
            (Scalar::Float(f), DType::I64) => {
                (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&f)
            }
            (Scalar::Int(i), DType::F16) => (-65504..=65504).contains(&i),
            (Scalar::Float(f), dtype) if dtype.is_float() => !f.is_finite() || f.abs() <= dtype.largest(),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        bail!(
            Value,
            "{op}: value cannot be converted to type {dtype} without overflow: {self}; use a number that {dtype} \
             can hold, or convert the tensor first"
        )
    }
}

/// An integer beside values of `dtype`: in that dtype if it fits.
#[inline]
fn integer(value: i64, dtype: DType) -> Result<Array> {
    match dtype {
        DType::U8 if u8::try_from(value).is_ok() => Array::number(value as u8),
        DType::I32 if i32::try_from(value).is_ok() => Array::number(value as i32),
        _ => Array::number(value),
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(b) => b.fmt(f),
            Scalar::Int(i) => i.fmt(f),
            Scalar::Float(x) => fmt::Debug::fmt(x, f),
        }
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Scalar::Float(value)
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Scalar::Int(value)
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Scalar::Bool(value)
    }
}

impl Tensor {
    /// `scalar` as an operand beside this tensor: 0-d, and of a dtype that gives way to this tensor's.
    #[inline]
    pub fn scalar_beside(&self, scalar: impl Into<Scalar>) -> Result<Tensor> {
        Ok(Tensor::constant(scalar.into().to_number(self.dtype())?))
    }
}

/// The dtype of a result computed from both: in one category numbers give way to 0-d arrays, and these to
/// others.
#[inline]
pub fn result_type(a: &Array, b: &Array) -> DType {
    let (x, y) = (a.dtype(), b.dtype());
    if x == y {
        return x;
    }
    let (a, b) = if a.is_number() == b.is_number() {
        (a.rank() == 0, b.rank() == 0)
    } else {
        (a.is_number(), b.is_number())
    };
    match (a, b) {
        (false, true) if x.category() >= y.category() => x,
        (true, false) if y.category() >= x.category() => y,
        _ => x.promote(y),
    }
}

/// The dtype that matrices of `dtype` are multiplied in: bfloat16 as it is where the processor can.
pub(crate) fn product_dtype(dtype: DType) -> DType {
    match dtype {
        DType::BF16 if simd::has_bf16() => DType::BF16,
        other => compute_dtype(other),
    }
}

/// The dtype that kernels compute results of `dtype` in: 16-bit floats through float32, bool through uint8.
#[inline]
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        DType::Bool => DType::U8,
        other => other,
    }
}
