//! Elements at given places along a dim, and their way back: the gradients of max, sort and the like.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Kept, Op, Saved};
use crate::kernels::pick;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{bail, dispatch_all, DType, Result};

/// Extents before, at and after a dim.
pub(super) fn split_at(shape: &[usize], dim: usize) -> (usize, usize, usize) {
    if shape.is_empty() {
        return (1, 1, 1);
    }
    (shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product())
}

/// Elements at `indices` along `dim`; no index occurs twice.
#[derive(Debug)]
struct Pick {
    dim: usize,
    indices: Kept,
}

impl Op<1> for Pick {
    const NAME: &'static str = "gather";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let indices = self.indices.get()?;
        let out = Array::empty(indices.shape(), x.dtype())?;
        let (_, k, _) = split_at(indices.shape(), self.dim);
        let x = x.contiguous()?;
        let dims = split_at(x.shape(), self.dim);
        dispatch_all!(x.dtype(), T => pick::pick::<T>(&x, &indices, dims, k, &out));
        Ok(out)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(put_along(grad, &self.indices.get()?, self.dim, &saved.shape(0))?)])
    }

    fn release(&self) {
        self.indices.clear();
    }
}

/// Zeros of `shape` with the elements at `indices` along `dim`; no index occurs twice.
#[derive(Debug)]
struct Put {
    dim: usize,
    indices: Kept,
    shape: Dims,
}

impl Op<1> for Put {
    const NAME: &'static str = "scatter";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let indices = self.indices.get()?;
        let out = Array::full(&self.shape, 0.0, x.dtype())?;
        let (_, k, _) = split_at(indices.shape(), self.dim);
        let dims = split_at(&self.shape, self.dim);
        let x = x.contiguous()?;
        dispatch_all!(x.dtype(), T => pick::put::<T>(&x, &indices, dims, k, &out));
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(pick_along(grad, &self.indices.get()?, self.dim)?)])
    }

    fn release(&self) {
        self.indices.clear();
    }
}

fn kept(indices: &Array) -> Kept {
    let mut kept = Kept::default();
    kept.set(indices.clone());
    kept
}

/// The elements of `x` at `indices` along `dim`: contiguous int64 in range, none twice.
pub(super) fn pick_along(x: &Tensor, indices: &Array, dim: usize) -> Result<Tensor> {
    debug_assert!(indices.is_contiguous() && indices.dtype() == DType::I64);
    apply(Pick { dim, indices: kept(indices) }, [x])
}

/// Zeros of `shape` with `x` at `indices` along `dim`: the reverse of [`pick_along`].
pub(super) fn put_along(x: &Tensor, indices: &Array, dim: usize, shape: &[usize]) -> Result<Tensor> {
    apply(Put { dim, indices: kept(indices), shape: Dims::from_slice(shape) }, [x])
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
        Ok([Some(put_along(&grad, &indices, self.dim, &saved.shape(0))?)])
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
    let op = Selected { dim, values: Some(values), indices: kept(&indices), shape, node };
    Ok((apply(op, [x])?, index))
}

/// The parts, each from its start along `dim`, as one tensor of `shape`.
pub(super) fn place(parts: &[(usize, Tensor)], dim: usize, shape: &[usize]) -> Result<Tensor> {
    let mut whole: Option<Tensor> = None;
    for (start, part) in parts {
        let (outer, k, inner) = split_at(part.shape(), dim);
        let indices: Vec<i64> = (0..outer * k * inner).map(|i| (start + i / inner % k) as i64).collect();
        let part = put_along(part, &Array::from_slice(&indices, part.shape())?, dim, shape)?;
        whole = Some(match whole {
            Some(whole) => whole + part,
            None => part,
        });
    }
    match whole {
        Some(whole) => Ok(whole),
        None => Tensor::zeros(shape, DType::F32),
    }
}
