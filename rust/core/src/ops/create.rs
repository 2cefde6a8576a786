//! New tensors from numbers.

use super::promote::Scalar;
use crate::array::Array;
use crate::kernels::copy;
use crate::tensor::Tensor;
use crate::{DType, Result};

impl Tensor {
    /// Elements without a value yet.
    pub fn empty(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Ok(Self::constant(Array::empty(shape, dtype)?))
    }

    /// Every element `value`.
    pub fn full(shape: &[usize], value: impl Into<Scalar>, dtype: DType) -> Result<Tensor> {
        let out = Array::empty(shape, dtype)?;
        match value.into() {
            Scalar::Int(value) => copy::fill_i64(&out, value),
            value => copy::fill(&out, value.to_f64()),
        }
        Ok(Self::constant(out))
    }

    /// Zeros.
    pub fn zeros(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Self::full(shape, 0i64, dtype)
    }

    /// Ones.
    pub fn ones(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Self::full(shape, 1i64, dtype)
    }
}
