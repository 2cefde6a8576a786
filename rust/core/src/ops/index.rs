//! Picking items by lists of indices: advanced indexing, `index_select`, `embedding`.

use super::gather::out_of_bounds;
use crate::array::Array;
use crate::autograd::{apply::apply, check_writable, inplace::apply_inplace, mode, Grads, Kept, Op, Saved};
use crate::kernels::mask::Hits;
use crate::kernels::{copy, gather, positions};
use crate::layout::{broadcast_shapes, normalize_dim, Dims, Layout, Strides};
use crate::tensor::Tensor;
use crate::{bail, ensure, DType, Result};
use smallvec::SmallVec;

/// Which items of a tensor are picked: for some of its dims, one index per item.
#[derive(Debug)]
struct Picks {
    /// The dims that are indexed, ascending.
    dims: SmallVec<[usize; 4]>,
    /// Row `k` has the indices of all items for `dims[k]`: int64, checked, counted from 0. Memory of
    /// their own, so that nobody can change them after the check.
    indices: Kept,
    /// Shape of the list of items.
    shape: Dims,
    /// Shape of the tensor that is indexed.
    source: Dims,
}

impl Picks {
    /// Checks the indices against `source`; those that count from the end only if they are `signed`.
    fn new(op: &str, source: &[usize], indexed: &[(usize, Array)], signed: bool) -> Result<Self> {
        let mut shape = Dims::new();
        for (_, index) in indexed {
            shape = match broadcast_shapes(op, &shape, index.shape()) {
                Ok(shape) => shape,
                Err(_) => {
                    let shapes: Vec<&[usize]> = indexed.iter().map(|(_, index)| index.shape()).collect();
                    bail!(
                        Index,
                        "{op}: shape mismatch: indexing tensors could not be broadcast together with shapes \
                         {shapes:?}; give them one shape"
                    );
                }
            };
        }
        let dims: SmallVec<[usize; 4]> = indexed.iter().map(|(dim, _)| *dim).collect();
        let mut rows = Dims::from_slice(&[indexed.len()]);
        rows.extend_from_slice(&shape);
        let mut indices = Array::empty(&rows, DType::I64)?;
        // Where nothing is picked, PyTorch does not look at the indices, unless their own dim has no position.
        let nothing = (0..source.len()).any(|d| !dims.contains(&d) && source[d] == 0);
        let count = shape.iter().product::<usize>().max(1);
        for (row, (dim, index)) in indices.slice_mut::<i64>().chunks_exact_mut(count).zip(indexed) {
            let extent = source[*dim];
            if nothing && extent > 0 {
                row.fill(0);
                continue;
            }
            let index = index.to_dtype(DType::I64)?.broadcast_to(op, &shape)?.contiguous()?;
            let lowest = if signed { -(extent as i64) } else { 0 };
            if !positions::of_indices(index.slice(), lowest, extent, row) {
                let wrong = index.slice::<i64>().iter().find(|i| !(lowest..extent as i64).contains(i));
                return Err(out_of_bounds(op, wrong.copied().unwrap_or(lowest - 1), *dim, lowest, extent));
            }
        }
        Ok(Self { dims, indices: Kept::of(indices), shape, source: Dims::from_slice(source) })
    }

    /// The same picks for another operation; an error after the graph was freed.
    fn again(&self) -> Result<Self> {
        let indices = Kept::of(self.indices.get(Index::NAME)?);
        Ok(Self { dims: self.dims.clone(), indices, shape: self.shape.clone(), source: self.source.clone() })
    }

    /// Where each item starts in an array of the source's shape, in elements from its first.
    fn offsets(&self, x: &Array) -> Result<Array> {
        let indices = self.indices.get(Index::NAME)?;
        let count: usize = self.shape.iter().product();
        if self.dims.len() == 1 && x.strides()[self.dims[0]] == 1 {
            return Ok(indices);
        }
        let mut offsets = Array::empty(&[count], DType::I64)?;
        let strides: SmallVec<[isize; 4]> = self.dims.iter().map(|&dim| x.strides()[dim]).collect();
        positions::offsets(indices.slice(), &strides, offsets.slice_mut());
        Ok(offsets)
    }

    /// The layout of one item: the dims that are not indexed.
    fn rest(&self, x: &Array) -> Array {
        let mut layout = x.layout().clone();
        for &dim in self.dims.iter().rev() {
            // Position 0 exists: where the extent is 0 there are no items.
            layout = layout.select(dim, 0);
        }
        x.with_layout(layout)
    }

    fn result_shape(&self) -> Dims {
        let rest = (0..self.source.len()).filter(|d| !self.dims.contains(d)).map(|d| self.source[d]);
        self.shape.iter().copied().chain(rest).collect()
    }

    fn take(&self, x: &Array) -> Result<Array> {
        let out = Array::empty(&self.result_shape(), x.dtype())?;
        if out.numel() > 0 {
            gather::take(self.offsets(x)?.slice(), &self.rest(x), &out);
        }
        Ok(out)
    }

    /// Writes values of the result's shape into an array of the source's shape.
    fn put(&self, out: &Array, values: &Array, accumulate: bool) -> Result<()> {
        let values = values.broadcast_to("index_put_", &self.result_shape())?.to_dtype(out.dtype())?;
        if values.numel() > 0 {
            gather::put(self.offsets(out)?.slice(), &self.rest(out), &values.contiguous()?, accumulate);
        }
        Ok(())
    }
}

/// The picked items, listed along new leading dims.
#[derive(Debug)]
struct Index {
    picks: Picks,
    name: &'static str,
    /// Items of this index get no gradient (`embedding`'s padding).
    padding: Option<usize>,
}

impl Op<1> for Index {
    const NAME: &'static str = "index";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        self.name.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        self.picks.take(x)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let picks = self.picks.again()?;
        Ok([Some(apply(IndexAdd { picks, padding: self.padding }, [grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.picks.indices);
    }
}

/// Positions of one dim in the order of a list of indices.
#[derive(Debug)]
struct SelectAlong(Picks);

impl Op<1> for SelectAlong {
    const NAME: &'static str = "index_select";

    fn only_moves(&self) -> bool {
        true
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let (dim, indices) = (self.0.dims[0], self.0.indices.get(Self::NAME)?);
        let mut shape = Dims::from_slice(x.shape());
        shape[dim] = self.0.shape[0];
        let out = Array::empty(&shape, x.dtype())?;
        if out.numel() > 0 {
            // As gather has it, with the same index for all other dims.
            let mut strides = Strides::from_elem(0, x.rank());
            strides[dim] = 1;
            let index = indices.with_layout(Layout::new(shape, strides, indices.layout().offset()));
            let is_right = gather::gather(x, dim, &index, &out);
            debug_assert!(is_right, "picks are checked");
        }
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let rest = (0..grad.rank()).filter(|d| *d != self.0.dims[0]);
        let order: Vec<isize> = self.0.dims.iter().copied().chain(rest).map(|d| d as isize).collect();
        let op = IndexAdd { picks: self.0.again()?, padding: None };
        Ok([Some(apply(op, [&grad.permute(&order)?])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.0.indices);
    }
}

/// Zeros of the source's shape with values added at the picked places: the gradient of `index`.
#[derive(Debug)]
struct IndexAdd {
    picks: Picks,
    padding: Option<usize>,
}

impl Op<1> for IndexAdd {
    const NAME: &'static str = "index_add_zeros";

    fn forward(&mut self, [values]: [&Array; 1]) -> Result<Array> {
        let out = Array::full(&self.picks.source, 0.0, values.dtype())?;
        self.picks.put(&out, values, true)?;
        if let Some(padding) = self.padding {
            copy::fill(&out.with_layout(out.layout().select(0, padding)), 0.0);
        }
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let grad = match self.padding {
            None => grad.clone(),
            Some(padding) => {
                let mask = Array::full(grad.shape(), 1.0, grad.dtype())?;
                copy::fill(&mask.with_layout(mask.layout().select(0, padding)), 0.0);
                grad * Tensor::constant(mask)
            }
        };
        let op = Index { picks: self.picks.again()?, name: "IndexBackward0", padding: None };
        Ok([Some(apply(op, [&grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.picks.indices);
    }
}

/// The target with the picked items replaced by, or increased by, values.
#[derive(Debug)]
struct IndexPut {
    picks: Picks,
    accumulate: bool,
}

impl Op<2> for IndexPut {
    const NAME: &'static str = "index_put_";

    fn only_moves(&self) -> bool {
        !self.accumulate
    }

    fn grad_fn_name(&self) -> String {
        "IndexPutBackward0".into()
    }

    fn forward(&mut self, [x, values]: [&Array; 2]) -> Result<Array> {
        let out = x.copied()?;
        self.picks.put(&out, values, self.accumulate)?;
        Ok(out)
    }

    fn forward_into(&mut self, [_, values]: [&Array; 2], out: &Array) -> Result<()> {
        let shared = values.shares_memory_with(out);
        let values = if shared { values.copied()? } else { values.clone() };
        self.picks.put(out, &values, self.accumulate)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let picks = self.picks.again()?;
        let target = match (saved.needs(0), self.accumulate) {
            (false, _) => None,
            (true, true) => Some(grad.clone()),
            (true, false) => {
                let zero = grad.scalar_beside(0.0)?;
                let op = IndexPut { picks: picks.again()?, accumulate: false };
                Some(apply(op, [grad, &zero])?)
            }
        };
        let values = if saved.needs(1) {
            let op = Index { picks, name: "IndexBackward0", padding: None };
            Some(apply(op, [grad])?)
        } else {
            None
        };
        Ok([target, values])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.picks.indices);
    }
}

/// The tensor that is indexed, and one index per indexed dim of it, as `x[..., index, ...]` has it.
///
/// Masks (bool, or uint8 as in PyTorch) cover as many dims as they have; for one of no dims the tensor
/// gets a dim of extent 1.
fn expand_masks(op: &str, x: &Tensor, indices: &[Option<Tensor>]) -> Result<(Tensor, Vec<(usize, Array)>)> {
    let mut source = x.clone();
    let mut indexed = Vec::new();
    let mut dim = 0;
    for index in indices {
        let Some(index) = index else {
            dim += 1;
            continue;
        };
        if matches!(index.dtype(), DType::Bool | DType::U8) {
            let mut mask = index.clone();
            if mask.rank() == 0 {
                (source, mask) = (source.unsqueeze(dim as isize)?, mask.reshape(&[1])?);
            }
            check_mask(op, &source, dim, mask.shape())?;
            for (d, column) in mask.nonzero()?.unbind(1)?.into_iter().enumerate() {
                indexed.push((dim + d, column.array().clone()));
            }
            dim += mask.rank();
        } else {
            ensure!(
                index.dtype().category() == crate::dtype::Category::Int,
                Index,
                "{op}: tensors used as indices must be long, int, byte or bool tensors, not {}; convert with .long()",
                index.dtype()
            );
            check_rank(op, &source, dim + 1)?;
            indexed.push((dim, index.array().clone()));
            dim += 1;
        }
    }
    check_rank(op, &source, dim)?;
    Ok((source, indexed))
}

fn check_rank(op: &str, x: &Tensor, used: usize) -> Result<()> {
    ensure!(
        used <= x.rank(),
        Index,
        "{op}: too many indices for tensor of dimension {} (shape {:?}): {used} given; use fewer",
        x.rank(),
        x.shape()
    );
    Ok(())
}

fn check_mask(op: &str, x: &Tensor, dim: usize, mask: &[usize]) -> Result<()> {
    for (d, &extent) in mask.iter().enumerate() {
        ensure!(
            x.shape().get(dim + d) == Some(&extent),
            Index,
            "{op}: The shape of the mask {mask:?} at index {d} does not match the shape of the indexed tensor {:?} at \
             index {}; a mask needs the shape of the dims that it covers",
            x.shape(),
            dim + d
        );
    }
    Ok(())
}

/// How many dims stand before the list of items in the result: those before the indexed dims when
/// these are neighbours, else none.
fn leading(dims: &[usize]) -> usize {
    let neighbours = dims.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if neighbours {
        dims.first().copied().unwrap_or(0)
    } else {
        0
    }
}

impl Tensor {
    /// `x[i, :, j]` with index tensors (int or bool) for some dims; `None` takes a dim whole.
    pub fn index(&self, indices: &[Option<Tensor>]) -> Result<Tensor> {
        if let [Some(mask)] = indices {
            let is_recorded = mode::is_recording() && self.requires_grad();
            if mask.dtype() == DType::Bool && mask.shape() == self.shape() && mask.rank() > 0 && !is_recorded
            {
                return self.where_holds(mask);
            }
        }
        let (x, indexed) = expand_masks("index", self, indices)?;
        let picks = Picks::new("index", x.shape(), &indexed, true)?;
        let (lead, items) = (leading(&picks.dims), picks.shape.len());
        let out = apply(Index { picks, name: "IndexBackward0", padding: None }, [&x])?;
        Ok(out.move_block(items, lead)?.into_new())
    }

    /// The elements where a mask of the same shape holds, in row-major order; without a history.
    fn where_holds(&self, mask: &Tensor) -> Result<Tensor> {
        let (x, mask) = (self.array().contiguous()?, mask.array().contiguous()?);
        let hits = Hits::of(&mask);
        let out = Array::empty(&[hits.count()], x.dtype())?;
        hits.elements(&x, &out);
        Ok(Tensor::constant(out))
    }

    /// `x[i, :, j] = values` in place, or `+=`. A single value for a mask may have any dtype.
    pub fn index_put_(&self, indices: &[Option<Tensor>], values: &Tensor, accumulate: bool) -> Result<()> {
        let is_mask =
            |index: &Option<Tensor>| index.as_ref().is_none_or(|index| index.dtype() == DType::Bool);
        ensure!(
            values.dtype() == self.dtype() || values.numel() == 1 && indices.iter().all(is_mask),
            DType,
            "index_put_: Index put requires the source and destination dtypes match, got {} for the destination and \
             {} for the source; convert the source with .to(dtype)",
            self.dtype().scalar_name(),
            values.dtype().scalar_name()
        );
        let is_recorded = mode::is_recording() && (self.requires_grad() || values.requires_grad());
        if let ([Some(mask)], false) = (indices, accumulate || is_recorded) {
            if mask.dtype() == DType::Bool && mask.rank() > 0 && values.numel() == 1 && values.rank() <= 1 {
                // One number wherever the mask holds: no list of the places.
                check_rank("index_put_", self, mask.rank())?;
                check_mask("index_put_", self, 0, mask.shape())?;
                let mut shape = Dims::from_slice(mask.shape());
                shape.resize(self.rank(), 1);
                return self.masked_fill_tensor_(&mask.reshape(&shape)?, &values.reshape(&[])?);
            }
        }
        let (x, indexed) = expand_masks("index_put_", self, indices)?;
        let picks = Picks::new("index_put_", x.shape(), &indexed, true)?;
        let (lead, items) = (leading(&picks.dims), picks.shape.len());
        let shape: Dims = picks.result_shape();
        // Values are written in the order of the user's result: its list of items stands after `lead` dims.
        let mut seen: Dims = shape[items..items + lead].into();
        seen.extend_from_slice(&shape[..items]);
        seen.extend_from_slice(&shape[items + lead..]);
        let values = values.without_leading_ones(seen.len())?;
        if broadcast_shapes("index_put_", values.shape(), &seen).ok().as_deref() != Some(&seen[..]) {
            bail!(
                Shape,
                "index_put_: shape mismatch: value tensor of shape {:?} cannot be broadcast to indexing result of \
                 shape {:?}; reshape it",
                values.shape(),
                seen.as_slice()
            );
        }
        let values = values.expand(&seen)?;
        let order: Vec<isize> =
            (lead..lead + items).chain(0..lead).chain(lead + items..seen.len()).map(|d| d as isize).collect();
        let values = values.permute(&order)?;
        apply_inplace(IndexPut { picks, accumulate }, [&x, &values])
    }

    /// In place, `source`'s positions along `dim` added at `index`: `self[index[i]] += source[i]` for dim 0.
    pub fn index_add_(&self, dim: isize, index: &Tensor, source: &Tensor) -> Result<()> {
        let op = "index_add";
        check_writable(op, self)?;
        let dim = normalize_dim(op, dim, self.rank())?;
        ensure!(
            matches!(index.dtype(), DType::I32 | DType::I64),
            DType,
            "{op}: Expected dtype int32/int64 for index but got: {}; convert it with .long()",
            index.dtype().scalar_name()
        );
        ensure!(
            self.dtype() == source.dtype(),
            DType,
            "{op}: self ({}) and source ({}) must have the same scalar type; convert one of them",
            self.dtype().scalar_name(),
            source.dtype().scalar_name()
        );
        let extent = source.shape().get(dim).copied().unwrap_or(1);
        ensure!(
            index.rank() <= 1 && extent == index.numel(),
            Shape,
            "{op}: Number of indices ({}, of shape {:?}) should be equal to source.size(dim): ({extent}), for dim: {dim}; \
             give one index per position of source",
            index.numel(),
            index.shape()
        );
        let fits = self.rank() == source.rank()
            && (0..self.rank()).all(|d| d == dim || self.shape()[d] == source.shape()[d]);
        ensure!(
            fits,
            Shape,
            "{op}: source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape \
             = {:?} source.shape = {:?}; reshape or expand the source",
            self.shape(),
            source.shape()
        );
        if self.rank() == 0 {
            return self.reshape(&[1])?.index_add_(0, index, &source.reshape(&[1])?);
        }
        // Seen with `dim` first, this is `self[index] += source`.
        let (target, source) = (self.transpose(0, dim as isize)?, source.transpose(0, dim as isize)?);
        let index = index.reshape(&[index.numel()])?;
        let picks = Picks::new(op, target.shape(), &[(0, index.array().clone())], false)?;
        apply_inplace(IndexPut { picks, accumulate: true }, [&target, &source])
    }

    /// The first `items` dims moved behind the next `lead` dims.
    fn move_block(&self, items: usize, lead: usize) -> Result<Tensor> {
        if lead == 0 || items == 0 {
            return Ok(self.clone());
        }
        let order: Vec<isize> = (items..items + lead)
            .chain(0..items)
            .chain(items + lead..self.rank())
            .map(|d| d as isize)
            .collect();
        self.permute(&order)?.contiguous()
    }

    /// Positions of `dim` in the order of `index` (0-d or 1-d ints).
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        let dim = normalize_dim("index_select", dim, self.rank())?;
        ensure!(
            index.rank() <= 1,
            Index,
            "index_select: Index is supposed to be a vector, not shape {:?}; flatten it",
            index.shape()
        );
        ensure!(
            matches!(index.dtype(), DType::I32 | DType::I64),
            DType,
            "index_select: Expected dtype int32 or int64 for index, not {}; convert it with .long()",
            index.dtype()
        );
        if self.rank() == 0 {
            ensure!(
                index.numel() == 1,
                Shape,
                "index_select: Index to scalar can have only 1 value, got {} value(s); unsqueeze the tensor first",
                index.numel()
            );
            return self.reshape(&[1])?.index_select(0, index)?.reshape(&[]);
        }
        let index = index.reshape(&[index.numel()])?;
        let picks = Picks::new("index_select", self.shape(), &[(dim, index.array().clone())], false)?;
        if dim > 0 {
            return apply(SelectAlong(picks), [self]);
        }
        apply(Index { picks, name: "IndexSelectBackward0", padding: None }, [self])
    }

    /// Rows of this matrix at `index`, of any shape; items of `padding` get no gradient.
    pub fn embedding(&self, index: &Tensor, padding: Option<usize>) -> Result<Tensor> {
        ensure!(
            matches!(index.dtype(), DType::I32 | DType::I64),
            DType,
            "embedding: Expected tensor for argument #1 'indices' to have one of the following scalar types: \
             Long, Int, but got {} instead; convert with .long()",
            index.dtype().scalar_name()
        );
        ensure!(
            self.rank() == 2,
            Shape,
            "embedding: 'weight' must be 2-D, not of shape {:?}; give (rows, columns)",
            self.shape()
        );
        let rows = self.shape()[0];
        ensure!(
            padding.is_none_or(|padding| padding < rows),
            Index,
            "embedding: padding_idx {} must be within the table of {rows} rows; use a smaller one",
            padding.unwrap_or_default()
        );
        let picks = Picks::new("embedding", self.shape(), &[(0, index.array().clone())], false)?;
        apply(Index { picks, name: "EmbeddingBackward0", padding }, [self])
    }

    /// Indices of the elements that are not 0 as a vector per dim; one vector for a 0-d tensor.
    pub fn nonzero_by_dim(&self) -> Result<Vec<Tensor>> {
        if self.rank() == 0 {
            return self.reshape(&[1])?.nonzero_by_dim();
        }
        self.nonzero()?.unbind(1)
    }

    /// Indices of the elements that are not 0, one row each, in row-major order.
    pub fn nonzero(&self) -> Result<Tensor> {
        let mask = self.array().to_dtype(DType::Bool)?.contiguous()?;
        let hits = Hits::of(&mask);
        let mut rows = Array::empty(&[hits.count(), self.rank()], DType::I64)?;
        match self.rank() {
            0 => {}
            1 => hits.places(rows.slice_mut()),
            _ => hits.coordinates(self.shape(), rows.slice_mut())?,
        }
        Ok(Tensor::constant(rows))
    }
}
