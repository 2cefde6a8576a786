//! Type promotion between tensors and Python numbers, as PyTorch does it.

use crate::array::Array;
use crate::dtype::Category;
use crate::tensor::Tensor;
use crate::{DType, Result};

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

    /// A 0-d array of `dtype`.
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
    /// `scalar` as an operand beside this tensor: 0-d, of the dtype that promotion gives it.
    #[inline]
    pub fn scalar_beside(&self, scalar: impl Into<Scalar>) -> Result<Tensor> {
        let scalar = scalar.into();
        Ok(Tensor::constant(scalar.to_array(scalar.dtype_beside(self.dtype()))?))
    }
}

/// The dtype of a result computed from both: 0-d operands give way to others of their category.
#[inline]
pub fn result_type(a: &Array, b: &Array) -> DType {
    let (x, y) = (a.dtype(), b.dtype());
    if x == y {
        return x;
    }
    match (a.rank() == 0, b.rank() == 0) {
        (false, true) if x.category() >= y.category() => x,
        (true, false) if y.category() >= x.category() => y,
        _ => x.promote(y),
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
