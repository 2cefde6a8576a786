//! What an operation has picked along a dim: values that the gradient goes back to, and their indices.

use crate::array::Array;
use crate::autograd::apply::apply_and;
use crate::autograd::{Grads, Kept, Op, Saved};
use crate::layout::{Dims, Layout};
use crate::tensor::Tensor;
use crate::Result;
use std::fmt::Debug;

/// Extents before, at and after a dim.
pub(super) fn split_at(shape: &[usize], dim: usize) -> (usize, usize, usize) {
    if shape.is_empty() {
        return (1, 1, 1);
    }
    (shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product())
}

/// How elements are picked along a dim.
pub(super) trait Pick: Debug + Send + Sync + 'static {
    /// PyTorch's name of the recorded node.
    fn node(&self) -> &'static str;
    /// The elements and their int64 indices, both contiguous and with the dim in place.
    fn pick(&self, x: &Array, dim: usize) -> Result<(Array, Array)>;
}

/// Elements that are picked along a dim: the gradient goes back to them.
#[derive(Debug)]
struct Selected<P> {
    pick: P,
    dim: usize,
    /// Without it the result has no such dim: one element of each row is picked.
    keepdim: bool,
    /// With the dim in place.
    indices: Kept,
}

impl<P: Pick> Selected<P> {
    /// The shape of the result for picks of `shape`.
    fn shape(&self, shape: &[usize]) -> Dims {
        let kept = shape.iter().enumerate().filter(|&(d, _)| self.keepdim || d != self.dim);
        kept.map(|(_, &extent)| extent).collect()
    }
}

impl<P: Pick> Op<1> for Selected<P> {
    const NAME: &'static str = "select_along";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        self.pick.node().into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let (values, indices) = self.pick.pick(x, self.dim)?;
        self.indices.set(indices);
        Ok(values.with_layout(Layout::contiguous(&self.shape(values.shape()))))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let indices = self.indices.get(self.pick.node())?;
        let grad = grad.reshape(indices.shape())?;
        let shape = saved.shape(0);
        if shape.is_empty() {
            return Ok([Some(grad)]);
        }
        let zeros = Tensor::zeros(&shape, grad.dtype())?;
        Ok([Some(zeros.scatter(self.dim as isize, &Tensor::constant(indices), &grad)?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.indices);
    }
}

/// Values and indices that `pick` finds along `dim`, as tensors; without `keepdim` an extent of 1 is dropped.
pub(super) fn selected(x: &Tensor, pick: impl Pick, dim: usize, keepdim: bool) -> Result<(Tensor, Tensor)> {
    let node = pick.node();
    let op = Selected { pick, dim, keepdim, indices: Kept::default() };
    let indices = |op: &Selected<_>| {
        let indices = op.indices.get(node)?;
        Ok(indices.with_layout(Layout::contiguous(&op.shape(indices.shape()))))
    };
    let (values, indices) = apply_and(op, [x], indices)?;
    Ok((values, Tensor::constant(indices)))
}
