//! Running sums and products, sorting, and the k largest along a dim.

use super::promote::compute_dtype;
use super::reduce::has_zero;
use super::selected::{selected, split_at, Pick};
use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, mode, Grads, Op, Saved, Saves};
use crate::kernels::scan::{scan, Products, Step, Sums};
use crate::kernels::sort::sort_rows;
use crate::layout::{normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{dispatch_compute, ensure, DType, Result};
use smallvec::SmallVec;

/// A running result along `dim`; integers and bool give int64.
fn run<S: Step>(x: &Array, dim: usize, reverse: bool, step: S) -> Result<Array> {
    let dtype = if x.dtype().is_float() { x.dtype() } else { DType::I64 };
    let x = x.to_dtype(compute_dtype(dtype))?.into_contiguous()?;
    let out = Array::empty(x.shape(), x.dtype())?;
    let dims = split_at(x.shape(), dim);
    dispatch_compute!(x.dtype(), "scan", T => scan::<T, S>(&x, dims, reverse, &out, step));
    out.into_dtype(dtype)
}

/// Running sum, from the end if `reverse`.
#[derive(Debug)]
struct CumSum {
    dim: usize,
    reverse: bool,
}

impl Op<1> for CumSum {
    const NAME: &'static str = "cumsum";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        run(x, self.dim, self.reverse, Sums)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(CumSum { dim: self.dim, reverse: !self.reverse }, [grad])?)])
    }
}

/// Running product.
#[derive(Debug)]
struct CumProd(usize);

impl Op<1> for CumProd {
    const NAME: &'static str = "cumprod";

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs().and_output()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        run(x, self.0, false, Products)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(cumprod_grad(&saved.input(0)?, &saved.output()?, grad, self.0)?)])
    }
}

fn sum_from_end(x: &Tensor, dim: usize) -> Result<Tensor> {
    apply(CumSum { dim, reverse: true }, [x])
}

/// Gradient of a running product `y` of `x`: `sum_from_end(g y) / x`, and at zeros without dividing.
///
/// Before a row's first zero that formula holds. At it, the same holds for the product without that
/// factor. After it every term has the factor 0, which matters only for higher derivatives.
fn cumprod_grad(x: &Tensor, y: &Tensor, grad: &Tensor, dim: usize) -> Result<Tensor> {
    if !has_zero(x)? {
        return Ok(sum_from_end(&(grad * y), dim)? / x);
    }
    let dtype = x.dtype();
    let is_zero = x.detach().eq_scalar(0.0)?;
    let zeros_so_far = is_zero.cumsum(dim as isize)?;
    let before = zeros_so_far.eq_scalar(0.0)?;
    let first = is_zero.logical_and(&zeros_so_far.eq_scalar(1.0)?)?;
    let one = Tensor::ones(&[], dtype)?;
    let zero = Tensor::zeros(&[], dtype)?;

    let left = sum_from_end(&(grad * y), dim)? / Tensor::where_self(&before, x, &one)?;
    let without = Tensor::where_self(&first, &one, x)?;
    let product = without.cumprod(dim as isize)?;
    let at_first = sum_from_end(&(grad * &product), dim)?;
    let right = if mode::is_recording() {
        let factor = Tensor::where_self(&first, x, &zero)?.sum(&[dim as isize], true)?;
        let later = Tensor::where_self(&before, &zero, grad)?;
        factor * cumprod_grad(&without, &product, &later, dim)?
    } else {
        zero
    };
    Tensor::where_self(&before, &left, &Tensor::where_self(&first, &at_first, &right)?)
}

/// The first `k` sorted elements along a dim.
#[derive(Debug)]
struct Sorted {
    k: usize,
    descending: bool,
    node: &'static str,
}

impl Pick for Sorted {
    fn node(&self) -> &'static str {
        self.node
    }

    fn pick(&self, x: &Array, dim: usize) -> Result<(Array, Array)> {
        sorted(x, dim, self.k, self.descending)
    }
}

/// The first `k` sorted elements along `dim` with their indices, the dim in place.
fn sorted(x: &Array, dim: usize, k: usize, descending: bool) -> Result<(Array, Array)> {
    let rank = x.rank().max(1);
    let mut order: SmallVec<[usize; 4]> = (0..rank).collect();
    order.swap(dim, rank - 1);
    let compute = x.to_dtype(compute_dtype(x.dtype()))?;
    let rows = if x.rank() == 0 { compute } else { compute.with_layout(compute.layout().permute(&order)) };
    let rows = rows.contiguous()?;
    let mut shape = Dims::from_slice(rows.shape());
    if let Some(last) = shape.last_mut() {
        *last = k;
    }
    let n = rows.shape().last().copied().unwrap_or(1);
    let values = Array::empty(&shape, rows.dtype())?;
    let indices = Array::empty(&shape, DType::I64)?;
    if values.numel() > 0 {
        dispatch_compute!(rows.dtype(), "sort", T => {
            sort_rows::<T>(&rows, n, k, descending, &values, &indices)?
        });
    }
    if x.rank() == 0 {
        return Ok((values.to_dtype(x.dtype())?, indices));
    }
    let back = |array: Array| array.with_layout(array.layout().permute(&order)).contiguous();
    Ok((back(values)?.to_dtype(x.dtype())?, back(indices)?))
}

impl Tensor {
    /// Running sum along `dim`; integers and bool give int64.
    pub fn cumsum(&self, dim: isize) -> Result<Tensor> {
        let dim = normalize_dim("cumsum", dim, self.rank())?;
        apply(CumSum { dim, reverse: false }, [self])
    }

    /// Running product along `dim`; integers and bool give int64.
    pub fn cumprod(&self, dim: isize) -> Result<Tensor> {
        let dim = normalize_dim("cumprod", dim, self.rank())?;
        apply(CumProd(dim), [self])
    }

    /// In-place [`Tensor::cumsum`].
    pub fn cumsum_(&self, dim: isize) -> Result<()> {
        let dim = normalize_dim("cumsum_", dim, self.rank())?;
        apply_inplace(CumSum { dim, reverse: false }, [self])
    }

    /// In-place [`Tensor::cumprod`].
    pub fn cumprod_(&self, dim: isize) -> Result<()> {
        let dim = normalize_dim("cumprod_", dim, self.rank())?;
        apply_inplace(CumProd(dim), [self])
    }

    /// Elements in order along `dim`, equal ones as they were, and the indices that they come from.
    /// NaN counts as the largest.
    pub fn sort(&self, dim: isize, descending: bool) -> Result<(Tensor, Tensor)> {
        let d = normalize_dim("sort", dim, self.rank())?;
        let n = self.shape().get(d).copied().unwrap_or(1);
        selected(self, Sorted { k: n, descending, node: "SortBackward0" }, d, true)
    }

    /// The indices that sort along `dim`.
    pub fn argsort(&self, dim: isize, descending: bool) -> Result<Tensor> {
        Ok(self.detach().sort(dim, descending)?.1)
    }

    /// The `k` largest (or smallest) elements along `dim` in order, and their indices.
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> Result<(Tensor, Tensor)> {
        let d = normalize_dim("topk", dim, self.rank())?;
        let n = self.shape().get(d).copied().unwrap_or(1);
        ensure!(
            k <= n,
            Value,
            "topk: selected index k out of range: k = {k}, dim {d} has {n} elements; use at most {n}"
        );
        ensure!(
            self.dtype() != DType::Bool,
            DType,
            "topk: does not support bool dtypes on CPU; convert with .to(firesteel.uint8)"
        );
        // The one element of a 0-d tensor is its largest, also for k = 0: there is no dim to shorten.
        let k = if self.rank() == 0 { 1 } else { k };
        selected(self, Sorted { k, descending: largest, node: "TopkBackward0" }, d, true)
    }
}
