//! Batch normalisation: each channel shifted and scaled, by its own or by running statistics.

use super::{or_empty, ready, Norm, Normalise, Parts};
use crate::array::Array;
use crate::autograd::{apply::apply, check_writable, GradMode, Grads, Kept, Ties};
use crate::dtype::DType;
use crate::kernels::batch_norm::{self, BatchNormBackward, Planes};
use crate::kernels::rows::Float;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, Result};
use smallvec::SmallVec;

/// How a batch is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormOptions {
    /// Whether the batch's own statistics are used, and the running ones moved towards them.
    pub training: bool,
    /// How far the running statistics move.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
}

/// Channels normalised by statistics, times weight, plus bias.
#[derive(Debug)]
struct BatchNorm {
    training: bool,
    eps: f64,
    /// Statistics per channel.
    parts: Parts,
}

fn planes(shape: &[usize]) -> Planes {
    Planes { batch: shape[0], channels: shape[1], len: shape[2..].iter().product() }
}

impl Norm for BatchNorm {
    const NAME: &'static str = "batch_norm";
    const NODE: &'static str = "NativeBatchNormBackward0";
    const TIES: Ties = Ties::Unused(2);
    const KEEPS_FORMAT: bool = true;

    fn parts(&self) -> &Parts {
        &self.parts
    }

    fn run<T: Float>(&mut self, x: &Array, weight: Option<&Array>, bias: Option<&Array>) -> Result<Array> {
        let (mean, rstd) = (self.parts.mean.get(Self::NAME)?, self.parts.rstd.get(Self::NAME)?);
        let mut out = Array::empty(x.shape(), T::DTYPE)?;
        let (weight, bias) = (weight.map(|w| w.slice()), bias.map(|b| b.slice()));
        let planes = planes(x.shape());
        if x.numel() > 0 {
            batch_norm::batch_norm::<T>(
                x.slice(),
                planes,
                mean.slice(),
                rstd.slice(),
                weight,
                bias,
                out.slice_mut(),
            );
        }
        Ok(out)
    }

    fn fused<T: Float>(
        &self,
        needs: [bool; 3],
        x: &Array,
        weight: Option<&Array>,
        grad: &Array,
    ) -> Result<Grads<3>> {
        let (mean, rstd) = (self.parts.mean.get(Self::NAME)?, self.parts.rstd.get(Self::NAME)?);
        let planes = planes(x.shape());
        let mut by_x = needs[0].then(|| Array::empty(x.shape(), T::DTYPE)).transpose()?;
        let mut by_weight = Array::full(&[planes.channels], 0.0, T::DTYPE)?;
        let mut by_bias = Array::full(&[planes.channels], 0.0, T::DTYPE)?;
        let kernel = BatchNormBackward::<T> {
            grad: grad.slice(),
            x: x.slice(),
            planes,
            mean: mean.slice(),
            rstd: rstd.slice(),
            weight: weight.map(|w| w.slice()),
            is_training: self.training,
        };
        if x.numel() > 0 {
            kernel.run(by_x.as_mut().map(|out| out.slice_mut()), by_weight.slice_mut(), by_bias.slice_mut());
        }
        let grads = [by_x, needs[1].then_some(by_weight), needs[2].then_some(by_bias)];
        Ok(grads.map(|grad| grad.map(Tensor::constant)))
    }

    fn recorded(
        &self,
        needs: [bool; 3],
        x: &Tensor,
        weight: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Grads<3>> {
        let dims: SmallVec<[isize; 4]> = (0..x.rank() as isize).filter(|&dim| dim != 1).collect();
        let mut per_channel = Dims::from_elem(1, x.rank());
        per_channel[1] = x.shape()[1];
        let mean = |x: &Tensor| x.mean(&dims, true);
        let (centred, rstd) = if self.training {
            let centred = x - mean(x)?;
            let rstd = (mean(&(&centred * &centred))? + self.eps).rsqrt()?;
            (centred, rstd)
        } else {
            let kept = |kept: &Kept| {
                Tensor::constant(kept.get(Self::NAME)?.to_dtype(x.dtype())?).reshape(&per_channel)
            };
            (x - kept(&self.parts.mean)?, kept(&self.parts.rstd)?)
        };
        let normal = centred * &rstd;
        let by_x = if needs[0] {
            let d = match weight {
                Some(weight) => grad * weight.reshape(&per_channel)?,
                None => grad.clone(),
            };
            Some(match self.training {
                true => (&d - mean(&d)? - &normal * mean(&(&d * &normal))?) * rstd,
                false => d * rstd,
            })
        } else {
            None
        };
        let by_weight = needs[1].then(|| (grad * normal).sum(&dims, false)).transpose()?;
        let by_bias = needs[2].then(|| grad.sum(&dims, false)).transpose()?;
        Ok([by_x, by_weight, by_bias])
    }
}

fn check(x: &Tensor, per_channel: [(&str, Option<&Tensor>); 4], training: bool) -> Result<()> {
    ensure!(
        x.rank() >= 2,
        Shape,
        "batch_norm: expected input of at least 2 dimensions (N, C, ...), got shape {:?}; \
         unsqueeze it first",
        x.shape()
    );
    ensure!(
        x.dtype().is_float(),
        DType,
        "batch_norm: not implemented for '{}'; convert with .float()",
        x.dtype().scalar_name()
    );
    let channels = x.shape()[1];
    for (role, parameter) in per_channel {
        let Some(parameter) = parameter else { continue };
        ensure!(
            parameter.rank() == 1 && parameter.numel() == channels,
            Shape,
            "batch_norm: {role} should contain {channels} elements not {} (input {:?}, {role} {:?}); \
             give one number per channel",
            parameter.numel(),
            x.shape(),
            parameter.shape()
        );
        ensure!(
            parameter.dtype() == x.dtype() || x.dtype().is_half() && parameter.dtype() == DType::F32,
            DType,
            "batch_norm: expected scalar type {} but found {} for {role}; convert one of them",
            x.dtype().scalar_name(),
            parameter.dtype().scalar_name()
        );
    }
    if training {
        let count = x.numel() / channels.max(1);
        ensure!(
            count != 1,
            Value,
            "batch_norm: Expected more than 1 value per channel when training, got input size {:?}; \
             use a larger batch, or training=False",
            x.shape()
        );
    }
    Ok(())
}

/// Mean and biased variance of each channel.
fn moments<T: Float>(x: &Array) -> Result<[Array; 2]> {
    let planes = planes(x.shape());
    let (mut mean, mut variance) =
        (Array::full(&[planes.channels], 0.0, T::DTYPE)?, Array::full(&[planes.channels], 0.0, T::DTYPE)?);
    if x.numel() > 0 {
        batch_norm::channel_moments::<T>(x.slice(), planes, mean.slice_mut(), variance.slice_mut());
    }
    Ok([mean, variance])
}

/// `1 / sqrt(variance + eps)`, rounded once.
fn rstd<T: Float>(variance: &Array, eps: f64) -> Result<Array> {
    let mut out = Array::empty(variance.shape(), T::DTYPE)?;
    for (out, v) in out.slice_mut::<T>().iter_mut().zip(variance.slice::<T>()) {
        *out = T::from_f64(1.0 / (v.to_f64() + eps).sqrt());
    }
    Ok(out)
}

/// Moves running mean and variance by `momentum` towards those of a batch of `count` values per channel,
/// in place. Rounded once, as PyTorch computes it in float64.
fn follow(running: [Option<&Tensor>; 2], batch: [&Array; 2], count: f64, momentum: f64) -> Result<()> {
    let _off = GradMode::disabled();
    for (running, value, factor) in
        [(running[0], batch[0], 1.0), (running[1], batch[1], count / (count - 1.0))]
    {
        let Some(running) = running else { continue };
        let value = Tensor::constant(value.to_dtype(DType::F64)?);
        let old = running.detach().to_dtype(DType::F64)?;
        let stays = old.mul(&old.scalar_beside(1.0 - momentum)?)?;
        let comes = value.mul(&value.scalar_beside(momentum * factor)?)?;
        running.copy_(&stays.add(&comes)?)?;
    }
    Ok(())
}

impl Tensor {
    /// Channels of `(N, C, ...)` shifted and scaled to mean 0 and variance 1, times `weight`, plus `bias`:
    /// by the batch's statistics when training, which the running ones then follow, else by the running ones.
    pub fn batch_norm(
        &self,
        running: [Option<&Tensor>; 2],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        options: BatchNormOptions,
    ) -> Result<Tensor> {
        let BatchNormOptions { training, momentum, eps } = options;
        let per_channel =
            [("running_mean", running[0]), ("running_var", running[1]), ("weight", weight), ("bias", bias)];
        check(self, per_channel, training)?;
        if training {
            // Before anything is computed: an error must leave both as they were.
            let _off = GradMode::disabled();
            running.into_iter().flatten().try_for_each(|x| check_writable("batch_norm", x))?;
        }
        let x = ready(self.array(), self.dtype())?;
        let [mean, variance] = match (training, running) {
            (true, _) => dispatch_float!(x.dtype(), "batch_norm", T => moments::<T>(&x)?),
            (false, [Some(mean), Some(variance)]) => {
                // The running statistics may be written before the backward pass.
                let own = |x: &Tensor| {
                    x.array().copied()?.to_dtype(super::compute_dtype(self.dtype()))?.into_contiguous()
                };
                [own(mean)?, own(variance)?]
            }
            _ => crate::bail!(
                Value,
                "batch_norm: Expected running_mean and running_var to be defined when training=False; \
                 give both, or use training=True"
            ),
        };
        let rstd = dispatch_float!(x.dtype(), "batch_norm", T => rstd::<T>(&variance, eps)?);
        let op = BatchNorm {
            training,
            eps,
            parts: Parts { mean: Kept::of(mean.clone()), rstd: Kept::of(rstd), ..Parts::new(weight, bias) },
        };
        let (weight, bias) = (or_empty(weight, self.dtype())?, or_empty(bias, self.dtype())?);
        let out = apply(Normalise(op), [self, &weight, &bias])?;
        if training && self.numel() > 0 {
            let count = (self.numel() / self.shape()[1]) as f64;
            follow(running, [&mean, &variance], count, momentum)?;
        }
        Ok(out)
    }
}
