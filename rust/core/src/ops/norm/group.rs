//! Group normalisation: groups of channels of each sample shifted and scaled by their own statistics.

use super::{or_empty, Norm, Normalise, Parts};
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Ties};
use crate::kernels::group_norm::{self, GroupNormBackward, Groups};
use crate::kernels::rows::Float;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{ensure, Result};
use smallvec::SmallVec;

/// Groups of channels shifted and scaled to mean 0 and variance 1, times weight, plus bias.
#[derive(Debug)]
struct GroupNorm {
    eps: f64,
    sizes: Groups,
    /// Statistics per group of each sample.
    parts: Parts,
}

impl Norm for GroupNorm {
    const NAME: &'static str = "group_norm";
    const NODE: &'static str = "NativeGroupNormBackward0";
    const TIES: Ties = Ties::UnusedOfThese(2);
    const KEEPS_FORMAT: bool = true;

    fn parts(&self) -> &Parts {
        &self.parts
    }

    fn run<T: Float>(&mut self, x: &Array, weight: Option<&Array>, bias: Option<&Array>) -> Result<Array> {
        let rows = self.sizes.rows();
        let mut out = Array::empty(x.shape(), T::DTYPE)?;
        let (mut mean, mut rstd) = (Array::empty(&[rows], T::DTYPE)?, Array::empty(&[rows], T::DTYPE)?);
        let (weight, bias) = (weight.map(|w| w.slice()), bias.map(|b| b.slice()));
        group_norm::group_norm::<T>(
            x.slice(),
            self.sizes,
            weight,
            bias,
            self.eps,
            out.slice_mut(),
            mean.slice_mut(),
            rstd.slice_mut(),
        );
        self.parts.mean.set(mean);
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
        let (mean, rstd) = (self.parts.mean.get(Self::NAME)?, self.parts.rstd.get(Self::NAME)?);
        let parameter =
            |needed: bool| needed.then(|| Array::empty(&[self.sizes.channels], T::DTYPE)).transpose();
        let mut by_x = needs[0].then(|| Array::empty(x.shape(), T::DTYPE)).transpose()?;
        let (mut by_weight, mut by_bias) = (parameter(needs[1])?, parameter(needs[2])?);
        let kernel = GroupNormBackward::<T> {
            grad: grad.slice(),
            x: x.slice(),
            sizes: self.sizes,
            mean: mean.slice(),
            rstd: rstd.slice(),
            weight: weight.map(|w| w.slice()),
        };
        kernel.run(
            by_x.as_mut().map(|out| out.slice_mut()),
            by_weight.as_mut().map(|out| out.slice_mut()),
            by_bias.as_mut().map(|out| out.slice_mut()),
        );
        Ok([by_x, by_weight, by_bias].map(|grad| grad.map(Tensor::constant)))
    }

    fn recorded(
        &self,
        needs: [bool; 3],
        x: &Tensor,
        weight: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Grads<3>> {
        let mut per_channel = Dims::from_elem(1, x.rank());
        per_channel[1] = self.sizes.channels;
        let cols = self.sizes.channels / self.sizes.groups * self.sizes.plane;
        let rows = [self.sizes.samples, self.sizes.groups, cols];
        let mean = |x: &Tensor| x.mean(&[-1], true);
        let by_row = x.reshape(&rows)?;
        let centred = &by_row - mean(&by_row)?;
        let rstd = (mean(&(&centred * &centred))? + self.eps).rsqrt()?;
        let normal = centred * &rstd;
        let by_x = if needs[0] {
            let d = match weight {
                Some(weight) => grad * weight.reshape(&per_channel)?,
                None => grad.clone(),
            };
            let d = d.reshape(&rows)?;
            Some(((&d - mean(&d)? - &normal * mean(&(&d * &normal))?) * rstd).reshape(x.shape())?)
        } else {
            None
        };
        let dims: SmallVec<[isize; 4]> = (0..x.rank() as isize).filter(|&dim| dim != 1).collect();
        let by_weight =
            needs[1].then(|| (grad * normal.reshape(x.shape())?).sum(&dims, false)).transpose()?;
        let by_bias = needs[2].then(|| grad.sum(&dims, false)).transpose()?;
        Ok([by_x, by_weight, by_bias])
    }
}

impl Tensor {
    /// Channels of `(N, C, ...)` in `groups`, each group of a sample normalised; then times `weight`, plus
    /// `bias`, per channel.
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        ensure!(
            self.rank() >= 2,
            Shape,
            "group_norm: Expected at least 2 dimensions for input tensor but received {}; unsqueeze it first",
            self.rank()
        );
        let channels = self.shape()[1];
        ensure!(
            groups > 0 && channels.is_multiple_of(groups),
            Shape,
            "group_norm: Expected number of channels in input to be divisible by num_groups, but got input of shape \
             {:?} and num_groups={groups}; use other groups",
            self.shape()
        );
        let plane = self.shape()[2..].iter().product::<usize>();
        ensure!(
            self.dtype().is_float(),
            DType,
            "group_norm: \"GroupNormKernelImpl\" not implemented for '{}'; convert with .float()",
            self.dtype().scalar_name()
        );
        // PyTorch counts the values per group of the whole batch.
        ensure!(
            self.shape()[0].saturating_mul(channels / groups * plane) != 1,
            Value,
            "group_norm: Expected more than 1 value per channel when training, got input size {:?}; \
             use fewer groups",
            self.shape()
        );
        for (role, parameter) in [("weight", weight), ("bias", bias)] {
            let Some(parameter) = parameter else { continue };
            ensure!(
                parameter.rank() == 1 && parameter.numel() == channels,
                Shape,
                "group_norm: Expected {role} to be a vector of size equal to the number of channels in input, but got \
                 {role} of shape {:?} and input of shape {:?}; give one number per channel",
                parameter.shape(),
                self.shape()
            );
        }
        let op = GroupNorm {
            eps,
            sizes: Groups { samples: self.shape()[0], channels, plane, groups },
            parts: Parts::new(weight, bias),
        };
        let (weight, bias) = (or_empty(weight, self.dtype())?, or_empty(bias, self.dtype())?);
        apply(Normalise(op), [self, &weight, &bias])
    }
}
