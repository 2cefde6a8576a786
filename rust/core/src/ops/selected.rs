//! What an operation has picked along a dim: values that the gradient goes back to, and their indices.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Kept, Op, Saved};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{bail, Result};

/// Extents before, at and after a dim.
pub(super) fn split_at(shape: &[usize], dim: usize) -> (usize, usize, usize) {
    if shape.is_empty() {
        return (1, 1, 1);
    }
    (shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product())
}

/// Elements that an operation has picked along a dim, as its result: the gradient goes back to them.
#[derive(Debug)]
struct Selected {
    dim: usize,
    /// Both with the dim in place.
    values: Option<Array>,
    indices: Kept,
    /// The result's shape.
    shape: Dims,
    node: &'static str,
}

impl Op<1> for Selected {
    const NAME: &'static str = "select_along";

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn forward(&mut self, _: [&Array; 1]) -> Result<Array> {
        match self.values.take() {
            Some(values) => Ok(values.with_layout(crate::Layout::contiguous(&self.shape))),
            None => bail!(Autograd, "{}: the result was taken before", self.node),
        }
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let indices = self.indices.get()?;
        let grad = grad.reshape(indices.shape())?;
        let shape = saved.shape(0);
        if shape.is_empty() {
            return Ok([Some(grad)]);
        }
        let zeros = Tensor::zeros(&shape, grad.dtype())?;
        Ok([Some(zeros.scatter(self.dim as isize, &Tensor::constant(indices), &grad)?)])
    }

    fn release(&self) {
        self.indices.clear();
    }
}

/// Values and indices that were picked along `dim` as tensors; without `keepdim` an extent of 1 is dropped.
pub(super) fn selected(
    x: &Tensor,
    values: Array,
    indices: Array,
    dim: usize,
    keepdim: bool,
    node: &'static str,
) -> Result<(Tensor, Tensor)> {
    let shape: Dims = (0..x.rank()).filter(|&d| keepdim || d != dim).map(|d| values.shape()[d]).collect();
    let index = Tensor::constant(indices.with_layout(crate::Layout::contiguous(&shape)));
    let mut kept = Kept::default();
    kept.set(indices);
    let op = Selected { dim, values: Some(values), indices: kept, shape, node };
    Ok((apply(op, [x])?, index))
}
