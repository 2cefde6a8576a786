//! Normalisation over the last dims: layer and root-mean-square normalisation.

use super::{or_empty, Norm, Normalise, Parts};
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Ties};
use crate::dtype::DType;
use crate::kernels::norm;
use crate::kernels::rows::Float;
use crate::tensor::Tensor;
use crate::{ensure, Result};
use smallvec::SmallVec;

/// Rows scaled to variance 1, and if `CENTRED` shifted to mean 0, which is layer normalisation; times weight, plus bias.
/// Not shifted, the variance is the mean square: root-mean-square normalisation.
#[derive(Debug)]
struct RowNorm<const CENTRED: bool> {
    eps: f64,
    /// Number of dims of a row, and their extents' product.
    row_rank: usize,
    cols: usize,
    /// Statistics per row; no mean if not `CENTRED`.
    parts: Parts,
}

impl<const CENTRED: bool> RowNorm<CENTRED> {
    /// Of checked inputs.
    fn apply(
        x: &Tensor,
        shape: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        let op = Self {
            eps,
            row_rank: shape.len(),
            cols: shape.iter().product(),
            parts: Parts::new(weight, bias),
        };
        let (weight, bias) = (or_empty(weight, x.dtype())?, or_empty(bias, x.dtype())?);
        apply(Normalise(op), [x, &weight, &bias])
    }
}

impl<const CENTRED: bool> Norm for RowNorm<CENTRED> {
    const NAME: &'static str = if CENTRED { "layer_norm" } else { "rms_norm" };
    const NODE: &'static str = if CENTRED { "NativeLayerNormBackward0" } else { "FusedRmsNormBackward0" };
    // PyTorch makes the latter of operations whose gradients have just the history that they have.
    const TIES: Ties = if CENTRED { Ties::Unused(3) } else { Ties::Nothing };
    const KEEPS_FORMAT: bool = false;

    fn parts(&self) -> &Parts {
        &self.parts
    }

    fn run<T: Float>(&mut self, x: &Array, weight: Option<&Array>, bias: Option<&Array>) -> Result<Array> {
        let rows = x.shape()[..x.rank() - self.row_rank].iter().product();
        let mut out = Array::empty(x.shape(), T::DTYPE)?;
        let mut mean = CENTRED.then(|| Array::empty(&[rows], T::DTYPE)).transpose()?;
        let mut rstd = Array::empty(&[rows], T::DTYPE)?;
        let (weight, bias) = (weight.map(|w| w.slice()), bias.map(|b| b.slice()));
        norm::normalise::<T>(
            x.slice(),
            self.cols,
            weight,
            bias,
            self.eps,
            out.slice_mut(),
            mean.as_mut().map(|mean| mean.slice_mut()),
            rstd.slice_mut(),
        );
        if let Some(mean) = mean {
            self.parts.mean.set(mean);
        }
        self.parts.rstd.set(rstd);
        Ok(out)
    }

    fn fused<T: Float>(
        &self,
        needs: [bool; 3],
        x: &Array,
        weight: Option<&Array>,
        grad: &Array,
    ) -> Result<Grads<3>> {
        let mean = CENTRED.then(|| self.parts.mean.get(Self::NAME)).transpose()?;
        let rstd = self.parts.rstd.get(Self::NAME)?;
        let row_shape = &x.shape()[x.rank() - self.row_rank..];
        let parameter = |needed: bool| needed.then(|| Array::empty(row_shape, T::DTYPE)).transpose();
        let mut by_x = needs[0].then(|| Array::empty(x.shape(), T::DTYPE)).transpose()?;
        let (mut by_weight, mut by_bias) = (parameter(needs[1])?, parameter(needs[2])?);
        norm::normalise_backward::<T>(
            grad.slice(),
            x.slice(),
            mean.as_ref().map(|mean| mean.slice()),
            rstd.slice(),
            weight.map(|w| w.slice()),
            self.cols,
            by_x.as_mut().map(|out| out.slice_mut()),
            by_weight.as_mut().map(|out| out.slice_mut()),
            by_bias.as_mut().map(|out| out.slice_mut()),
        )?;
        Ok([by_x, by_weight, by_bias].map(|grad| grad.map(Tensor::constant)))
    }

    fn recorded(
        &self,
        needs: [bool; 3],
        x: &Tensor,
        weight: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Grads<3>> {
        let dims: SmallVec<[isize; 4]> = (1..=self.row_rank as isize).map(|dim| -dim).collect();
        let mean = |x: &Tensor| x.mean(&dims, true);
        let shifted = |x: &Tensor| -> Result<Tensor> { Ok(if CENTRED { x - mean(x)? } else { x.clone() }) };
        let centred = shifted(x)?;
        let rstd = (mean(&(&centred * &centred))? + self.eps).rsqrt()?;
        let normal = centred * &rstd;
        let by_x = if needs[0] {
            let d = weight.map_or_else(|| grad.clone(), |weight| grad * weight);
            Some((shifted(&d)? - &normal * mean(&(&d * &normal))?) * rstd)
        } else {
            None
        };
        Ok([by_x, needs[1].then(|| grad * normal), needs[2].then(|| grad.clone())])
    }
}

fn check_rows(op: &str, x: &Tensor, shape: &[usize]) -> Result<()> {
    ensure!(
        !shape.is_empty(),
        Shape,
        "{op}: Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got []; \
         name the last dims of the input"
    );
    ensure!(
        x.shape().ends_with(shape),
        Shape,
        "{op}: Given normalized_shape={shape:?}, expected input with shape [*, {}], but got input of size{:?}; \
         name the last dims of the input",
        shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        x.shape()
    );
    ensure!(
        x.dtype().is_float(),
        DType,
        "{op}: \"LayerNormKernelImpl\" not implemented for '{}'; convert with .float()",
        x.dtype().scalar_name()
    );
    Ok(())
}

fn check_parameter(
    op: &str,
    role: &str,
    parameter: Option<&Tensor>,
    shape: &[usize],
    dtype: DType,
) -> Result<()> {
    let Some(parameter) = parameter else { return Ok(()) };
    ensure!(
        parameter.shape() == shape,
        Shape,
        "{op}: Expected {role} to be of same shape as normalized_shape, but got {role} of shape {:?} and \
         normalized_shape = {shape:?}; reshape it",
        parameter.shape()
    );
    ensure!(
        parameter.dtype() == dtype || dtype.is_half() && parameter.dtype() == DType::F32,
        DType,
        "{op}: expected scalar type {} but found {} for {role}; convert one of them",
        dtype.scalar_name(),
        parameter.dtype().scalar_name()
    );
    Ok(())
}

impl Tensor {
    /// Rows of the last dims, which have `shape`, shifted and scaled to mean 0 and variance 1; then
    /// times `weight`, plus `bias`.
    pub fn layer_norm(
        &self,
        shape: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        check_rows("layer_norm", self, shape)?;
        check_parameter("layer_norm", "weight", weight, shape, self.dtype())?;
        check_parameter("layer_norm", "bias", bias, shape, self.dtype())?;
        RowNorm::<true>::apply(self, shape, weight, bias, eps)
    }

    /// Rows of the last dims, which have `shape`, over their root mean square; then times `weight`.
    pub fn rms_norm(&self, shape: &[usize], weight: Option<&Tensor>, eps: Option<f64>) -> Result<Tensor> {
        check_rows("rms_norm", self, shape)?;
        check_parameter("rms_norm", "weight", weight, shape, self.dtype())?;
        let compute = super::compute_dtype(self.dtype());
        let eps = eps.unwrap_or(if compute == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) });
        RowNorm::<false>::apply(self, shape, weight, None, eps)
    }
}
