//! Dropout: elements set to zero at random, the others scaled up.

use super::promote::compute_dtype;
use crate::array::Array;
use crate::random::default_generator;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Layout, Result};
use std::sync::PoisonError;

/// What `x` is multiplied by, in the order of its memory: PyTorch draws in that order, too.
fn mask_like(x: &Tensor, p: f64) -> Result<Tensor> {
    Ok(Tensor::constant(dropout_mask(&x.array().layout().like(), x.dtype(), p)?))
}

/// What an array of a dense layout is multiplied by: of its shape, or a single 0 if all is dropped.
pub(super) fn dropout_mask(layout: &Layout, dtype: DType, p: f64) -> Result<Array> {
    if p == 1.0 {
        return Array::full(&[], 0.0, dtype);
    }
    let mut mask = Array::empty(&[layout.numel()], compute_dtype(dtype))?;
    let generator = default_generator();
    let mut generator = generator.lock().unwrap_or_else(PoisonError::into_inner);
    dispatch_float!(mask.dtype(), "dropout", T => generator.dropout_mask::<T>(mask.slice_mut(), p));
    drop(generator);
    Ok(mask.to_dtype(dtype)?.with_layout(layout.clone()))
}

fn check(x: &Tensor, p: f64, training: bool) -> Result<()> {
    ensure!(
        (0.0..=1.0).contains(&p),
        Value,
        "dropout: dropout probability has to be between 0 and 1, but got {p}; use a share"
    );
    ensure!(
        x.dtype().is_float() || p == 0.0 || p == 1.0 || !training,
        DType,
        "dropout: result type Float can't be cast to the desired output type {}; convert with .float()",
        x.dtype().scalar_name()
    );
    Ok(())
}

impl Tensor {
    /// Elements set to zero with probability `p`, the others divided by `1 - p`, when training.
    pub fn dropout(&self, p: f64, training: bool) -> Result<Tensor> {
        check(self, p, training)?;
        if p == 0.0 || !training || self.numel() == 0 {
            return Ok(self.clone());
        }
        self.mul(&mask_like(self, p)?)
    }

    /// In-place `dropout`.
    pub fn dropout_(&self, p: f64, training: bool) -> Result<()> {
        check(self, p, training)?;
        if p == 0.0 || !training || self.numel() == 0 {
            return Ok(());
        }
        self.mul_(&mask_like(self, p)?)
    }
}
