//! Cross-entropy of logits: one fused operation for class indices, a composition for probabilities.

use super::class::{class_dim, class_weight, ClassLoss, HeldTargets, Targets};
use super::Reduction;
use crate::array::Array;
use crate::autograd::{apply::apply, is_recording, Grads, Kept, Op, Saved, Saves};
use crate::dtype::Element;
use crate::kernels::loss;
use crate::kernels::rows::{total, Float};
use crate::layout::{Dims, Layout};
use crate::ops::promote::compute_dtype;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Result};

/// Cross-entropy of logits and class indices; the classes are the last dim.
#[derive(Debug)]
struct CrossEntropy {
    targets: HeldTargets,
    reduction: Reduction,
    label_smoothing: f64,
    /// Largest logit of each row, and what `kernels::loss` calls its log-sum.
    maxima: Kept,
    log_sums: Kept,
}

impl CrossEntropy {
    fn kernel<'a, T: Element>(&self, targets: &'a Targets, logits: &'a Array) -> loss::CrossEntropy<'a, T> {
        loss::CrossEntropy {
            logits: logits.slice(),
            targets: targets.classes_of.slice(),
            classes: targets.classes,
            weight: targets.weight.as_ref().map(|weight| weight.slice()),
            ignore_index: targets.ignore_index,
            label_smoothing: self.label_smoothing,
        }
    }

    fn run<T: Float>(&mut self, x: &Array) -> Result<Array> {
        let targets = self.targets.get(Self::NAME)?;
        let empty = || Array::empty(&[targets.classes_of.numel()], T::DTYPE);
        let (mut losses, mut row_weights, mut maxima, mut log_sums) =
            (empty()?, empty()?, empty()?, empty()?);
        self.kernel::<T>(&targets, x).forward(loss::CrossEntropyRows {
            losses: losses.slice_mut(),
            row_weights: row_weights.slice_mut(),
            maxima: maxima.slice_mut(),
            log_sums: log_sums.slice_mut(),
        });
        self.maxima.set(maxima);
        self.log_sums.set(log_sums);
        let sum = |x: &Array| total(x.slice::<T>().iter().map(|x| x.to_f64()));
        match self.reduction {
            Reduction::None => Ok(losses.with_layout(Layout::contiguous(&targets.loss_shape))),
            Reduction::Sum => Array::scalar(T::from_f64(sum(&losses))),
            Reduction::Mean => match sum(&row_weights) {
                0.0 => Array::scalar(T::from_f64(f64::NAN)), // also where smoothing leaves a loss
                total => Array::scalar(T::from_f64(sum(&losses) / total)),
            },
        }
    }

    /// What the losses are multiplied by.
    fn scale(&self, targets: &Targets) -> f64 {
        if self.reduction == Reduction::Mean {
            1.0 / targets.total_weight()
        } else {
            1.0
        }
    }

    fn fused_grad<T: Float>(&self, x: &Array, grad: &Array) -> Result<Array> {
        let targets = self.targets.get(Self::NAME)?;
        let scale = self.scale(&targets);
        let grad = grad.to_dtype(T::DTYPE)?.broadcast_to(Self::NAME, &targets.loss_shape)?.contiguous()?;
        let mut grads = Array::empty(grad.shape(), T::DTYPE)?;
        for (out, grad) in grads.slice_mut::<T>().iter_mut().zip(grad.slice::<T>()) {
            *out = T::from_f64(grad.to_f64() * scale);
        }
        let (maxima, log_sums) = (self.maxima.get(Self::NAME)?, self.log_sums.get(Self::NAME)?);
        let mut out = Array::empty(x.shape(), T::DTYPE)?;
        let kernel = self.kernel::<T>(&targets, x);
        kernel.backward(maxima.slice(), log_sums.slice(), grads.slice(), out.slice_mut());
        Ok(out)
    }

    /// The gradient in operations that are recorded: `(softmax(x) sum(q) - q) grad`, where `q` is what
    /// each log-probability counts for.
    fn recorded_grad(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let q = self.shares(x)?;
        let mut grad = grad.clone();
        if self.reduction == Reduction::None {
            grad = grad.unsqueeze(-1)?;
        }
        Ok((x.softmax(-1)? * q.sum(&[-1], true)? - q) * grad)
    }

    /// What each log-probability counts for: smoothed one-hot targets times weights, over the divisor.
    fn shares(&self, x: &Tensor) -> Result<Tensor> {
        let targets = self.targets.get(Self::NAME)?;
        let classes = targets.classes;
        let weight = match &targets.weight {
            Some(weight) => weight.to_dtype(DType::F64)?,
            None => Array::full(&[classes], 1.0, DType::F64)?,
        };
        let weight = weight.slice::<f64>();
        let scale = self.scale(&targets);
        let spread = self.label_smoothing / classes as f64;
        let mut shares = Array::full(x.shape(), 0.0, DType::F64)?;
        let rows = shares.slice_mut::<f64>().chunks_exact_mut(classes.max(1));
        for (row, &class) in rows.zip(targets.classes_of.slice::<i64>()) {
            if class != targets.ignore_index {
                row.iter_mut().zip(weight).for_each(|(share, weight)| *share = spread * weight * scale);
                row[class as usize] += (1.0 - self.label_smoothing) * weight[class as usize] * scale;
            }
        }
        Ok(Tensor::constant(shares.to_dtype(x.dtype())?))
    }
}

impl Op<1> for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn grad_fn_name(&self) -> String {
        if self.label_smoothing == 0.0 { "NllLossBackward0" } else { "AddBackward0" }.into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let dtype = x.dtype();
        let x = x.to_dtype(compute_dtype(dtype))?.into_contiguous()?;
        let out = dispatch_float!(x.dtype(), Self::NAME, T => self.run::<T>(&x)?);
        out.into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let x = saved.input(0)?;
        if is_recording() {
            return Ok([Some(self.recorded_grad(&x, grad)?)]);
        }
        let x = x.array().to_dtype(compute_dtype(x.dtype()))?.into_contiguous()?;
        let out = dispatch_float!(x.dtype(), Self::NAME, T => self.fused_grad::<T>(&x, grad.array())?);
        Ok([Some(Tensor::constant(out))])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        self.targets.visit_kept(visit);
        visit(&self.maxima);
        visit(&self.log_sums);
    }
}

impl Tensor {
    /// Cross-entropy of logits `(C)`, `(N, C)` or `(N, C, d1, ...)` and class indices, or probabilities
    /// of the logits' shape.
    pub fn cross_entropy(&self, target: &Tensor, options: &ClassLoss) -> Result<Tensor> {
        let smoothing = options.label_smoothing;
        ensure!(
            (0.0..=1.0).contains(&smoothing),
            Value,
            "cross_entropy: label_smoothing must be between 0.0 and 1.0. Got: {smoothing}; use a share"
        );
        ensure!(
            self.dtype().is_float(),
            DType,
            "cross_entropy: \"log_softmax_lastdim_kernel_impl\" not implemented for '{}'; convert with .float()",
            self.dtype().scalar_name()
        );
        if target.shape() == self.shape() && (target.dtype().is_float() || self.rank() == 0) {
            return self.cross_entropy_of_probabilities(target, options);
        }
        let targets = Targets::new("cross_entropy", self, target, options)?;
        let order: Vec<isize> = match self.rank() {
            0..=2 => Vec::new(),
            rank => std::iter::once(0).chain(2..rank as isize).chain([1]).collect(),
        };
        let x = if order.is_empty() { self.clone() } else { self.permute(&order)? };
        let op = CrossEntropy {
            targets: targets.held(),
            reduction: options.reduction,
            label_smoothing: smoothing,
            maxima: Kept::default(),
            log_sums: Kept::default(),
        };
        apply(op, [&x])
    }

    fn cross_entropy_of_probabilities(&self, target: &Tensor, options: &ClassLoss) -> Result<Tensor> {
        ensure!(
            target.dtype().is_float(),
            DType,
            "cross_entropy: expected floating point type for target with class probabilities, got {}; \
             convert it with .float(), or give class indices",
            target.dtype().scalar_name()
        );
        ensure!(
            options.ignore_index < 0,
            Value,
            "cross_entropy: ignore_index is not supported for floating point target, got {}; leave it out",
            options.ignore_index
        );
        let dim = class_dim("cross_entropy", self)?;
        let classes = self.shape()[dim];
        let mut target = target.clone();
        if options.label_smoothing > 0.0 {
            let given = target.mul(&target.scalar_beside(1.0 - options.label_smoothing)?)?;
            target = given.add(&target.scalar_beside(options.label_smoothing / classes as f64)?)?;
        }
        let mut terms = self.log_softmax(dim as isize)?.mul(&target)?;
        if let Some(weight) = class_weight("cross_entropy", options.weight.as_ref(), classes, self.dtype())? {
            let mut shape = Dims::from_elem(1, self.rank());
            shape[dim] = classes;
            terms = terms.mul(&Tensor::constant(weight.to_dtype(self.dtype())?).reshape(&shape)?)?;
        }
        match options.reduction {
            Reduction::None => terms.sum(&[dim as isize], false)?.neg(),
            Reduction::Sum => terms.sum(&[], false)?.neg(),
            Reduction::Mean => {
                let sum = terms.sum(&[], false)?.neg()?;
                sum.div(&sum.scalar_beside(self.numel() as f64 / classes as f64)?)
            }
        }
    }
}
