//! Normalisation: over the last dims in `layer`, over groups of channels in `group`, over a batch's channels in `batch`.

mod batch;
mod group;
mod layer;

pub use batch::BatchNormOptions;

use super::promote::compute_dtype;
use crate::array::Array;
use crate::tensor::Tensor;
use crate::{DType, Result};

/// A parameter for the kernels: contiguous, in the dtype that they compute in.
fn ready(x: &Array, dtype: DType) -> Result<Array> {
    x.to_dtype(compute_dtype(dtype))?.contiguous()
}

/// The parameter, or an empty stand-in that needs no gradient.
fn or_empty(parameter: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    match parameter {
        Some(parameter) => Ok(parameter.clone()),
        None => Tensor::empty(&[0], dtype),
    }
}
