//! Joining tensors along a dim, and cutting them apart.

use crate::array::Array;
use crate::autograd::apply::apply_many;
use crate::autograd::mode;
use crate::autograd::node::{Backward, InputGrads, NodeRef, OutputGrads};
use crate::layout::{normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{bail, ensure, DType, Result};

/// Tensors laid one after the other along a dim.
#[derive(Debug)]
struct Cat {
    dim: usize,
    /// Extent of each input along `dim`; none for one that was skipped as empty.
    extents: Vec<Option<usize>>,
    name: &'static str,
}

impl Backward for Cat {
    fn name(&self) -> String {
        self.name.into()
    }

    fn backward(&self, node: &NodeRef, mut grads: OutputGrads) -> Result<InputGrads> {
        let Some(grad) = grads.pop().flatten() else { return Ok(InputGrads::new()) };
        let mut start = 0;
        let mut result = InputGrads::new();
        for (extent, edge) in self.extents.iter().zip(node.edges()) {
            result.push(match (extent, edge) {
                (Some(extent), Some(_)) => Some(grad.narrow(self.dim as isize, start as isize, *extent)?),
                (None, Some(edge)) => Some(Tensor::zeros(&edge.meta().shape, grad.dtype())?),
                _ => None,
            });
            start += extent.unwrap_or(0);
        }
        Ok(result)
    }
}

/// Pieces of a tensor along a dim: views that share one node.
#[derive(Debug)]
struct Split {
    dim: usize,
    /// Whether each piece is one position whose dim disappears.
    unbind: bool,
    name: &'static str,
}

impl Backward for Split {
    fn name(&self) -> String {
        self.name.into()
    }

    fn backward(&self, node: &NodeRef, grads: OutputGrads) -> Result<InputGrads> {
        let Some(like) = grads.iter().flatten().next() else { return Ok(InputGrads::new()) };
        let dtype: DType = like.dtype();
        let mut pieces = Vec::with_capacity(grads.len());
        for (grad, meta) in grads.iter().zip(node.outputs()) {
            let piece = match grad {
                Some(grad) => grad.clone(),
                None => Tensor::zeros(&meta.shape, dtype)?,
            };
            pieces.push(if self.unbind { piece.unsqueeze(self.dim as isize)? } else { piece });
        }
        let pieces: Vec<&Tensor> = pieces.iter().collect();
        Ok(InputGrads::from_elem(Some(Tensor::cat(&pieces, self.dim as isize)?), 1))
    }
}

impl Tensor {
    /// Tensors laid one after the other along `dim`; their other extents are equal.
    pub fn cat(tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
        Self::cat_named("cat", "CatBackward0", tensors, dim)
    }

    /// Tensors of one shape laid side by side along a new dim.
    pub fn stack(tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
        ensure!(!tensors.is_empty(), Shape, "stack expects a non-empty TensorList");
        for (i, tensor) in tensors.iter().enumerate() {
            ensure!(
                tensor.shape() == tensors[0].shape(),
                Shape,
                "stack expects each tensor to be equal size, but got {:?} at entry 0 and {:?} at entry {i}",
                tensors[0].shape(),
                tensor.shape()
            );
        }
        let dim = normalize_dim("stack", dim, tensors[0].rank() + 1)? as isize;
        let raised: Vec<Tensor> = tensors.iter().map(|x| x.unsqueeze(dim)).collect::<Result<_>>()?;
        Self::cat_named("stack", "StackBackward0", &raised.iter().collect::<Vec<_>>(), dim)
    }

    fn cat_named(op: &str, name: &'static str, tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
        ensure!(!tensors.is_empty(), Value, "{op}: expected a non-empty list of Tensors");
        // PyTorch ignores 1-d tensors without elements, whatever the others' rank.
        let skipped = |x: &Tensor| x.shape() == [0];
        let Some(first) = tensors.iter().find(|x| !skipped(x)).or(tensors.first()) else {
            bail!(Value, "{op}: expected a non-empty list of Tensors");
        };
        ensure!(
            first.rank() > 0,
            Shape,
            "{op}: zero-dimensional tensor (at position 0) cannot be concatenated; use stack"
        );
        let dim = normalize_dim(op, dim, first.rank())?;
        let dtype = tensors.iter().skip(1).fold(tensors[0].dtype(), |d, x| d.promote(x.dtype()));
        let mut shape = Dims::from_slice(first.shape());
        shape[dim] = 0;
        let mut extents = Vec::with_capacity(tensors.len());
        for (i, x) in tensors.iter().enumerate() {
            if skipped(x) && first.rank() != 1 {
                extents.push(None);
                continue;
            }
            let fits = x.rank() == first.rank()
                && (0..x.rank()).all(|d| d == dim || x.shape()[d] == first.shape()[d]);
            ensure!(
                fits,
                Shape,
                "{op}: Sizes of tensors must match except in dimension {dim}. Expected {:?} but got {:?} for \
                 tensor number {i} in the list",
                first.shape(),
                x.shape()
            );
            shape[dim] += x.shape()[dim];
            extents.push(Some(x.shape()[dim]));
        }
        let out = Array::empty(&shape, dtype)?;
        let mut start = 0;
        for (x, extent) in tensors.iter().zip(&extents) {
            let Some(extent) = *extent else { continue };
            let slot = out.with_layout(out.layout().slice(dim, start, extent, 1));
            crate::kernels::copy::copy(x.array(), &slot);
            start += extent;
        }
        Ok(apply_many(Cat { dim, extents, name }, tensors, vec![out]).remove(0))
    }

    /// Pieces of the given extents along `dim`: views.
    pub fn split_with_sizes(&self, sizes: &[usize], dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Shape, "split: expects at least a 1-dimensional tensor");
        let dim = normalize_dim("split", dim, self.rank())?;
        ensure!(
            sizes.iter().sum::<usize>() == self.shape()[dim],
            Shape,
            "split_with_sizes expects split_sizes to sum exactly to {} (input tensor's size at dimension \
             {dim}), but got split_sizes={sizes:?}",
            self.shape()[dim]
        );
        let mut start = 0;
        let mut pieces = Vec::with_capacity(sizes.len());
        for &size in sizes {
            pieces.push(self.array().with_layout(self.array().layout().slice(dim, start, size, 1)));
            start += size;
        }
        Ok(self.views(Split { dim, unbind: false, name: "SplitBackward0" }, pieces))
    }

    /// Pieces of `size` along `dim`, the last one smaller if need be: views.
    pub fn split(&self, size: usize, dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Shape, "split: expects at least a 1-dimensional tensor");
        let extent = self.shape()[normalize_dim("split", dim, self.rank())?];
        ensure!(
            size > 0 || extent == 0,
            Value,
            "split: split_size can only be 0 if dimension size is 0, but got dimension size of {extent}"
        );
        let count = if extent == 0 { 1 } else { extent.div_ceil(size) };
        let sizes: Vec<usize> = (0..count).map(|i| size.min(extent - i * size)).collect();
        self.split_with_sizes(&sizes, dim)
    }

    /// At most `chunks` pieces of equal extent along `dim`: views.
    pub fn chunk(&self, chunks: usize, dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Shape, "chunk: expects at least a 1-dimensional tensor");
        ensure!(chunks > 0, Value, "chunk expects `chunks` to be greater than 0, got: {chunks}");
        let extent = self.shape()[normalize_dim("chunk", dim, self.rank())?];
        if extent == 0 {
            return self.split_with_sizes(&vec![0; chunks], dim);
        }
        self.split(extent.div_ceil(chunks), dim)
    }

    /// Every position along `dim`, without that dim: views.
    pub fn unbind(&self, dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Index, "unbind: Dimension specified as {dim} but tensor has no dimensions");
        let dim = normalize_dim("unbind", dim, self.rank())?;
        let layout = self.array().layout();
        let pieces =
            (0..self.shape()[dim]).map(|i| self.array().with_layout(layout.select(dim, i))).collect();
        Ok(self.views(Split { dim, unbind: true, name: "UnbindBackward0" }, pieces))
    }

    fn views(&self, op: Split, pieces: Vec<Array>) -> Vec<Tensor> {
        let tensors = apply_many(op, &[self], pieces);
        let recording = mode::is_grad_enabled();
        tensors.iter().for_each(|x| x.set_view_of(self, recording));
        tensors
    }
}
