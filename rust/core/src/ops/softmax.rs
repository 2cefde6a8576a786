//! Softmax along a dim and its logarithm.

use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves};
use crate::kernels::softmax::{self, softmax_columns, softmax_columns_backward, Extents};
use crate::layout::normalize_dim;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, Error, Result};

/// Softmax along a dim, or its logarithm.
#[derive(Debug, Clone, Copy)]
struct Softmax {
    dim: usize,
    log: bool,
}

impl Softmax {
    fn name(self) -> &'static str {
        if self.log {
            "log_softmax"
        } else {
            "softmax"
        }
    }
}

/// `x` in the dtype that kernels compute in, contiguous.
fn ready(x: &Array) -> Result<Array> {
    x.to_dtype(compute_dtype(x.dtype()))?.into_contiguous()
}

/// What lies before, along and after `dim`.
fn extents(shape: &[usize], dim: usize) -> Extents {
    match shape.split_at_checked(dim) {
        Some((outer, [n, inner @ ..])) => [outer.iter().product(), *n, inner.iter().product()],
        _ => [1, 1, 1],
    }
}

impl Op<1> for Softmax {
    const NAME: &'static str = "softmax";

    fn called(&self) -> &'static str {
        self.name()
    }

    fn grad_fn_name(&self) -> String {
        if self.log { "LogSoftmaxBackward0" } else { "SoftmaxBackward0" }.into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::output()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        ensure!(
            x.dtype().is_float(),
            DType,
            "{}: \"{}_lastdim_kernel_impl\" not implemented for '{}'; convert with .float(), or pass dtype=",
            self.name(),
            self.name(),
            x.dtype().scalar_name()
        );
        let dtype = x.dtype();
        let x = ready(x)?;
        let extents = extents(x.shape(), self.dim);
        let mut out = Array::empty(x.shape(), x.dtype())?;
        dispatch_float!(x.dtype(), self.name(), T => match (extents, self.log) {
            ([_, cols, 1], true) => softmax::log_softmax::<T>(x.slice(), cols, out.slice_mut()),
            ([_, cols, 1], false) => softmax::softmax::<T>(x.slice(), cols, out.slice_mut()),
            (_, true) => softmax_columns::<T, true>(x.slice(), extents, out.slice_mut()),
            (_, false) => softmax_columns::<T, false>(x.slice(), extents, out.slice_mut()),
        });
        out.into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(SoftmaxBackward(*self), [grad, &saved.output()?])?)])
    }
}

/// The gradient of softmax's input, from the output's gradient and the output.
#[derive(Debug)]
struct SoftmaxBackward(Softmax);

impl Op<2> for SoftmaxBackward {
    const NAME: &'static str = "softmax_backward";

    fn saves(&self, _needs: [bool; 2]) -> Saves<2> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [grad, y]: [&Array; 2]) -> Result<Array> {
        let Softmax { dim, log } = self.0;
        let dtype = grad.dtype();
        // A hook may have given the gradient another dtype.
        let (grad, y) = (ready(grad)?, ready(&y.to_dtype(dtype)?)?);
        let extents = extents(y.shape(), dim);
        let mut out = Array::empty(y.shape(), y.dtype())?;
        dispatch_float!(y.dtype(), Self::NAME, T => {
            let (grad, y, out) = (grad.slice::<T>(), y.slice(), out.slice_mut());
            match (extents, log) {
                ([_, cols, 1], true) => softmax::log_softmax_backward(grad, y, cols, out),
                ([_, cols, 1], false) => softmax::softmax_backward(grad, y, cols, out),
                (_, true) => softmax_columns_backward::<T, true>(grad, y, extents, out),
                (_, false) => softmax_columns_backward::<T, false>(grad, y, extents, out),
            }
        });
        out.into_dtype(dtype)
    }

    /// Of `y (g - sum(g y))`, or of `g - exp(y) sum(g)` for the logarithm.
    fn backward(&self, saved: &Saved<2>, v: &Tensor) -> Result<Grads<2>> {
        let (grad, y) = (saved.input(0)?, saved.input(1)?);
        let dims = [self.0.dim as isize];
        let sum = |x: Tensor| x.sum(&dims, true);
        if self.0.log {
            let p = y.exp()?;
            let weighted = sum(v * &p)?;
            let by_y = saved.needs(1).then(|| Ok::<_, Error>(-(v * &p * sum(grad)?))).transpose()?;
            return Ok([saved.needs(0).then(|| v - weighted), by_y]);
        }
        let weighted = sum(v * &y)?;
        let by_grad = saved.needs(0).then(|| &y * (v - &weighted));
        if !saved.needs(1) {
            return Ok([by_grad, None]);
        }
        let dot = sum(&grad * &y)?;
        Ok([by_grad, Some(v * &grad - v * dot - &grad * weighted)])
    }
}

impl Tensor {
    /// `exp(x) / sum(exp(x))` along `dim`.
    pub fn softmax(&self, dim: isize) -> Result<Tensor> {
        let dim = normalize_dim("softmax", dim, self.rank())?;
        apply(Softmax { dim, log: false }, [self])
    }

    /// `ln(softmax(x))` along `dim`, without loss of digits.
    pub fn log_softmax(&self, dim: isize) -> Result<Tensor> {
        let dim = normalize_dim("log_softmax", dim, self.rank())?;
        apply(Softmax { dim, log: true }, [self])
    }
}
