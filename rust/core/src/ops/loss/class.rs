//! Class-index targets, and the negative log-likelihood of log-probabilities.

use super::Reduction;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::dtype::Element;
use crate::layout::Dims;
use crate::ops::promote::compute_dtype;
use crate::tensor::Tensor;
use crate::{bail, dispatch_float, ensure, DType, Result};
use std::sync::Arc;

/// Options of the losses of class indices.
#[derive(Debug, Clone)]
pub struct ClassLoss {
    /// A weight per class.
    pub weight: Option<Tensor>,
    /// Targets of this class count for nothing.
    pub ignore_index: i64,
    /// What becomes of the single losses.
    pub reduction: Reduction,
    /// The share of each target that is spread evenly over all classes (`cross_entropy` only).
    pub label_smoothing: f64,
}

impl Default for ClassLoss {
    fn default() -> Self {
        Self { weight: None, ignore_index: -100, reduction: Reduction::Mean, label_smoothing: 0.0 }
    }
}

/// Scores whose class dim has `inner` elements behind it, and one target for each row of classes, checked.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub classes: usize,
    pub inner: usize,
    /// Of the scores.
    pub shape: Dims,
    /// Of the single losses.
    pub loss_shape: Dims,
    /// Class indices, or `ignore_index`.
    pub classes_of: Arc<Vec<i64>>,
    pub ignore_index: i64,
    /// Per class, in the scores' dtype.
    pub weight: Option<Array>,
}

/// The dim of the classes.
pub(super) fn class_dim(op: &str, x: &Tensor) -> Result<usize> {
    ensure!(x.rank() > 0, Shape, "{op}: input tensor should be 1D or more, not a 0-d tensor");
    Ok(usize::from(x.rank() > 1))
}

/// The class weights, checked and converted.
pub(super) fn class_weight(
    op: &str,
    weight: Option<&Tensor>,
    classes: usize,
    dtype: DType,
) -> Result<Option<Array>> {
    let Some(weight) = weight else { return Ok(None) };
    ensure!(
        weight.rank() == 1 && weight.numel() == classes,
        Shape,
        "{op}: weight tensor should be defined either for all {classes} classes or no classes but got weight \
         tensor of shape: {:?}",
        weight.shape()
    );
    ensure!(
        weight.dtype() == dtype,
        DType,
        "{op}: expected scalar type {} but found {}; give the weight the input's dtype",
        dtype.scalar_name(),
        weight.dtype().scalar_name()
    );
    Ok(Some(weight.array().to_dtype(compute_dtype(dtype))?.contiguous()?))
}

impl Targets {
    pub(super) fn new(op: &str, x: &Tensor, target: &Tensor, options: &ClassLoss) -> Result<Self> {
        let dim = class_dim(op, x)?;
        let classes = x.shape()[dim];
        ensure!(
            matches!(target.dtype(), DType::I64 | DType::U8),
            DType,
            "{op}: expected scalar type Long or Byte for class indices, but found {}; convert the target with \
             .long()",
            target.dtype().scalar_name()
        );
        let mut loss_shape = Dims::from_slice(x.shape());
        loss_shape.remove(dim);
        check_target_shape(op, x.shape(), target.shape(), &loss_shape)?;
        let weight = class_weight(op, options.weight.as_ref(), classes, x.dtype())?;
        let classes_of = target.array().to_vec::<i64>()?;
        let valid = |&class: &i64| class == options.ignore_index || (0..classes as i64).contains(&class);
        if let Some(class) = classes_of.iter().find(|class| !valid(class)) {
            bail!(Index, "{op}: Target {class} is out of bounds; the input has {classes} classes");
        }
        Ok(Self {
            classes,
            inner: x.shape()[dim + 1..].iter().product(),
            shape: Dims::from_slice(x.shape()),
            loss_shape,
            classes_of: Arc::new(classes_of),
            ignore_index: options.ignore_index,
            weight,
        })
    }

    /// The weight of each target, 0 for ignored ones.
    pub(super) fn weights<T: Element>(&self) -> Vec<T> {
        let weight = self.weight.as_ref().map(|weight| weight.slice::<T>());
        let of = |&class: &i64| match weight {
            _ if class == self.ignore_index => T::from_f64(0.0),
            Some(weight) => weight[class as usize],
            None => T::from_f64(1.0),
        };
        self.classes_of.iter().map(of).collect()
    }

    /// What the mean divides by.
    pub(super) fn total_weight(&self) -> f64 {
        match &self.weight {
            Some(weight) if weight.dtype() == DType::F64 => self.weights::<f64>().iter().sum(),
            Some(_) => self.weights::<f32>().into_iter().map(f64::from).sum(),
            None => self.classes_of.iter().filter(|&&class| class != self.ignore_index).count() as f64,
        }
    }

    /// Where target `i` of class `class` stands in the contiguous scores.
    fn at(&self, i: usize, class: i64) -> usize {
        (i / self.inner * self.classes + class as usize) * self.inner + i % self.inner
    }

    /// The targets that count, with where their scores stand.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let targets = self.classes_of.iter().enumerate();
        targets.filter(|(_, &class)| class != self.ignore_index).map(|(i, &class)| (i, self.at(i, class)))
    }
}

fn check_target_shape(op: &str, input: &[usize], target: &[usize], expected: &[usize]) -> Result<()> {
    if let ([n, ..], [m, ..]) = (expected, target) {
        ensure!(
            n == m,
            Shape,
            "{op}: Expected input batch_size ({n}) to match target batch_size ({m}). (input {input:?}, target \
             {target:?})"
        );
    }
    ensure!(
        target == expected,
        Shape,
        "{op}: Expected target size {expected:?}, got {target:?} (the input has shape {input:?})"
    );
    Ok(())
}

/// The negative weighted scores at the targets, reduced. Linear in the scores.
#[derive(Debug, Clone)]
pub(super) struct NllLoss {
    pub targets: Targets,
    pub reduction: Reduction,
}

impl NllLoss {
    /// The factor of every score, besides its weight.
    fn scale(&self) -> f64 {
        match self.reduction {
            Reduction::Mean => -1.0 / self.targets.total_weight(),
            _ => -1.0,
        }
    }
}

impl Op<1> for NllLoss {
    const NAME: &'static str = "nll_loss";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let (targets, dtype) = (&self.targets, x.dtype());
        let x = x.to_dtype(compute_dtype(dtype))?.contiguous()?;
        let is_reduced = self.reduction != Reduction::None;
        let shape: &[usize] = if is_reduced { &[] } else { &targets.loss_shape };
        let mut out = Array::full(shape, 0.0, x.dtype())?;
        dispatch_float!(x.dtype(), Self::NAME, T => {
            let (x, weights, out) = (x.slice::<T>(), targets.weights::<T>(), out.slice_mut::<T>());
            let losses = targets.places().map(|(i, at)| (i, -(weights[i] * x[at])));
            if is_reduced {
                let sum: f64 = losses.map(|(_, loss)| loss.to_f64()).sum();
                out[0] = T::from_f64(-sum * self.scale());
            } else {
                losses.for_each(|(i, loss)| out[i] = loss);
            }
        });
        out.to_dtype(dtype)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(NllLossBackward(self.clone()), [grad])?)])
    }
}

/// The gradient of the scores from that of the loss; linear, so that its own gradient is the loss.
#[derive(Debug)]
pub(super) struct NllLossBackward(pub NllLoss);

impl Op<1> for NllLossBackward {
    const NAME: &'static str = "nll_loss_backward";

    fn forward(&mut self, [grad]: [&Array; 1]) -> Result<Array> {
        let targets = &self.0.targets;
        let dtype = grad.dtype();
        let grad = grad
            .to_dtype(compute_dtype(dtype))?
            .broadcast_to(Self::NAME, &targets.loss_shape)?
            .contiguous()?;
        let mut out = Array::full(&targets.shape, 0.0, grad.dtype())?;
        let scale = self.0.scale();
        dispatch_float!(grad.dtype(), Self::NAME, T => {
            let (grad, weights, out) = (grad.slice::<T>(), targets.weights::<T>(), out.slice_mut::<T>());
            for (i, at) in targets.places() {
                out[at] = grad[i] * weights[i] * T::from_f64(scale);
            }
        });
        out.to_dtype(dtype)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(self.0.clone(), [grad])?)])
    }
}

impl Tensor {
    /// Negative log-likelihood of class indices, given log-probabilities `(C)`, `(N, C)` or `(N, C, d1, ...)`.
    pub fn nll_loss(&self, target: &Tensor, options: &ClassLoss) -> Result<Tensor> {
        ensure!(
            self.dtype().is_float(),
            DType,
            "nll_loss: \"nll_loss_out_frame\" not implemented for '{}'; convert with .float()",
            self.dtype().scalar_name()
        );
        let targets = Targets::new("nll_loss", self, target, options)?;
        apply(NllLoss { targets, reduction: options.reduction }, [self])
    }
}
