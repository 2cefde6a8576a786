//! Largest and smallest elements and where they are.

use super::promote::compute_dtype;
use super::reduce::{reduced_shape, Over};
use super::selected::{selected, split_at, Pick};
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves};
use crate::kernels::extremum::extremum;
use crate::kernels::reduce::{reduce, Bounds, Itself, Largest, Smallest};
use crate::layout::{normalize_dim, Dims, Strides};
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, ensure, DType, Result};

/// Which end of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Largest,
    Smallest,
}

/// The extremum over dims; ties share the gradient evenly.
#[derive(Debug)]
struct Extreme {
    over: Over,
    end: End,
    /// Whether the nans share the gradient where the extremum is one.
    is_whole: bool,
    node: &'static str,
}

/// The extremum along a dim, the first of equals.
#[derive(Debug)]
struct First {
    op: &'static str,
    end: End,
}

impl Pick for First {
    fn node(&self) -> &'static str {
        match self.end {
            End::Largest => "MaxBackward0",
            End::Smallest => "MinBackward0",
        }
    }

    fn pick(&self, x: &Array, dim: usize) -> Result<(Array, Array)> {
        extremum_along(self.op, x, dim, self.end)
    }
}

fn extremes<T: Bounds>(x: &Array, mask: &[bool], end: End) -> Result<Array> {
    match end {
        End::Largest => reduce::<T, T, _, _>(x, mask, Itself, Largest),
        End::Smallest => reduce::<T, T, _, _>(x, mask, Itself, Smallest),
    }
}

impl Op<1> for Extreme {
    const NAME: &'static str = "amax";

    fn called(&self) -> &'static str {
        match (self.end, self.is_whole) {
            (End::Largest, true) => "max",
            (End::Largest, false) => "amax",
            (End::Smallest, true) => "min",
            (End::Smallest, false) => "amin",
        }
    }

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs().and_output()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let compute = x.to_dtype(compute_dtype(x.dtype()))?;
        let mask = &self.over.mask;
        let out =
            dispatch_compute!(compute.dtype(), Self::NAME, T => extremes::<T>(&compute, mask, self.end))?;
        self.over.finish(out, x.shape()).into_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let (x, shape) = (saved.input(0)?, saved.shape(0));
        let best = self.over.expand(&saved.output()?, &shape)?;
        // As in PyTorch the nans share the gradient of `max()` and `min()`; elsewhere nothing equals a nan, and the
        // gradient of all is 0 / 0.
        let is_best = if self.is_whole && saved.output()?.array().item_f64()?.is_nan() {
            x.isnan()?
        } else {
            x.eq(&best)?
        };
        let dims: Vec<isize> = (0..shape.len()).filter(|&d| self.over.mask[d]).map(|d| d as isize).collect();
        let ties = if dims.is_empty() { is_best.clone() } else { is_best.sum(&dims, true)? };
        let ties = ties.to_dtype(grad.dtype())?;
        let (share, rest) =
            (self.over.expand(grad, &shape)? / &ties, Tensor::zeros(&[], grad.dtype())? / ties);
        Ok([Some(Tensor::where_self(&is_best, &share, &rest)?)])
    }
}

impl Tensor {
    fn extreme(
        &self,
        op: &str,
        dims: &[isize],
        keepdim: bool,
        end: End,
        node: &'static str,
    ) -> Result<Tensor> {
        let over = Over::new(op, self, dims, keepdim)?;
        over.check_not_empty(op, self.shape())?;
        let is_whole = matches!(op, "max" | "min");
        apply(Extreme { over, end, is_whole, node }, [self])
    }

    /// The largest element; nan if there is one. Ties share the gradient evenly.
    pub fn max(&self) -> Result<Tensor> {
        self.extreme("max", &[], false, End::Largest, "MaxBackward1")
    }

    /// The smallest element; nan if there is one. Ties share the gradient evenly.
    pub fn min(&self) -> Result<Tensor> {
        self.extreme("min", &[], false, End::Smallest, "MinBackward1")
    }

    /// The largest elements over `dims` (all if empty). Ties share the gradient evenly.
    pub fn amax(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        self.extreme("amax", dims, keepdim, End::Largest, "AmaxBackward0")
    }

    /// The smallest elements over `dims` (all if empty). Ties share the gradient evenly.
    pub fn amin(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        self.extreme("amin", dims, keepdim, End::Smallest, "AminBackward0")
    }

    /// The largest elements along `dim` and their first indices; the gradient goes to those.
    pub fn max_dim(&self, dim: isize, keepdim: bool) -> Result<(Tensor, Tensor)> {
        let d = normalize_dim("max", dim, self.rank())?;
        selected(self, First { op: "max", end: End::Largest }, d, keepdim)
    }

    /// The smallest elements along `dim` and their first indices; the gradient goes to those.
    pub fn min_dim(&self, dim: isize, keepdim: bool) -> Result<(Tensor, Tensor)> {
        let d = normalize_dim("min", dim, self.rank())?;
        selected(self, First { op: "min", end: End::Smallest }, d, keepdim)
    }

    /// Index of the first largest element: in row-major order, or along `dim`.
    pub fn argmax(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor> {
        self.arg_extremum("argmax", dim, keepdim, End::Largest)
    }

    /// Index of the first smallest element: in row-major order, or along `dim`.
    pub fn argmin(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor> {
        self.arg_extremum("argmin", dim, keepdim, End::Smallest)
    }

    fn arg_extremum(&self, op: &str, dim: Option<isize>, keepdim: bool, end: End) -> Result<Tensor> {
        let x = self.array();
        ensure!(
            x.dtype() != DType::Bool,
            DType,
            "{op}: \"{op}_cpu\" not implemented for 'Bool'; convert with .int() first"
        );
        let Some(dim) = dim else {
            ensure!(
                x.numel() > 0,
                Index,
                "{op}: Expected reduction dim to be specified for input.numel() == 0, of shape {:?}; specify it",
                x.shape()
            );
            let x = x.contiguous()?;
            let flat = crate::Layout::new(
                Dims::from_slice(&[x.numel()]),
                Strides::from_slice(&[1]),
                x.layout().offset(),
            );
            let flat = x.with_layout(flat);
            let (_, indices) = extremum_along(op, &flat, 0, end)?;
            let rank = if keepdim { x.rank() } else { 0 };
            let shape = Dims::from_elem(1, rank);
            return Ok(Tensor::constant(indices.with_layout(crate::Layout::contiguous(&shape))));
        };
        let d = normalize_dim(op, dim, x.rank())?;
        let (_, indices) = extremum_along(op, x, d, end)?;
        let mask: Vec<bool> = (0..x.rank()).map(|i| i == d).collect();
        let shape = reduced_shape(x.shape(), &mask, keepdim);
        Ok(Tensor::constant(indices.with_layout(crate::Layout::contiguous(&shape))))
    }
}

/// Values and indices along dim `d`, which stays as an extent of 1.
fn extremum_along(op: &str, x: &Array, d: usize, end: End) -> Result<(Array, Array)> {
    let dims = split_at(x.shape(), d);
    let mut shape = Dims::from_slice(x.shape());
    if let Some(extent) = shape.get_mut(d) {
        *extent = 1;
    }
    if dims.1 == 0 {
        bail!(
            Index,
            "{op}: Expected reduction dim {d} to have non-zero size, in shape {:?}; use a tensor with elements",
            x.shape()
        );
    }
    let indices = Array::empty(&shape, DType::I64)?;
    let compute = x.to_dtype(compute_dtype(x.dtype()))?.into_contiguous()?;
    let values = Array::empty(&shape, compute.dtype())?;
    if values.numel() > 0 {
        dispatch_compute!(compute.dtype(), op, T => match end {
            End::Largest => extremum::<T, _>(&compute, dims, &values, &indices, Largest),
            End::Smallest => extremum::<T, _>(&compute, dims, &values, &indices, Smallest),
        });
    }
    Ok((values.to_dtype(x.dtype())?, indices))
}
