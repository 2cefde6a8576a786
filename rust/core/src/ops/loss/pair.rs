//! Losses of two tensors, element by element: squared and absolute error, binary cross-entropy.

use super::Reduction;
use crate::array::Array;
use crate::autograd::{apply::apply, is_recording, Grads, Op, Saved, Saves};
use crate::dtype::Element;
use crate::kernels::pair::{Absolute, CrossEntropy, LogitsCrossEntropy, PairFloat, Rounded, Squared, Wanted};
use crate::layout::broadcast_shapes;
use crate::ops::promote::{compute_dtype, result_type};
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Result};

/// A formula of prediction and target.
#[derive(Debug, Clone, Copy)]
enum Formula {
    Squared(Squared),
    Absolute(Absolute),
    Rounded(Rounded, &'static str),
    CrossEntropy(CrossEntropy),
    LogitsCrossEntropy(LogitsCrossEntropy),
}

macro_rules! with_formula {
    ($formula:expr, $f:ident => $body:expr) => {
        match $formula {
            Formula::Squared($f) => $body,
            Formula::Absolute($f) => $body,
            Formula::Rounded($f, _) => $body,
            Formula::CrossEntropy($f) => $body,
            Formula::LogitsCrossEntropy($f) => $body,
        }
    };
}

impl Formula {
    fn name(self) -> &'static str {
        match self {
            Self::Squared(_) => "mse_loss",
            Self::Absolute(_) => "l1_loss",
            Self::Rounded(_, name) => name,
            Self::CrossEntropy(_) => "binary_cross_entropy",
            Self::LogitsCrossEntropy(_) => "binary_cross_entropy_with_logits",
        }
    }

    /// The derivative by the prediction, in operations that are recorded.
    fn by_input(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Squared(_) => (a - b) * 2.0,
            Self::Absolute(_) => (a - b).sign()?,
            Self::Rounded(Rounded { factor, reach, limit }, _) => {
                let d = a - b;
                // Not "inside": nan is neither, and must stay.
                let outside = d.detach().abs()?.ge_scalar(reach)?;
                let ends = d.detach().sign()? * limit;
                // Chosen, not multiplied by 0 and 1: `reach` or the error may be infinite.
                Tensor::where_self(&outside, &ends, &(d * factor))?
            }
            Self::CrossEntropy(_) => {
                let floor = a.scalar_beside(1e-12)?;
                let spread = (1.0 - a) * a;
                let slope = (a - b) / spread.maximum(&floor)?;
                // At 0 and 1 the slope is cut off, and the second derivative is that of a constant.
                let is_cut = spread.detach().lt_scalar(1e-12)?;
                Tensor::where_self(&is_cut, &slope.detach(), &slope)?
            }
            Self::LogitsCrossEntropy(_) => a.sigmoid()? - b,
        })
    }

    /// The derivative by the target, in operations that are recorded.
    fn by_target(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::CrossEntropy(_) => (-a).log1p()? - a.log()?,
            Self::LogitsCrossEntropy(_) => -a,
            _ => -self.by_input(a, b)?,
        })
    }
}

/// The losses of the elements of two tensors of one shape and dtype, reduced.
#[derive(Debug)]
struct PairLoss {
    formula: Formula,
    reduction: Reduction,
}

impl PairLoss {
    /// What each element's loss is multiplied by.
    fn scale(&self, numel: usize) -> f64 {
        if self.reduction == Reduction::Mean {
            1.0 / numel as f64
        } else {
            1.0
        }
    }

    fn run<T: PairFloat>(&self, a: &Array, b: &Array) -> Result<Array> {
        if self.reduction == Reduction::None {
            return self.each::<T>(Wanted::Value, 1.0, a, b);
        }
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let sum = with_formula!(self.formula, f => T::sum(f, a.slice(), b.slice()));
        Array::scalar(T::from_f64(sum * self.scale(a.numel())))
    }

    fn each<T: PairFloat>(&self, wanted: Wanted, scale: f64, a: &Array, b: &Array) -> Result<Array> {
        let out = if a.strides() == b.strides() {
            Array::empty_like(a.layout(), T::DTYPE)?
        } else {
            Array::empty(a.shape(), T::DTYPE)?
        };
        with_formula!(self.formula, f => T::each(f, wanted, scale, a, b, &out));
        Ok(out)
    }

    /// The derivative times the gradient of a reduced loss, in one pass.
    fn fused(&self, wanted: Wanted, a: &Array, b: &Array, grad: &Array) -> Result<Tensor> {
        let scale = grad.item_f64()? * self.scale(a.numel());
        let dtype = compute_dtype(a.dtype());
        let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
        let out = dispatch_float!(dtype, self.formula.name(), T => self.each::<T>(wanted, scale, &a, &b)?);
        Ok(Tensor::constant(out))
    }

    /// The derivative by one side times the gradient.
    fn side(&self, wanted: Wanted, a: &Tensor, b: &Tensor, grad: &Tensor) -> Result<Tensor> {
        if self.reduction != Reduction::None && !is_recording() {
            return self.fused(wanted, a.array(), b.array(), grad.array());
        }
        let slope = match wanted {
            Wanted::ByTarget => self.formula.by_target(a, b)?,
            _ => self.formula.by_input(a, b)?,
        };
        match self.reduction {
            Reduction::Mean => Ok(slope * (grad / a.numel() as f64)),
            _ => Ok(slope * grad),
        }
    }
}

impl Op<2> for PairLoss {
    const NAME: &'static str = "loss";

    fn called(&self) -> &'static str {
        self.formula.name()
    }

    fn grad_fn_name(&self) -> String {
        if matches!(self.formula, Formula::Absolute(_)) {
            // PyTorch has no operation of this name.
            let last = match self.reduction {
                Reduction::Mean => "Mean",
                Reduction::Sum => "Sum",
                Reduction::None => "Abs",
            };
            return format!("{last}Backward0");
        }
        let words = self.formula.name().split('_');
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        words.map(capital).collect::<String>() + "Backward0"
    }

    fn saves(&self, _needs: [bool; 2]) -> Saves<2> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [a, b]: [&Array; 2]) -> Result<Array> {
        let dtype = a.dtype();
        let compute = compute_dtype(dtype);
        let (a, b) = (a.to_dtype(compute)?, b.to_dtype(compute)?);
        let out = dispatch_float!(compute, self.formula.name(), T => self.run::<T>(&a, &b)?);
        out.into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let (a, b) = (saved.input(0)?, saved.input(1)?);
        let by_input = saved.needs(0).then(|| self.side(Wanted::ByInput, &a, &b, grad)).transpose()?;
        let by_target = saved.needs(1).then(|| self.side(Wanted::ByTarget, &a, &b, grad)).transpose()?;
        Ok([by_input, by_target])
    }
}

/// The loss of `a` and `b`, promoted and broadcast to each other, times `weight`, reduced.
fn loss(
    formula: Formula,
    a: &Tensor,
    b: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    let name = formula.name();
    let dtype = result_type(a.array(), b.array());
    check_float(name, dtype)?;
    let (mut a, mut b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
    if a.shape() != b.shape() {
        let shape = broadcast_shapes(name, a.shape(), b.shape())?;
        (a, b) = (a.expand(&shape)?, b.expand(&shape)?);
    }
    match weight {
        None => apply(PairLoss { formula, reduction }, [&a, &b]),
        Some(weight) => {
            let losses = apply(PairLoss { formula, reduction: Reduction::None }, [&a, &b])?;
            reduction.of(&losses.mul(weight)?)
        }
    }
}

fn check_float(name: &str, dtype: DType) -> Result<()> {
    ensure!(
        dtype.is_float(),
        DType,
        "{name}: \"{name}_cpu\" not implemented for '{}'; convert with .float()",
        dtype.scalar_name()
    );
    Ok(())
}

impl Tensor {
    /// Squared error `(self - target)^2`.
    pub fn mse_loss(&self, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
        loss(Formula::Squared(Squared), self, target, None, reduction)
    }

    /// Absolute error `|self - target|`.
    pub fn l1_loss(&self, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
        if !result_type(self.array(), target.array()).is_float() {
            return reduction.of(&self.sub(target)?.abs()?);
        }
        loss(Formula::Absolute(Absolute), self, target, None, reduction)
    }

    /// `d^2 / (2 beta)` for errors `d` below `beta`, `d - beta / 2` above.
    pub fn smooth_l1_loss(&self, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
        ensure!(
            beta >= 0.0,
            Value,
            "smooth_l1_loss: does not support negative values for beta, got {beta}; use at least 0"
        );
        if beta == 0.0 {
            return self.l1_loss(target, reduction);
        }
        let rounded = Rounded { factor: 1.0 / beta, reach: beta, limit: 1.0 };
        loss(Formula::Rounded(rounded, "smooth_l1_loss"), self, target, None, reduction)
    }

    /// `d^2 / 2` for errors `d` below `delta`, `delta (d - delta / 2)` above.
    pub fn huber_loss(&self, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
        ensure!(
            delta > 0.0,
            Value,
            "huber_loss: does not support non-positive values for delta, got {delta}; use more than 0"
        );
        let rounded = Rounded { factor: 1.0, reach: delta, limit: delta };
        loss(Formula::Rounded(rounded, "huber_loss"), self, target, None, reduction)
    }

    /// Cross-entropy of probabilities and targets from 0 to 1.
    pub fn binary_cross_entropy(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        reduction: Reduction,
    ) -> Result<Tensor> {
        ensure!(
            self.shape() == target.shape(),
            Shape,
            "binary_cross_entropy: Using a target size ({:?}) that is different to the input size ({:?}) is \
             deprecated. Please ensure they have the same size; reshape or expand one of them",
            target.shape(),
            self.shape()
        );
        ensure!(
            self.dtype() == target.dtype(),
            DType,
            "binary_cross_entropy: Found dtype {} but expected {}; convert the target",
            target.dtype().scalar_name(),
            self.dtype().scalar_name()
        );
        check_probabilities("input", self)?;
        check_probabilities("target", target)?;
        check_factor("binary_cross_entropy", "weight", weight, self.shape())?;
        loss(Formula::CrossEntropy(CrossEntropy), self, target, weight, reduction)
    }

    /// Cross-entropy of `sigmoid(self)` and targets from 0 to 1; `pos_weight` counts for the positive part.
    pub fn binary_cross_entropy_with_logits(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        pos_weight: Option<&Tensor>,
        reduction: Reduction,
    ) -> Result<Tensor> {
        ensure!(
            self.shape() == target.shape(),
            Shape,
            "binary_cross_entropy_with_logits: Target size ({:?}) must be the same as input size ({:?}); \
             reshape or expand one of them",
            target.shape(),
            self.shape()
        );
        let op = "binary_cross_entropy_with_logits";
        ensure!(
            target.dtype().is_float(),
            DType,
            "{op}: result type {} can't be cast to the target's type {}; convert the target with .float()",
            self.dtype().scalar_name(),
            target.dtype().scalar_name()
        );
        check_factor(op, "weight", weight, self.shape())?;
        check_factor(op, "pos_weight", pos_weight, self.shape())?;
        let formula = Formula::LogitsCrossEntropy(LogitsCrossEntropy);
        let Some(pos_weight) = pos_weight else { return loss(formula, self, target, weight, reduction) };
        check_float(op, self.dtype())?;
        // What the positive part is weighted by is -log(sigmoid(x)), the loss of target 1: 0 at infinity.
        let one = target.scalar_beside(1.0)?;
        let factor = pos_weight.sub(&one)?.mul(target)?.add(&one)?;
        let mut losses = one.sub(target)?.mul(self)?.sub(&factor.mul(&self.log_sigmoid()?)?)?;
        if let Some(weight) = weight {
            losses = losses.mul(weight)?;
        }
        reduction.of(&losses)
    }
}

/// Refuses a factor that would give the losses another shape.
fn check_factor(op: &str, role: &str, factor: Option<&Tensor>, shape: &[usize]) -> Result<()> {
    let Some(factor) = factor else { return Ok(()) };
    ensure!(
        factor.array().layout().broadcast_to(shape).is_some(),
        Shape,
        "{op}: {role} of shape {:?} does not broadcast to the input's shape {shape:?}; reshape it",
        factor.shape()
    );
    Ok(())
}

fn check_probabilities(role: &str, x: &Tensor) -> Result<()> {
    let op = "binary_cross_entropy";
    let array = x.array().to_dtype(compute_dtype(x.dtype()))?.into_contiguous()?;
    if !array.dtype().is_float() {
        return Ok(()); // refused by its dtype later
    }
    let found = dispatch_float!(array.dtype(), op, T => {
        let is_good = |x: &T| (0.0..=1.0).contains(x);
        // The question alone is a vector loop.
        let all = array.slice::<T>().iter().fold(true, |all, x| all & is_good(x));
        if all { None } else { array.slice::<T>().iter().find(|x| !is_good(x)).map(|x| x.to_f64()) }
    });
    match found {
        Some(value) => crate::bail!(
            Value,
            "{op}: all elements of {role} should be between 0 and 1, found {value}; pass probabilities, or use \
             binary_cross_entropy_with_logits"
        ),
        None => Ok(()),
    }
}
