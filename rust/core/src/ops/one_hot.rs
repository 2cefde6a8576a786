//! Indices as vectors.

use crate::array::Array;
use crate::kernels::one_hot;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{ensure, DType, Result};

impl Tensor {
    /// Vectors that are 1 at the int64 index and 0 elsewhere, along a new last dim of so many `classes`: of -1, as many
    /// as the largest index needs.
    pub fn one_hot(&self, classes: i64) -> Result<Tensor> {
        let op = "one_hot";
        ensure!(
            self.dtype() == DType::I64,
            DType,
            "{op}: one_hot is only applicable to index tensor of type LongTensor, not {}; convert it with .long()",
            self.dtype()
        );
        ensure!(
            self.numel() > 0 || classes > 0,
            Value,
            "{op}: Can not infer total number of classes from empty tensor; give num_classes"
        );
        let index = self.array().contiguous()?;
        let (low, high) = match index.numel() {
            0 => (0, -1),
            _ => one_hot::extremes(index.slice()),
        };
        ensure!(low >= 0, Value, "{op}: Class values must be non-negative, not {low}; shift them");
        let classes = if classes == -1 { high.saturating_add(1) } else { classes };
        ensure!(
            high < classes,
            Value,
            "{op}: Class values must be smaller than num_classes, but {high} is not below {classes}; give more classes"
        );
        let mut shape = Dims::from_slice(self.shape());
        shape.push(classes as usize);
        let mut out = Array::empty(&shape, DType::I64)?;
        one_hot::one_hot(index.slice(), classes as usize, out.slice_mut());
        Ok(Tensor::constant(out))
    }
}
