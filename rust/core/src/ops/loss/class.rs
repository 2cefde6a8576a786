//! Class-index targets, and the negative log-likelihood of log-probabilities.

use super::Reduction;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Kept, Op, Saved, Ties};
use crate::dtype::Element;
use crate::kernels::rows::total;
use crate::layout::Dims;
use crate::ops::gather::own_indices;
use crate::ops::promote::compute_dtype;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Error, Kind, Result};

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
#[derive(Debug)]
pub(super) struct Targets {
    pub classes: usize,
    pub inner: usize,
    /// Of the scores.
    pub shape: Dims,
    /// Of the single losses.
    pub loss_shape: Dims,
    /// Class indices, or `ignore_index`: int64 in memory that nobody else can write.
    pub classes_of: Array,
    pub ignore_index: i64,
    /// Per class, in the scores' dtype.
    pub weight: Option<Array>,
}

/// [`Targets`] that an operation holds until its graph is freed. The class weights may be the user's own:
/// reading them asks for their version.
#[derive(Debug)]
pub(super) struct HeldTargets {
    /// Without the arrays' elements.
    classes: usize,
    inner: usize,
    shape: Dims,
    loss_shape: Dims,
    ignore_index: i64,
    classes_of: Kept,
    weight: Option<Kept>,
}

impl HeldTargets {
    /// The targets; an error after the graph was freed.
    pub fn get(&self, op: &str) -> Result<Targets> {
        Ok(Targets {
            classes: self.classes,
            inner: self.inner,
            shape: self.shape.clone(),
            loss_shape: self.loss_shape.clone(),
            classes_of: self.classes_of.get(op)?,
            ignore_index: self.ignore_index,
            weight: self.weight.as_ref().map(|weight| weight.get(op)).transpose()?,
        })
    }

    /// Shows what is kept.
    pub fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.classes_of);
        self.weight.iter().for_each(visit);
    }
}

/// The dim of the classes.
pub(super) fn class_dim(op: &str, x: &Tensor) -> Result<usize> {
    ensure!(
        x.rank() > 0,
        Shape,
        "{op}: input tensor should be 1D or more, not a 0-d tensor; unsqueeze it first"
    );
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
         tensor of shape: {:?}; give one weight per class",
        weight.shape()
    );
    ensure!(
        weight.dtype() == dtype,
        DType,
        "{op}: expected scalar type {} but found {}; give the weight the input's dtype",
        dtype.scalar_name(),
        weight.dtype().scalar_name()
    );
    Ok(Some(weight.array().to_dtype(compute_dtype(dtype))?.into_contiguous()?))
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
        let valid = |class| class == options.ignore_index || (0..classes as i64).contains(&class);
        let classes_of = own_indices(target.array(), valid, |class| {
            Error::new(
                Kind::Index,
                format!(
                    "{op}: Target {class} is out of bounds; the input has {classes} classes (or use \
                     ignore_index={class})"
                ),
            )
        })?;
        Ok(Self {
            classes,
            inner: x.shape()[dim + 1..].iter().product(),
            shape: Dims::from_slice(x.shape()),
            loss_shape,
            classes_of,
            ignore_index: options.ignore_index,
            weight,
        })
    }

    /// The same for an operation to hold.
    pub(super) fn held(self) -> HeldTargets {
        HeldTargets {
            classes: self.classes,
            inner: self.inner,
            shape: self.shape,
            loss_shape: self.loss_shape,
            ignore_index: self.ignore_index,
            classes_of: Kept::of(self.classes_of),
            weight: self.weight.map(Kept::of),
        }
    }

    /// What the mean divides by.
    pub(super) fn total_weight(&self) -> f64 {
        let counted = || self.classes_of.slice::<i64>().iter().filter(|&&class| class != self.ignore_index);
        match &self.weight {
            Some(weight) if weight.dtype() == DType::F64 => {
                counted().map(|&class| weight.slice::<f64>()[class as usize]).sum()
            }
            Some(weight) => counted().map(|&class| f64::from(weight.slice::<f32>()[class as usize])).sum(),
            None => counted().count() as f64,
        }
    }

    /// Where target `i` of class `class` stands in the contiguous scores.
    fn at(&self, i: usize, class: i64) -> usize {
        (i / self.inner * self.classes + class as usize) * self.inner + i % self.inner
    }

    /// The targets that count: which, where their scores stand, and the weights of their classes.
    fn places<T: Element>(&self) -> impl Iterator<Item = (usize, usize, T)> + '_ {
        let weight = self.weight.as_ref().map(|weight| weight.slice::<T>());
        let targets = self.classes_of.slice::<i64>().iter().enumerate();
        targets.filter(|(_, &class)| class != self.ignore_index).map(move |(i, &class)| {
            (i, self.at(i, class), weight.map_or(T::from_f64(1.0), |weight| weight[class as usize]))
        })
    }
}

fn check_target_shape(op: &str, input: &[usize], target: &[usize], expected: &[usize]) -> Result<()> {
    if let ([n, ..], [m, ..]) = (expected, target) {
        ensure!(
            n == m,
            Shape,
            "{op}: Expected input batch_size ({n}) to match target batch_size ({m}). (input {input:?}, target \
             {target:?}); give one target per row of the input"
        );
    }
    ensure!(
        target == expected,
        Shape,
        "{op}: Expected target size {expected:?}, got {target:?} (the input has shape {input:?}); \
         reshape the target"
    );
    Ok(())
}

/// The negative weighted scores at the targets, reduced. Linear in the scores.
#[derive(Debug)]
struct NllLoss {
    targets: HeldTargets,
    reduction: Reduction,
}

/// The factor of every score, besides its weight.
fn scale(targets: &Targets, reduction: Reduction) -> f64 {
    match reduction {
        Reduction::Mean => -1.0 / targets.total_weight(),
        _ => -1.0,
    }
}

impl Op<1> for NllLoss {
    const NAME: &'static str = "nll_loss";

    fn ties(&self) -> Ties {
        Ties::Zeros(1)
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let (targets, dtype) = (self.targets.get(Self::NAME)?, x.dtype());
        let x = x.to_dtype(compute_dtype(dtype))?.into_contiguous()?;
        let is_reduced = self.reduction != Reduction::None;
        let shape: &[usize] = if is_reduced { &[] } else { &targets.loss_shape };
        let mut out = Array::full(shape, 0.0, x.dtype())?;
        dispatch_float!(x.dtype(), Self::NAME, T => {
            let (x, out) = (x.slice::<T>(), out.slice_mut::<T>());
            let losses = targets.places::<T>().map(|(i, at, weight)| (i, -(weight * x[at])));
            if is_reduced {
                let sum = total(losses.map(|(_, loss)| loss.to_f64()));
                out[0] = T::from_f64(-sum * scale(&targets, self.reduction));
            } else {
                losses.for_each(|(i, loss)| out[i] = loss);
            }
        });
        out.into_dtype(dtype)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let op = NllLossBackward { targets: self.targets.get(Self::NAME)?.held(), reduction: self.reduction };
        Ok([Some(apply(op, [grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        self.targets.visit_kept(visit);
    }
}

/// The gradient of the scores from that of the loss; linear, so that its own gradient is the loss.
#[derive(Debug)]
struct NllLossBackward {
    targets: HeldTargets,
    reduction: Reduction,
}

impl Op<1> for NllLossBackward {
    const NAME: &'static str = "nll_loss_backward";

    fn forward(&mut self, [grad]: [&Array; 1]) -> Result<Array> {
        let targets = self.targets.get(Self::NAME)?;
        let dtype = grad.dtype();
        let grad = grad
            .to_dtype(compute_dtype(dtype))?
            .broadcast_to(Self::NAME, &targets.loss_shape)?
            .contiguous()?;
        let mut out = Array::full(&targets.shape, 0.0, grad.dtype())?;
        let scale = scale(&targets, self.reduction);
        dispatch_float!(grad.dtype(), Self::NAME, T => {
            let (grad, out) = (grad.slice::<T>(), out.slice_mut::<T>());
            for (i, at, weight) in targets.places::<T>() {
                out[at] = grad[i] * weight * T::from_f64(scale);
            }
        });
        out.into_dtype(dtype)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let op = NllLoss { targets: self.targets.get(Self::NAME)?.held(), reduction: self.reduction };
        Ok([Some(apply(op, [grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        self.targets.visit_kept(visit);
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
        apply(NllLoss { targets: targets.held(), reduction: options.reduction }, [self])
    }
}
