//! Sums and means over dims.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::kernels::num::Num;
use crate::layout::{normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, DType, Result};
use smallvec::SmallVec;

/// Which dims a reduction removes, as a mask; all of them for an empty list.
pub(super) fn reduced_dims(op: &str, dims: &[isize], rank: usize) -> Result<SmallVec<[bool; 4]>> {
    if dims.is_empty() {
        return Ok(SmallVec::from_elem(true, rank));
    }
    let mut mask = SmallVec::from_elem(false, rank);
    for &dim in dims {
        let d = normalize_dim(op, dim, rank)?;
        if rank == 0 {
            continue;
        }
        if mask[d] {
            bail!(Autograd, "{op}: dim {d} appears multiple times in the list of dims {dims:?}");
        }
        mask[d] = true;
    }
    Ok(mask)
}

/// The result's shape, with reduced dims as 1 or dropped.
pub(super) fn reduced_shape(shape: &[usize], mask: &[bool], keepdim: bool) -> Dims {
    let dims = shape.iter().zip(mask);
    dims.filter(|(_, &reduced)| keepdim || !reduced)
        .map(|(&n, &reduced)| if reduced { 1 } else { n })
        .collect()
}

/// `x` as contiguous rows: kept dims outside, reduced dims inside.
pub(super) fn as_rows(x: &Array, mask: &[bool]) -> Result<(Array, usize, usize)> {
    let kept = (0..x.rank()).filter(|&d| !mask[d]);
    let reduced = (0..x.rank()).filter(|&d| mask[d]);
    let order: SmallVec<[usize; 4]> = kept.chain(reduced).collect();
    let cols = (0..x.rank()).filter(|&d| mask[d]).map(|d| x.shape()[d]).product();
    let rows = (0..x.rank()).filter(|&d| !mask[d]).map(|d| x.shape()[d]).product();
    Ok((x.with_layout(x.layout().permute(&order)).contiguous()?, rows, cols))
}

/// Sum over dims; integers and bool give int64.
#[derive(Debug)]
struct Sum {
    mask: SmallVec<[bool; 4]>,
    keepdim: bool,
    all: bool,
}

fn sum_rows<T: Num>(x: &[T], cols: usize, out: &mut [T]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = x[i * cols..(i + 1) * cols].iter().fold(T::ZERO, |sum, &x| sum.add(x));
    }
}

impl Op<1> for Sum {
    const NAME: &'static str = "sum";

    fn grad_fn_name(&self) -> String {
        if self.all { "SumBackward0" } else { "SumBackward1" }.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let dtype = if x.dtype().is_float() { x.dtype() } else { DType::I64 };
        let compute = if dtype.is_half() { DType::F32 } else { dtype };
        let (x, _, cols) = as_rows(&x.to_dtype(compute)?, &self.mask)?;
        let kept: Dims = reduced_shape_of(&x, &self.mask);
        let mut out = Array::empty(&kept, compute)?;
        dispatch_compute!(compute, Self::NAME, T => sum_rows::<T>(x.slice(), cols, out.slice_mut()));
        out.to_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(expand_reduced(grad, &self.mask, self.keepdim, &saved.shape(0))?)])
    }
}

fn reduced_shape_of(rows: &Array, mask: &[bool]) -> Dims {
    let kept = mask.iter().filter(|&&reduced| !reduced).count();
    Dims::from_slice(&rows.shape()[..kept])
}

/// A gradient of the reduced shape, repeated along the reduced dims.
pub(super) fn expand_reduced(grad: &Tensor, mask: &[bool], keepdim: bool, shape: &[usize]) -> Result<Tensor> {
    let grad = if keepdim { grad.clone() } else { grad.reshape(&reduced_shape(shape, mask, true))? };
    grad.expand(shape)
}

/// Arithmetic mean over dims.
#[derive(Debug)]
struct Mean(Sum);

impl Op<1> for Mean {
    const NAME: &'static str = "mean";

    fn grad_fn_name(&self) -> String {
        if self.0.all { "MeanBackward0" } else { "MeanBackward1" }.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        if !x.dtype().is_float() {
            bail!(
                DType,
                "mean: could not infer output dtype. Input dtype must be either a floating point or complex \
                 dtype. Got: {}; convert with .float() first",
                x.dtype().scalar_name()
            );
        }
        let sum = self.0.forward([x])?;
        let count =
            x.shape().iter().zip(&self.0.mask).filter(|(_, &r)| r).map(|(&n, _)| n).product::<usize>();
        let sum = Tensor::constant(sum);
        let mean = sum.div(&sum.scalar_beside(count as f64)?)?;
        Ok(mean.array().clone())
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let shape = saved.shape(0);
        let count = shape.iter().zip(&self.0.mask).filter(|(_, &r)| r).map(|(&n, _)| n).product::<usize>();
        let grad = grad / count as f64;
        Ok([Some(expand_reduced(&grad, &self.0.mask, self.0.keepdim, &shape)?)])
    }
}

impl Tensor {
    /// Sum over `dims` (all if empty); integers and bool give int64.
    pub fn sum(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        let mask = reduced_dims("sum", dims, self.rank())?;
        let shape = reduced_shape(self.shape(), &mask, keepdim);
        let op = Sum { mask, keepdim: false, all: dims.is_empty() };
        apply(op, [self])?.reshape(&shape)
    }

    /// Arithmetic mean over `dims` (all if empty).
    pub fn mean(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        let mask = reduced_dims("mean", dims, self.rank())?;
        let shape = reduced_shape(self.shape(), &mask, keepdim);
        let op = Mean(Sum { mask, keepdim: false, all: dims.is_empty() });
        apply(op, [self])?.reshape(&shape)
    }

    /// Sums dims that broadcasting repeated, so that the result has `shape`.
    pub(crate) fn sum_to_size(&self, shape: &[usize]) -> Result<Tensor> {
        let lead = self.rank() - shape.len();
        let dims: SmallVec<[isize; 4]> = (0..self.rank())
            .filter(|&d| d < lead || (shape[d - lead] == 1 && self.shape()[d] != 1))
            .map(|d| d as isize)
            .collect();
        let sum = if dims.is_empty() { self.clone() } else { self.sum(&dims, true)? };
        sum.reshape(shape)
    }
}
