//! Picking items by lists of indices: advanced indexing, `index_select`, `embedding`.

use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved};
use crate::kernels::gather;
use crate::layout::{broadcast_shapes, normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{bail, ensure, DType, Result};
use smallvec::SmallVec;
use std::sync::Arc;

/// Which items of a tensor are picked: for some of its dims, one index per item.
#[derive(Debug, Clone)]
struct Picks {
    /// The dims that are indexed, ascending.
    dims: SmallVec<[usize; 4]>,
    /// Indices of all items for the first dim, then for the second, ...; checked and counted from 0.
    indices: Arc<Vec<usize>>,
    /// Shape of the list of items.
    shape: Dims,
    /// Shape of the tensor that is indexed.
    source: Dims,
}

impl Picks {
    fn new(op: &str, source: &[usize], indexed: &[(usize, Array)]) -> Result<Self> {
        let mut shape = Dims::new();
        for (_, index) in indexed {
            shape = match broadcast_shapes(op, &shape, index.shape()) {
                Ok(shape) => shape,
                Err(_) => {
                    let shapes: Vec<&[usize]> = indexed.iter().map(|(_, index)| index.shape()).collect();
                    bail!(Index, "{op}: shape mismatch: indexing tensors could not be broadcast together with shapes {shapes:?}");
                }
            };
        }
        // Where nothing is picked, PyTorch does not look at the indices.
        let dims: Vec<usize> = indexed.iter().map(|(dim, _)| *dim).collect();
        let nothing = (0..source.len()).any(|d| !dims.contains(&d) && source[d] == 0);
        let mut indices = Vec::new();
        for (dim, index) in indexed {
            let extent = source[*dim] as i64;
            for i in index.broadcast_to(op, &shape)?.to_vec::<i64>()? {
                ensure!(
                    nothing || (-extent..extent).contains(&i),
                    Index,
                    "{op}: index {i} is out of bounds for dimension {dim} with size {extent}"
                );
                indices.push(if nothing {
                    0
                } else if i < 0 {
                    (i + extent) as usize
                } else {
                    i as usize
                });
            }
        }
        let dims = indexed.iter().map(|(dim, _)| *dim).collect();
        Ok(Self { dims, indices: Arc::new(indices), shape, source: Dims::from_slice(source) })
    }

    /// Where each item starts in an array of the source's shape, in elements from its first.
    fn offsets(&self, x: &Array) -> Vec<isize> {
        let count: usize = self.shape.iter().product();
        let mut offsets = vec![0; count];
        for (k, &dim) in self.dims.iter().enumerate() {
            let stride = x.strides()[dim];
            let indices = &self.indices[k * count..(k + 1) * count];
            offsets.iter_mut().zip(indices).for_each(|(offset, &i)| *offset += i as isize * stride);
        }
        offsets
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
            gather::take(x, &self.offsets(x), &self.rest(x), &out);
        }
        Ok(out)
    }

    /// Writes values of the result's shape into an array of the source's shape.
    fn put(&self, out: &Array, values: &Array, accumulate: bool) -> Result<()> {
        let values = values.broadcast_to("index_put_", &self.result_shape())?.to_dtype(out.dtype())?;
        if values.numel() > 0 {
            gather::put(out, &self.offsets(out), &self.rest(out), &values.contiguous()?, accumulate);
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

    fn grad_fn_name(&self) -> String {
        self.name.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        self.picks.take(x)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let picks = self.picks.clone();
        Ok([Some(apply(IndexAdd { picks, padding: self.padding }, [grad])?)])
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
            crate::kernels::copy::fill(&out.with_layout(out.layout().select(0, padding)), 0.0);
        }
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let grad = match self.padding {
            None => grad.clone(),
            Some(padding) => {
                let mask = Array::full(grad.shape(), 1.0, grad.dtype())?;
                crate::kernels::copy::fill(&mask.with_layout(mask.layout().select(0, padding)), 0.0);
                grad * Tensor::constant(mask)
            }
        };
        let op = Index { picks: self.picks.clone(), name: "IndexBackward0", padding: None };
        Ok([Some(apply(op, [&grad])?)])
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

    fn grad_fn_name(&self) -> String {
        "IndexPutBackward0".into()
    }

    fn forward(&mut self, [x, values]: [&Array; 2]) -> Result<Array> {
        let out = x.copied()?;
        self.picks.put(&out, values, self.accumulate)?;
        Ok(out)
    }

    fn forward_into(&mut self, [_, values]: [&Array; 2], out: &Array) -> Result<()> {
        let shared = Arc::ptr_eq(values.storage(), out.storage());
        let values = if shared { values.copied()? } else { values.clone() };
        self.picks.put(out, &values, self.accumulate)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let target = match (saved.needs(0), self.accumulate) {
            (false, _) => None,
            (true, true) => Some(grad.clone()),
            (true, false) => {
                let zero = grad.scalar_beside(0.0)?;
                let op = IndexPut { picks: self.picks.clone(), accumulate: false };
                Some(apply(op, [grad, &zero])?)
            }
        };
        let values = if saved.needs(1) {
            let op = Index { picks: self.picks.clone(), name: "IndexBackward0", padding: None };
            Some(apply(op, [grad])?)
        } else {
            None
        };
        Ok([target, values])
    }
}

/// One index per dim of a tensor, as `x[..., index, ...]` has it; bool masks cover as many dims as they have.
fn expand_masks(op: &str, x: &Tensor, indices: &[Option<Tensor>]) -> Result<Vec<(usize, Array)>> {
    let mut indexed = Vec::new();
    let mut dim = 0;
    for index in indices {
        let Some(index) = index else {
            dim += 1;
            continue;
        };
        match index.dtype() {
            DType::Bool => {
                for d in 0..index.rank() {
                    ensure!(
                        dim + d < x.rank() && index.shape()[d] == x.shape()[dim + d],
                        Index,
                        "{op}: The shape of the mask {:?} at index {d} does not match the shape of the indexed \
                         tensor {:?} at index {}",
                        index.shape(),
                        x.shape(),
                        dim + d
                    );
                }
                for (d, column) in index.nonzero()?.unbind(1)?.into_iter().enumerate() {
                    indexed.push((dim + d, column.array().clone()));
                }
                dim += index.rank();
            }
            dtype => {
                ensure!(
                    dtype.category() == crate::dtype::Category::Int,
                    Index,
                    "{op}: tensors used as indices must be long, int, byte or bool tensors, not {dtype}"
                );
                ensure!(dim < x.rank(), Index, "{op}: too many indices for tensor of dimension {}", x.rank());
                indexed.push((dim, index.array().clone()));
                dim += 1;
            }
        }
    }
    ensure!(dim <= x.rank(), Index, "{op}: too many indices for tensor of dimension {}", x.rank());
    Ok(indexed)
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
        let picks = Picks::new("index", self.shape(), &expand_masks("index", self, indices)?)?;
        let (lead, items) = (leading(&picks.dims), picks.shape.len());
        let out = apply(Index { picks, name: "IndexBackward0", padding: None }, [self])?;
        out.move_block(items, lead)
    }

    /// `x[i, :, j] = values` in place, or `+=`.
    pub fn index_put_(&self, indices: &[Option<Tensor>], values: &Tensor, accumulate: bool) -> Result<()> {
        let picks = Picks::new("index_put_", self.shape(), &expand_masks("index_put_", self, indices)?)?;
        let (lead, items) = (leading(&picks.dims), picks.shape.len());
        let mut shape: Dims = picks.result_shape();
        shape.rotate_left(items);
        let rest = shape.len() - items;
        shape[..].rotate_right(items);
        // Values are written in the order of the user's result: its list of items stands after `lead` dims.
        let mut seen: Dims = shape[items..items + lead].into();
        seen.extend_from_slice(&shape[..items]);
        seen.extend_from_slice(&shape[items + lead..]);
        debug_assert_eq!(seen.len(), rest + items);
        let values = values.without_leading_ones(seen.len())?;
        if broadcast_shapes("index_put_", values.shape(), &seen).ok().as_deref() != Some(&seen[..]) {
            bail!(
                Shape,
                "index_put_: shape mismatch: value tensor of shape {:?} cannot be broadcast to indexing result of \
                 shape {:?}",
                values.shape(),
                seen.as_slice()
            );
        }
        let values = values.expand(&seen)?;
        let order: Vec<isize> =
            (lead..lead + items).chain(0..lead).chain(lead + items..seen.len()).map(|d| d as isize).collect();
        let values = values.permute(&order)?;
        apply_inplace(IndexPut { picks, accumulate }, [self, &values])
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
            "index_select(): Index is supposed to be a vector, not shape {:?}",
            index.shape()
        );
        ensure!(
            matches!(index.dtype(), DType::I32 | DType::I64),
            DType,
            "index_select(): Expected dtype int32 or int64 for index, not {}",
            index.dtype()
        );
        if self.rank() == 0 {
            let flat = self.reshape(&[1])?.index_select(0, index)?;
            return flat.reshape(&[]);
        }
        let index = index.array().with_layout(
            index
                .array()
                .layout()
                .reshape(&[index.numel()])
                .unwrap_or_else(|| index.array().layout().clone()),
        );
        if let Some(negative) = index.to_vec::<i64>()?.into_iter().find(|&i| i < 0) {
            bail!(
                Index,
                "index_select(): index {negative} is out of range for dim {dim} with size {}",
                self.shape()[dim]
            );
        }
        let picks = Picks::new("index_select", self.shape(), &[(dim, index)])?;
        let op = Index { picks, name: "IndexSelectBackward0", padding: None };
        apply(op, [self])?.move_block(1, dim)
    }

    /// Rows of this matrix at `index`, of any shape; items of `padding` get no gradient.
    pub fn embedding(&self, index: &Tensor, padding: Option<usize>) -> Result<Tensor> {
        ensure!(
            matches!(index.dtype(), DType::I32 | DType::I64),
            DType,
            "embedding: Expected tensor for argument #1 'indices' to have one of the following scalar types: \
             Long, Int; but got {} instead",
            index.dtype().scalar_name()
        );
        ensure!(self.rank() == 2, Shape, "embedding: 'weight' must be 2-D, not of shape {:?}", self.shape());
        if let Some(negative) = index.array().to_vec::<i64>()?.into_iter().find(|&i| i < 0) {
            bail!(
                Index,
                "embedding: index {negative} is out of range in a table of {} rows",
                self.shape()[0]
            );
        }
        let picks = Picks::new("embedding", self.shape(), &[(0, index.array().clone())])?;
        apply(Index { picks, name: "EmbeddingBackward0", padding }, [self])
    }

    /// Indices of the elements that are not 0, one row each, in row-major order.
    pub fn nonzero(&self) -> Result<Tensor> {
        let mask = self.array().to_dtype(DType::Bool)?.contiguous()?;
        let mut rows: Vec<i64> = Vec::new();
        let mut index: Dims = Dims::from_elem(0, self.rank());
        for hit in mask.slice::<crate::dtype::Bool>() {
            if hit.get() {
                rows.extend(index.iter().map(|&i| i as i64));
            }
            for d in (0..self.rank()).rev() {
                index[d] += 1;
                if index[d] < self.shape()[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        let count =
            if self.rank() == 0 { usize::from(mask.item_i64()? != 0) } else { rows.len() / self.rank() };
        Tensor::from_slice(&rows, &[count, self.rank()])
    }
}
