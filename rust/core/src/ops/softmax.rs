//! Softmax along a dim and its logarithm.

use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves};
use crate::kernels::softmax;
use crate::layout::normalize_dim;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Error, Result};

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

/// `x` in the dtype that kernels compute in, contiguous with `dim` last.
fn with_dim_last(x: &Array, dim: usize) -> Result<Array> {
    let x = x.to_dtype(compute_dtype(x.dtype()))?;
    let last = x.rank().saturating_sub(1);
    if dim >= last {
        return x.contiguous();
    }
    x.with_layout(x.layout().transpose(dim, last)).contiguous()
}

/// What `with_dim_last` did, undone: row-major in the original order of dims, of `dtype`.
fn with_dim_back(rows: Array, dim: usize, dtype: DType) -> Result<Array> {
    let rows = rows.to_dtype(dtype)?;
    let last = rows.rank().saturating_sub(1);
    if dim >= last {
        return Ok(rows);
    }
    rows.with_layout(rows.layout().transpose(dim, last)).contiguous()
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
        let rows = with_dim_last(x, self.dim)?;
        let cols = rows.shape().last().copied().unwrap_or(1);
        let mut out = Array::empty(rows.shape(), rows.dtype())?;
        dispatch_float!(rows.dtype(), self.name(), T => match self.log {
            true => softmax::log_softmax::<T>(rows.slice(), cols, out.slice_mut()),
            false => softmax::softmax::<T>(rows.slice(), cols, out.slice_mut()),
        });
        with_dim_back(out, self.dim, x.dtype())
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
        let (grad, y) = (with_dim_last(grad, dim)?, with_dim_last(&y.to_dtype(dtype)?, dim)?);
        let cols = y.shape().last().copied().unwrap_or(1);
        let mut out = Array::empty(y.shape(), y.dtype())?;
        dispatch_float!(y.dtype(), Self::NAME, T => match log {
            true => softmax::log_softmax_backward::<T>(grad.slice(), y.slice(), cols, out.slice_mut()),
            false => softmax::softmax_backward::<T>(grad.slice(), y.slice(), cols, out.slice_mut()),
        });
        with_dim_back(out, dim, dtype)
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
