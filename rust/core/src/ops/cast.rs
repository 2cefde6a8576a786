//! The same values in another dtype or another memory.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::format::MemoryFormat;
use crate::tensor::Tensor;
use crate::{DType, Result};

/// Conversion of the elements.
#[derive(Debug)]
struct ToDtype(DType);

impl Op<1> for ToDtype {
    const NAME: &'static str = "to";

    fn grad_fn_name(&self) -> String {
        "ToCopyBackward0".into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        x.to_dtype(self.0)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.clone())]) // the engine converts it back
    }
}

/// A copy with memory of its own.
#[derive(Debug)]
struct CloneOp;

impl Op<1> for CloneOp {
    const NAME: &'static str = "clone";

    fn only_moves(&self) -> bool {
        true
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        x.copied()
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.clone())])
    }
}

/// A copy in an order of its own.
#[derive(Debug)]
struct Contiguous {
    format: MemoryFormat,
    node: &'static str,
}

impl Op<1> for Contiguous {
    const NAME: &'static str = "contiguous";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        x.copied_in(self.format)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.clone())])
    }
}

impl Tensor {
    /// This tensor if it has that dtype, else a converted copy.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        apply(ToDtype(dtype), [self])
    }

    /// A copy with memory of its own, through which gradients flow back.
    pub fn copy(&self) -> Result<Tensor> {
        apply(CloneOp, [self])
    }

    /// This tensor if its elements lie in row-major order, else a copy in which they do.
    pub fn contiguous(&self) -> Result<Tensor> {
        self.contiguous_in(MemoryFormat::Contiguous)
    }

    /// This tensor if its elements lie in the order of the format, else a copy in which they do.
    pub fn contiguous_in(&self, format: MemoryFormat) -> Result<Tensor> {
        if format.is_kept_by(self.array().layout()) {
            return Ok(self.clone());
        }
        apply(Contiguous { format, node: "CloneBackward0" }, [self])
    }

    /// This tensor if it is of that format, else a copy that is.
    pub fn in_format(&self, format: MemoryFormat) -> Result<Tensor> {
        if format.is_of(self.array().layout()) {
            return Ok(self.clone());
        }
        apply(Contiguous { format, node: "ToCopyBackward0" }, [self])
    }

    /// A copy in the order of the format, through which gradients flow back.
    pub fn copy_in(&self, format: MemoryFormat) -> Result<Tensor> {
        apply(Contiguous { format, node: "CloneBackward0" }, [self])
    }
}
