//! Group normalisation: groups of channels of each sample shifted and scaled by their own statistics.

use super::{or_empty, ready};
use crate::array::Array;
use crate::autograd::{apply::apply, is_recording, Grads, Kept, Op, Saved, Saves, Ties};
use crate::kernels::group_norm::{self, GroupNormBackward, Groups};
use crate::kernels::rows::Float;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, Result};
use smallvec::SmallVec;

/// Groups of channels shifted and scaled to mean 0 and variance 1, times weight, plus bias.
#[derive(Debug)]
struct GroupNorm {
    eps: f64,
    sizes: Groups,
    has_weight: bool,
    has_bias: bool,
    /// Per group of each sample, in the compute dtype.
    mean: Kept,
    rstd: Kept,
}

impl GroupNorm {
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
        self.mean.set(mean);
        self.rstd.set(rstd);
        Ok(out)
    }

    fn fused<T: Float>(
        &self,
        needs: [bool; 3],
        x: &Array,
        weight: Option<&Array>,
        grad: &Array,
    ) -> Result<Grads<3>> {
        let (mean, rstd) = (self.mean.get(Self::NAME)?, self.rstd.get(Self::NAME)?);
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

    /// The gradients in operations that are recorded.
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

impl Op<3> for GroupNorm {
    const NAME: &'static str = "group_norm";

    fn grad_fn_name(&self) -> String {
        "NativeGroupNormBackward0".into()
    }

    fn ties(&self) -> Ties {
        Ties::UnusedOfThese(2)
    }

    fn saves(&self, _needs: [bool; 3]) -> Saves<3> {
        Saves::inputs([true, self.has_weight, false])
    }

    fn forward(&mut self, [x, weight, bias]: [&Array; 3]) -> Result<Array> {
        let (dtype, model) = (x.dtype(), x);
        let x = ready(x, dtype)?;
        let weight = self.has_weight.then(|| ready(weight, dtype)).transpose()?;
        let bias = self.has_bias.then(|| ready(bias, dtype)).transpose()?;
        let out =
            dispatch_float!(x.dtype(), Self::NAME, T => self.run::<T>(&x, weight.as_ref(), bias.as_ref())?);
        out.to_dtype(dtype)?.in_format_of(model)
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let x = saved.input(0)?;
        let weight = self.has_weight.then(|| saved.input(1)).transpose()?;
        let (dtype, needs) = (x.dtype(), std::array::from_fn(|i| saved.needs(i)));
        if is_recording() {
            return self.recorded(needs, &x, weight.as_ref(), grad);
        }
        let (x, grad) = (ready(x.array(), dtype)?, ready(grad.array(), dtype)?);
        let weight = weight.map(|weight| ready(weight.array(), dtype)).transpose()?;
        dispatch_float!(x.dtype(), Self::NAME, T => self.fused::<T>(needs, &x, weight.as_ref(), &grad))
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.mean);
        visit(&self.rstd);
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
            has_weight: weight.is_some(),
            has_bias: bias.is_some(),
            mean: Kept::default(),
            rstd: Kept::default(),
        };
        let (weight, bias) = (or_empty(weight, self.dtype())?, or_empty(bias, self.dtype())?);
        apply(op, [self, &weight, &bias])
    }
}
