//! Normalisation: over the last dims in `layer`, over groups of channels in `group`, over a batch's channels in `batch`.

mod batch;
mod group;
mod layer;

pub use batch::BatchNormOptions;

use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::{is_recording, Grads, Kept, Op, Saved, Saves, Ties};
use crate::kernels::rows::Float;
use crate::tensor::Tensor;
use crate::{dispatch_float, DType, Result};
use std::fmt::{self, Debug};

/// Which parameters a normalisation has, and the statistics that its backward pass needs, in the compute dtype.
#[derive(Debug, Default)]
struct Parts {
    has_weight: bool,
    has_bias: bool,
    mean: Kept,
    rstd: Kept,
}

impl Parts {
    fn new(weight: Option<&Tensor>, bias: Option<&Tensor>) -> Self {
        Self { has_weight: weight.is_some(), has_bias: bias.is_some(), ..Self::default() }
    }
}

/// A normalisation in kernels of its own: of contiguous arrays of the compute dtype.
trait Norm: Debug + Send + Sync + 'static {
    /// As users spell it.
    const NAME: &'static str;
    /// PyTorch's name of the node.
    const NODE: &'static str;
    /// See [`Op::ties`].
    const TIES: Ties;
    /// Whether the result takes over the memory format of the input.
    const KEEPS_FORMAT: bool;

    /// Its parameters and statistics.
    fn parts(&self) -> &Parts;

    /// The result; keeps the statistics.
    fn run<T: Float>(&mut self, x: &Array, weight: Option<&Array>, bias: Option<&Array>) -> Result<Array>;

    /// The gradients in one pass.
    fn fused<T: Float>(
        &self,
        needs: [bool; 3],
        x: &Array,
        weight: Option<&Array>,
        grad: &Array,
    ) -> Result<Grads<3>>;

    /// The gradients in operations that are recorded.
    fn recorded(
        &self,
        needs: [bool; 3],
        x: &Tensor,
        weight: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Grads<3>>;
}

/// A normalisation as an operation on input, weight and bias.
struct Normalise<N>(N);

impl<N: Debug> Debug for Normalise<N> {
    /// As what it is: graphs show this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<N: Norm> Op<3> for Normalise<N> {
    const NAME: &'static str = N::NAME;

    fn grad_fn_name(&self) -> String {
        N::NODE.into()
    }

    fn ties(&self) -> Ties {
        N::TIES
    }

    fn saves(&self, _needs: [bool; 3]) -> Saves<3> {
        Saves::inputs([true, self.0.parts().has_weight, false])
    }

    fn forward(&mut self, [x, weight, bias]: [&Array; 3]) -> Result<Array> {
        let (dtype, parts, model) = (x.dtype(), self.0.parts(), x);
        let x = ready(x, dtype)?;
        let weight = parts.has_weight.then(|| ready(weight, dtype)).transpose()?;
        let bias = parts.has_bias.then(|| ready(bias, dtype)).transpose()?;
        let out =
            dispatch_float!(x.dtype(), N::NAME, T => self.0.run::<T>(&x, weight.as_ref(), bias.as_ref())?);
        let out = out.into_dtype(dtype)?;
        if N::KEEPS_FORMAT {
            out.in_format_of(model)
        } else {
            Ok(out)
        }
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let x = saved.input(0)?;
        let weight = self.0.parts().has_weight.then(|| saved.input(1)).transpose()?;
        let (dtype, needs) = (x.dtype(), std::array::from_fn(|i| saved.needs(i)));
        if is_recording() {
            return self.0.recorded(needs, &x, weight.as_ref(), grad);
        }
        let (x, grad) = (ready(x.array(), dtype)?, ready(grad.array(), dtype)?);
        let weight = weight.map(|weight| ready(weight.array(), dtype)).transpose()?;
        dispatch_float!(x.dtype(), N::NAME, T => self.0.fused::<T>(needs, &x, weight.as_ref(), &grad))
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.0.parts().mean);
        visit(&self.0.parts().rstd);
    }
}

/// A parameter for the kernels: contiguous, in the dtype that they compute in.
fn ready(x: &Array, dtype: DType) -> Result<Array> {
    x.to_dtype(compute_dtype(dtype))?.into_contiguous()
}

/// The parameter, or an empty stand-in that needs no gradient.
fn or_empty(parameter: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    match parameter {
        Some(parameter) => Ok(parameter.clone()),
        None => Tensor::empty(&[0], dtype),
    }
}
