//! Views: other layouts of the same memory. Gradients are views too where that is enough.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::layout::{normalize_dim, small, Dims};
use crate::tensor::Tensor;
use crate::{bail, ensure, Layout, Result};
use smallvec::SmallVec;

/// Repeats extents of 1.
#[derive(Debug)]
struct Expand(Dims);

impl Op<1> for Expand {
    const NAME: &'static str = "expand";
    const IS_VIEW: bool = true;

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        x.broadcast_to(Self::NAME, &self.0)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.clone())]) // the engine sums it to the input's shape
    }
}

/// Another shape over the same elements in the same order.
#[derive(Debug)]
struct View(Dims);

impl Op<1> for View {
    const NAME: &'static str = "view";
    const IS_VIEW: bool = true;

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let Some(layout) = reshaped(x, &self.0) else {
            bail!(
                Shape,
                "view: view size is not compatible with input tensor's size and stride (shape {:?}, strides \
                 {:?} as {:?}: at least one dimension spans across two contiguous subspaces); use \
                 .reshape(...) instead",
                x.shape(),
                x.strides(),
                self.0.as_slice()
            );
        };
        Ok(x.with_layout(layout))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.reshape(&saved.shape(0))?)])
    }
}

/// Dims in another order.
#[derive(Debug)]
struct Permute {
    dims: SmallVec<[usize; 4]>,
    name: &'static str,
}

impl Op<1> for Permute {
    const NAME: &'static str = "permute";
    const IS_VIEW: bool = true;

    fn grad_fn_name(&self) -> String {
        self.name.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(x.with_layout(x.layout().permute(&self.dims)))
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let mut inverse = SmallVec::from_elem(0, self.dims.len());
        for (to, &from) in self.dims.iter().enumerate() {
            inverse[from] = to;
        }
        Ok([Some(apply(Permute { dims: inverse, name: self.name }, [grad])?)])
    }
}

/// Extents of 1 added or dropped: a reshape with a name of its own.
#[derive(Debug)]
struct Squeeze {
    layout: Layout,
    name: &'static str,
}

impl Op<1> for Squeeze {
    const NAME: &'static str = "squeeze";
    const IS_VIEW: bool = true;

    fn grad_fn_name(&self) -> String {
        self.name.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(x.with_layout(self.layout.clone()))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.reshape(&saved.shape(0))?)])
    }
}

/// `len` elements of a dim, `step` apart.
#[derive(Debug, Clone)]
struct Slice {
    dim: usize,
    start: usize,
    len: usize,
    step: usize,
}

impl Slice {
    fn of(&self, x: &Array) -> Array {
        x.with_layout(x.layout().slice(self.dim, self.start, self.len, self.step as isize))
    }
}

impl Op<1> for Slice {
    const NAME: &'static str = "slice";
    const IS_VIEW: bool = true;

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(self.of(x))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let op = SliceScatter { slice: self.clone(), shape: saved.shape(0), squeezed: false };
        Ok([Some(apply(op, [grad])?)])
    }
}

/// One position of a dim, which disappears.
#[derive(Debug)]
struct Select {
    dim: usize,
    index: usize,
}

impl Op<1> for Select {
    const NAME: &'static str = "select";
    const IS_VIEW: bool = true;

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(x.with_layout(x.layout().select(self.dim, self.index)))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let slice = Slice { dim: self.dim, start: self.index, len: 1, step: 1 };
        Ok([Some(apply(SliceScatter { slice, shape: saved.shape(0), squeezed: true }, [grad])?)])
    }
}

/// Zeros with a slice set: the gradient of a slice or, with the dim missing, of a select.
#[derive(Debug)]
struct SliceScatter {
    slice: Slice,
    shape: Dims,
    squeezed: bool,
}

impl Op<1> for SliceScatter {
    const NAME: &'static str = "slice_scatter";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let out = Array::full(&self.shape, 0.0, x.dtype())?;
        let value =
            if self.squeezed { x.with_layout(x.layout().unsqueeze(self.slice.dim)) } else { x.clone() };
        self.slice.of(&out).copy_from(&value)?;
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let Slice { dim, start, .. } = self.slice;
        Ok([Some(if self.squeezed {
            apply(Select { dim, index: start }, [grad])?
        } else {
            apply(self.slice.clone(), [grad])?
        })])
    }
}

/// The layout of a view of `shape`, if there is one. Without elements every shape is one.
fn reshaped(x: &Array, shape: &[usize]) -> Option<Layout> {
    if x.numel() == 0 {
        Some(Layout::contiguous(shape))
    } else {
        x.layout().reshape(shape)
    }
}

impl Tensor {
    /// The view with extents of 1 (and missing leading dims) repeated to reach `shape`.
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor> {
        crate::layout::checked_numel("expand", shape, self.dtype().size())?;
        apply(Expand(small(shape)), [self])
    }

    /// A view of another shape; an error where the memory order does not allow it.
    pub fn view(&self, shape: &[usize]) -> Result<Tensor> {
        self.check_reshape("view", shape)?;
        apply(View(small(shape)), [self])
    }

    /// Another shape over the same elements: a view where the memory order allows it, else a copy.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        self.check_reshape("reshape", shape)?;
        if reshaped(self.array(), shape).is_some() {
            return apply(View(small(shape)), [self]);
        }
        Ok(apply(View(small(shape)), [&self.contiguous()?])?.into_new())
    }

    fn check_reshape(&self, op: &str, shape: &[usize]) -> Result<()> {
        let numel = crate::layout::checked_numel(op, shape, 1)?;
        ensure!(
            numel == self.numel(),
            Shape,
            "{op}: shape {shape:?} is invalid for input of size {} (shape {:?}); the products must be equal",
            self.numel(),
            self.shape()
        );
        Ok(())
    }

    /// Dims in the order of `dims`; negative ones count from the end.
    pub fn permute(&self, dims: &[isize]) -> Result<Tensor> {
        ensure!(
            dims.len() == self.rank(),
            Shape,
            "permute: number of dimensions in the tensor input does not match the length of the desired \
             ordering of dimensions: {} dims of shape {:?}, an ordering of {}; \
             name every dim once",
            self.rank(),
            self.shape(),
            dims.len()
        );
        let mut order: SmallVec<[usize; 4]> = SmallVec::new();
        for &dim in dims {
            let dim = normalize_dim("permute", dim, self.rank())?;
            ensure!(
                !order.contains(&dim),
                Value,
                "permute: duplicate dim {dim} in {dims:?}; name every dim once"
            );
            order.push(dim);
        }
        apply(Permute { dims: order, name: "PermuteBackward0" }, [self])
    }

    /// Two dims swapped.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor> {
        let (a, b) =
            (normalize_dim("transpose", a, self.rank())?, normalize_dim("transpose", b, self.rank())?);
        let mut dims: SmallVec<[usize; 4]> = (0..self.rank()).collect();
        if self.rank() > 0 {
            dims.swap(a, b);
        }
        apply(Permute { dims, name: "TransposeBackward0" }, [self])
    }

    /// A matrix with its dims swapped; vectors and 0-d tensors stay as they are.
    pub fn t(&self) -> Result<Tensor> {
        ensure!(
            self.rank() <= 2,
            Shape,
            "t: expects a tensor with <= 2 dimensions, but self is {}D; use .mT or .transpose(-2, -1)",
            self.rank()
        );
        let dims = (0..self.rank()).rev().collect();
        apply(Permute { dims, name: "TBackward0" }, [self])
    }

    /// Without its dims of extent 1, or only without those of `dims`.
    pub fn squeeze(&self, dims: Option<&[isize]>) -> Result<Tensor> {
        let mut chosen: SmallVec<[usize; 4]> = SmallVec::new();
        for &dim in dims.unwrap_or_default() {
            let d = normalize_dim("squeeze", dim, self.rank())?;
            ensure!(
                !chosen.contains(&d),
                Value,
                "squeeze: dim {d} appears multiple times in the list of dims; name it once"
            );
            chosen.push(d);
        }
        let layout = self.array().layout().squeeze(|d| dims.is_none() || chosen.contains(&d));
        let name = if dims.is_none() { "SqueezeBackward0" } else { "SqueezeBackward1" };
        apply(Squeeze { layout, name }, [self])
    }

    /// A new dim of extent 1 at position `dim` of the result.
    pub fn unsqueeze(&self, dim: isize) -> Result<Tensor> {
        let dim = normalize_dim("unsqueeze", dim, self.rank() + 1)?;
        let layout = self.array().layout().unsqueeze(dim);
        apply(Squeeze { layout, name: "UnsqueezeBackward0" }, [self])
    }

    /// Elements `start..end` of `dim`, `step` apart; the range is cut to the extent.
    pub fn slice(&self, dim: isize, start: usize, end: usize, step: usize) -> Result<Tensor> {
        ensure!(self.rank() > 0, Index, "slice: a 0-dim tensor has no dim to slice; unsqueeze it first");
        ensure!(step > 0, Value, "slice: step must be greater than zero; use at least 1");
        let dim = normalize_dim("slice", dim, self.rank())?;
        let end = end.min(self.shape()[dim]);
        let start = start.min(end);
        apply(Slice { dim, start, len: (end - start).div_ceil(step), step }, [self])
    }

    /// `len` elements of `dim` from `start`.
    pub fn narrow(&self, dim: isize, start: isize, len: usize) -> Result<Tensor> {
        ensure!(self.rank() > 0, Shape, "narrow: cannot be applied to a 0-dim tensor; unsqueeze it first");
        let dim = normalize_dim("narrow", dim, self.rank())?;
        let extent = self.shape()[dim];
        let from = if start < 0 { start + extent as isize } else { start };
        ensure!(
            (0..=extent as isize).contains(&from),
            Index,
            "narrow: Dimension out of range (expected start to be in range of [-{extent}, {extent}], but got \
             {start}); use a start in that range"
        );
        ensure!(
            len <= extent - from as usize,
            Shape,
            "narrow: start ({from}) + length ({len}) exceeds dimension size ({extent}) of dim {dim}; use a smaller \
             length"
        );
        apply(Slice { dim, start: from as usize, len, step: 1 }, [self])
    }

    /// Position `index` of `dim`, which disappears.
    pub fn select(&self, dim: isize, index: isize) -> Result<Tensor> {
        ensure!(self.rank() > 0, Index, "select: cannot be applied to a 0-dim tensor; use .item()");
        let dim = normalize_dim("select", dim, self.rank())?;
        let extent = self.shape()[dim] as isize;
        ensure!(
            (-extent..extent).contains(&index),
            Index,
            "select: index {index} is out of bounds for dimension {dim} with size {extent}; it must be at least {} and \
             less than {extent}",
            -extent
        );
        let index = if index < 0 { index + extent } else { index } as usize;
        apply(Select { dim, index }, [self])
    }
}
