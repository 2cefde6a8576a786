//! Joining tensors along a dim, and cutting them apart.

use super::selected::split_at;
use crate::alloc::Block;
use crate::array::Array;
use crate::autograd::apply::apply_many;
use crate::autograd::mode;
use crate::autograd::node::{Backward, InputGrads, Needs, NodeRef, OutputGrads};
use crate::kernels::copy;
use crate::layout::{normalize_dim, Dims, Layout};
use crate::tensor::Tensor;
use crate::{bail, ensure, DType, Result};

/// Tensors laid one after the other along a dim.
#[derive(Debug)]
struct Cat {
    dim: usize,
    /// Extent of each input along `dim`; none for one that was skipped as empty.
    extents: Vec<Option<usize>>,
}

impl Backward for Cat {
    fn name(&self) -> String {
        "CatBackward0".into()
    }

    fn only_moves(&self) -> bool {
        true
    }

    fn backward(&self, node: &NodeRef, needs: Needs<'_>, mut grads: OutputGrads) -> Result<InputGrads> {
        let Some(grad) = grads.pop().flatten() else { return Ok(InputGrads::new()) };
        let mut start = 0;
        let mut result = InputGrads::new();
        for (i, (extent, edge)) in self.extents.iter().zip(node.edges()).enumerate() {
            result.push(match (extent, edge.as_ref().filter(|_| needs.of(i))) {
                (Some(extent), Some(_)) => Some(grad.narrow(self.dim as isize, start as isize, *extent)?),
                (None, Some(edge)) => Some(Tensor::zeros(&edge.meta().shape, grad.dtype())?),
                _ => None,
            });
            start += extent.unwrap_or(0);
        }
        Ok(result)
    }
}

/// Tensors of one shape laid side by side along a new dim.
#[derive(Debug)]
struct Stack(usize);

impl Backward for Stack {
    fn name(&self) -> String {
        "StackBackward0".into()
    }

    fn only_moves(&self) -> bool {
        true
    }

    fn backward(&self, node: &NodeRef, needs: Needs<'_>, mut grads: OutputGrads) -> Result<InputGrads> {
        let Some(grad) = grads.pop().flatten() else { return Ok(InputGrads::new()) };
        let piece = |i| needs.of(i).then(|| grad.select(self.0 as isize, i as isize)).transpose();
        (0..node.edges().len()).map(piece).collect()
    }
}

/// The places of joined tensors in the result, along a dim, one after the other.
struct Slots<'a> {
    out: &'a Array,
    start: usize,
    /// Elements of one position of the dim, and number of positions of the dims before it.
    inner: usize,
    outer: usize,
}

impl<'a> Slots<'a> {
    fn of(out: &'a Array, dim: usize) -> Self {
        let (outer, _, inner) = split_at(out.shape(), dim);
        Self { out, start: 0, inner, outer }
    }

    /// Copies `x` to the next `extent` positions; `layout` is theirs in the result.
    fn fill(&mut self, x: &Array, extent: usize, layout: impl FnOnce(&Array, usize) -> Layout) {
        if x.numel() < copy::SMALL && x.dtype() == self.out.dtype() && x.is_contiguous() {
            // Small pieces: the general copy would take longer to find this out (50 of 16 x 32: half of the time).
            copy::copy_rows(x, self.out, self.start * self.inner, self.outer);
        } else {
            copy::copy(x, &self.out.with_layout(layout(self.out, self.start)));
        }
        self.start += extent;
    }
}

/// The dtype that holds the elements of all of the tensors, of which there is at least one.
fn common_dtype(tensors: &[&Tensor]) -> DType {
    tensors.iter().skip(1).fold(tensors[0].dtype(), |dtype, x| dtype.promote(x.dtype()))
}

/// Bytes of a piece: the view and its place in the graph.
const PIECE_BYTES: usize = 256;

/// Room for a list of `count` pieces. So many that memory may not suffice are an error before the
/// first is made: a list that grows would abort the process.
fn room_for<T>(op: &str, count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    let fits =
        count < 1 << 16 || Block::new(count.saturating_mul(PIECE_BYTES).min(isize::MAX as usize)).is_ok();
    ensure!(
        fits && list.try_reserve_exact(count).is_ok(),
        Memory,
        "{op}: {count} pieces need about {} bytes; ask for fewer",
        count.saturating_mul(PIECE_BYTES)
    );
    Ok(list)
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

    fn only_moves(&self) -> bool {
        true
    }

    fn backward(&self, node: &NodeRef, _needs: Needs<'_>, grads: OutputGrads) -> Result<InputGrads> {
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
    /// Tensors of one shape laid side by side along a new dim.
    pub fn stack(tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            bail!(Value, "stack: expects a non-empty TensorList, got 0 tensors; give at least one tensor");
        };
        for (i, tensor) in tensors.iter().enumerate() {
            ensure!(
                tensor.shape() == first.shape(),
                Shape,
                "stack: expects each tensor to be equal size, but got {:?} at entry 0 and {:?} at entry {i}; use cat, \
                 or pad them to one shape",
                first.shape(),
                tensor.shape()
            );
        }
        let dim = normalize_dim("stack", dim, first.rank() + 1)?;
        let mut shape = Dims::from_slice(first.shape());
        shape.insert(dim, tensors.len());
        let out = Array::empty(&shape, common_dtype(tensors))?;
        let mut slots = Slots::of(&out, dim);
        for x in tensors {
            slots.fill(x.array(), 1, |out, at| out.layout().select(dim, at));
        }
        Ok(apply_many(Stack(dim), tensors, vec![out])?.remove(0))
    }

    /// Tensors laid one after the other along `dim`; their other extents are equal.
    pub fn cat(tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
        let op = "cat";
        // PyTorch ignores 1-d tensors without elements, whatever the others' rank, and the dim if all are such.
        let skipped = |x: &Tensor| x.shape() == [0];
        let Some(first) = tensors.iter().find(|x| !skipped(x)).or(tensors.first()) else {
            bail!(Value, "{op}: expected a non-empty list of Tensors, got 0; give at least one");
        };
        ensure!(
            first.rank() > 0,
            Shape,
            "{op}: zero-dimensional tensor (at position 0) cannot be concatenated; use stack"
        );
        let dim = if skipped(first) { 0 } else { normalize_dim(op, dim, first.rank())? };
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
                 tensor number {i} in the list; reshape or pad it",
                first.shape(),
                x.shape()
            );
            let extent = x.shape()[dim];
            shape[dim] = match shape[dim].checked_add(extent) {
                Some(sum) => sum,
                None => bail!(
                    Shape,
                    "{op}: the joined extent of dim {dim} overflows; join fewer or smaller tensors"
                ),
            };
            extents.push(Some(extent));
        }
        let out = Array::empty(&shape, common_dtype(tensors))?;
        let mut slots = Slots::of(&out, dim);
        for (x, extent) in tensors.iter().zip(&extents) {
            let Some(extent) = *extent else { continue };
            slots.fill(x.array(), extent, |out, at| out.layout().slice(dim, at, extent, 1));
        }
        Ok(apply_many(Cat { dim, extents }, tensors, vec![out])?.remove(0))
    }

    /// Pieces of the given extents along `dim`: views, which may be written in place as all views.
    pub fn split_with_sizes(&self, sizes: &[usize], dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Shape, "split: expects at least a 1-dimensional tensor; unsqueeze it first");
        let dim = normalize_dim("split", dim, self.rank())?;
        let sum = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        ensure!(
            sum == Some(self.shape()[dim]),
            Shape,
            "split: split_with_sizes expects split_sizes to sum exactly to {} (input tensor's size at dimension \
             {dim}), but got split_sizes={sizes:?}; change the sizes",
            self.shape()[dim]
        );
        self.pieces("split", dim, sizes.len(), |i| sizes[i])
    }

    /// Pieces of `size` along `dim`, the last one smaller if need be: views, which may be written in place.
    pub fn split(&self, size: usize, dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Shape, "split: expects at least a 1-dimensional tensor; unsqueeze it first");
        let dim = normalize_dim("split", dim, self.rank())?;
        ensure!(
            size > 0 || self.shape()[dim] == 0,
            Value,
            "split: split_size can only be 0 if dimension size is 0, but got dimension size of {}; use at least 1",
            self.shape()[dim]
        );
        self.pieces_of("split", dim, size)
    }

    /// At most `chunks` pieces of equal extent along `dim`: views, which may be written in place.
    pub fn chunk(&self, chunks: usize, dim: isize) -> Result<Vec<Tensor>> {
        ensure!(self.rank() > 0, Shape, "chunk: expects at least a 1-dimensional tensor; unsqueeze it first");
        ensure!(
            chunks > 0,
            Value,
            "chunk: expects `chunks` to be greater than 0, got: {chunks}; use at least 1"
        );
        let dim = normalize_dim("chunk", dim, self.rank())?;
        match self.shape()[dim] {
            0 => self.pieces("chunk", dim, chunks, |_| 0),
            extent => self.pieces_of("chunk", dim, extent.div_ceil(chunks)),
        }
    }

    /// Every position along `dim`, without that dim: views, which may be written in place.
    pub fn unbind(&self, dim: isize) -> Result<Vec<Tensor>> {
        ensure!(
            self.rank() > 0,
            Index,
            "unbind: Dimension specified as {dim} but tensor has no dimensions; unsqueeze it first"
        );
        let dim = normalize_dim("unbind", dim, self.rank())?;
        let layout = self.array().layout();
        let mut pieces = room_for("unbind", self.shape()[dim])?;
        pieces.extend((0..self.shape()[dim]).map(|i| self.array().with_layout(layout.select(dim, i))));
        self.views(Split { dim, unbind: true, name: "UnbindBackward0" }, pieces)
    }

    /// Pieces of `size`, the last one smaller if need be; a single empty one of an empty dim.
    fn pieces_of(&self, op: &str, dim: usize, size: usize) -> Result<Vec<Tensor>> {
        let extent = self.shape()[dim];
        let count = if extent == 0 { 1 } else { extent.div_ceil(size) };
        self.pieces(op, dim, count, |i| size.min(extent - i * size))
    }

    /// `count` pieces along `dim`, whose extents sum to its extent.
    fn pieces(
        &self,
        op: &str,
        dim: usize,
        count: usize,
        size: impl Fn(usize) -> usize,
    ) -> Result<Vec<Tensor>> {
        let mut pieces = room_for(op, count)?;
        let mut start = 0;
        for i in 0..count {
            pieces.push(self.array().with_layout(self.array().layout().slice(dim, start, size(i), 1)));
            start += size(i);
        }
        self.views(Split { dim, unbind: false, name: "SplitBackward0" }, pieces)
    }

    fn views(&self, op: Split, pieces: Vec<Array>) -> Result<Vec<Tensor>> {
        let tensors = apply_many(op, &[self], pieces)?;
        let recording = mode::is_recording();
        tensors.iter().for_each(|x| x.set_view_of(self, recording));
        Ok(tensors)
    }
}
