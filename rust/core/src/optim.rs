//! Optimizer steps over lists of tensors: one call updates every parameter.

use crate::array::Array;
use crate::autograd::anomaly::{check_interrupt, count_write};
use crate::autograd::inplace::is_left_inference;
use crate::kernels::optim::{adam_arrays, sgd_arrays, AdamOptions, SgdOptions};
use crate::layout::Dims;
use crate::ops::promote::compute_dtype;
use crate::tensor::Tensor;
use crate::{bail, ensure, Result};
use smallvec::{smallvec, SmallVec};
use std::borrow::Cow;
use std::cmp::Reverse;

/// The dims of a parameter from the outermost in memory to the innermost, if it is dense but not row-major, as
/// images' weights with channels last are: its arrays are worked on in that order, without copies.
struct Order(Option<Dims>);

impl Order {
    fn of(param: &Tensor) -> Self {
        let layout = param.array().layout();
        if layout.is_contiguous() || !layout.is_dense() {
            return Self(None);
        }
        let mut dims: Dims = (0..layout.rank()).collect();
        dims.sort_by_key(|&dim| Reverse(layout.strides()[dim]));
        Self(Some(dims))
    }

    fn view<'a>(&self, array: &'a Array) -> Cow<'a, Array> {
        match &self.0 {
            Some(dims) => Cow::Owned(array.with_layout(array.layout().permute(dims))),
            None => Cow::Borrowed(array),
        }
    }
}

/// An array in the dtype and order that the kernels take; written back where that is a copy.
struct Working<'a> {
    original: Cow<'a, Array>,
    copy: Option<Array>,
}

impl<'a> Working<'a> {
    fn new(original: &'a Array, order: &Order) -> Result<Self> {
        let original = order.view(original);
        let dtype = compute_dtype(original.dtype());
        let is_ready = original.dtype() == dtype && original.is_contiguous();
        let copy = if is_ready { None } else { Some(original.to_dtype(dtype)?.into_contiguous()?) };
        Ok(Self { original, copy })
    }

    fn array(&self) -> &Array {
        self.copy.as_ref().unwrap_or(&self.original)
    }

    fn finish(self) -> Result<()> {
        if let Some(copy) = &self.copy {
            self.original.copy_from(copy)?;
        }
        count_write(&self.original, "optimizer.step");
        Ok(())
    }
}

/// Checks that `other` looks like the parameter.
fn check_looks(op: &str, i: usize, param: &Tensor, other: &Tensor, role: &str) -> Result<()> {
    ensure!(
        param.dtype().is_float() && other.dtype() == param.dtype() && other.shape() == param.shape(),
        Shape,
        "{op}: parameter {i} has shape {:?} ({}), its {role} has shape {:?} ({}); they must be equal and floating \
         point",
        param.shape(),
        param.dtype(),
        other.shape(),
        other.dtype()
    );
    Ok(())
}

/// Checks that the tensors of one parameter that a step writes have elements of their own.
fn check_written(op: &str, i: usize, written: &[(&str, &Tensor)]) -> Result<()> {
    for (k, (role, tensor)) in written.iter().enumerate() {
        let array = tensor.array();
        ensure!(
            !is_left_inference(tensor),
            Autograd,
            "{op}: Inplace update to inference tensor outside InferenceMode is not allowed: the {role} of parameter \
             {i} (shape {:?}) was made in that mode; clone() it, or step under `with inference_mode():`",
            tensor.shape()
        );
        ensure!(
            array.storage().is_writable() && !array.layout().has_overlap(),
            Value,
            "{op}: the {role} of parameter {i} (shape {:?}) has memory that cannot be written element by element; \
             clone() it first",
            tensor.shape()
        );
        if let Some((other, _)) = written[..k].iter().find(|(_, x)| x.array().shares_memory_with(array)) {
            bail!(
                Value,
                "{op}: the {role} of parameter {i} shares memory with its {other}; clone() one of them"
            );
        }
    }
    Ok(())
}

/// The gradient for the kernels: a copy where it lies in the memory of what is written.
fn working_grad<'a>(grad: &'a Tensor, order: &Order, written: &[&Array]) -> Result<Working<'a>> {
    let mut working = Working::new(grad.array(), order)?;
    if written.iter().any(|x| x.shares_memory_with(working.array())) {
        working.copy = Some(working.array().copied()?);
    }
    Ok(working)
}

/// One step of stochastic gradient descent for every parameter. Returns the momentum buffers: the given
/// ones, and for those that are missing a copy of the gradient.
pub fn sgd_step(
    params: &[Tensor],
    grads: &[Tensor],
    buffers: &[Option<Tensor>],
    options: &SgdOptions,
) -> Result<Vec<Option<Tensor>>> {
    ensure!(
        params.len() == grads.len() && params.len() == buffers.len(),
        Value,
        "sgd_step: {} parameters, {} gradients, {} buffers do not go together; give lists of one length",
        params.len(),
        grads.len(),
        buffers.len()
    );
    for (i, param) in params.iter().enumerate() {
        let mut written: SmallVec<[(&str, &Tensor); 4]> = smallvec![("memory", param)];
        check_looks("sgd_step", i, param, &grads[i], "gradient")?;
        if let Some(buffer) = &buffers[i] {
            check_looks("sgd_step", i, param, buffer, "momentum buffer")?;
            written.push(("momentum buffer", buffer));
        }
        check_written("sgd_step", i, &written)?;
    }
    let mut kept = Vec::with_capacity(params.len());
    for i in 0..params.len() {
        let order = Order::of(&params[i]);
        let param = Working::new(params[i].array(), &order)?;
        let buffer = buffers[i].as_ref().map_or(param.array(), Tensor::array);
        let grad = working_grad(&grads[i], &order, &[param.array(), buffer])?;
        if options.momentum == 0.0 {
            sgd_arrays(param.array(), grad.array(), None, false, options);
            kept.push(None);
        } else {
            let first = buffers[i].is_none();
            let buffer = match &buffers[i] {
                Some(buffer) => buffer.clone(),
                None => params[i].empty_like(params[i].dtype())?,
            };
            let working = Working::new(buffer.array(), &order)?;
            sgd_arrays(param.array(), grad.array(), Some(working.array()), first, options);
            working.finish()?;
            kept.push(Some(buffer));
        }
        param.finish()?;
    }
    check_interrupt()?;
    Ok(kept)
}

/// What Adam keeps of one parameter.
#[derive(Debug)]
pub struct AdamState {
    /// Average of the gradient.
    pub exp_avg: Tensor,
    /// Average of its square.
    pub exp_avg_sq: Tensor,
    /// Largest such average so far, for AMSGrad.
    pub max_exp_avg_sq: Option<Tensor>,
    /// Number of steps so far: 0-d float32.
    pub step: Tensor,
}

/// One step of Adam or AdamW for every parameter; counts each `step` up.
pub fn adam_step(
    params: &[Tensor],
    grads: &[Tensor],
    states: &[AdamState],
    options: &AdamOptions,
) -> Result<()> {
    ensure!(
        params.len() == grads.len() && params.len() == states.len(),
        Value,
        "adam_step: {} parameters, {} gradients, {} states do not go together; give lists of one length",
        params.len(),
        grads.len(),
        states.len()
    );
    for (i, param) in params.iter().enumerate() {
        let state = &states[i];
        let max = state.max_exp_avg_sq.as_ref().map(|max| ("max_exp_avg_sq", max));
        let written = [("memory", param), ("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)];
        let written: SmallVec<[(&str, &Tensor); 4]> = written.into_iter().chain(max).collect();
        check_looks("adam_step", i, param, &grads[i], "gradient")?;
        for (role, tensor) in &written[1..] {
            check_looks("adam_step", i, param, tensor, role)?;
        }
        check_written("adam_step", i, &written)?;
        ensure!(
            state.step.numel() == 1 && state.step.dtype().is_float() && state.step.array().storage().is_writable(),
            Value,
            "adam_step: the step of parameter {i} has shape {:?} ({}); it must be one float that can be written",
            state.step.shape(),
            state.step.dtype()
        );
    }
    for ((param, grad), state) in params.iter().zip(grads).zip(states) {
        let step = state.step.array().item_f64()? + 1.0;
        let counted = Array::scalar(step as f32)?;
        let order = Order::of(param);
        let param = Working::new(param.array(), &order)?;
        let max = state.max_exp_avg_sq.as_ref().map_or(param.array(), Tensor::array);
        let averages = [state.exp_avg.array(), state.exp_avg_sq.array(), max];
        let grad = working_grad(grad, &order, &[param.array(), averages[0], averages[1], averages[2]])?;
        let exp_avg = Working::new(state.exp_avg.array(), &order)?;
        let exp_avg_sq = Working::new(state.exp_avg_sq.array(), &order)?;
        let max = state.max_exp_avg_sq.as_ref().map(|max| Working::new(max.array(), &order)).transpose()?;
        let max_array = max.as_ref().map(Working::array);
        // From here on no memory is asked for: the step counts only if it is made.
        state.step.array().copy_from(&counted)?;
        adam_arrays(
            param.array(),
            grad.array(),
            exp_avg.array(),
            exp_avg_sq.array(),
            max_array,
            step,
            options,
        );
        for working in [Some(param), Some(exp_avg), Some(exp_avg_sq), max].into_iter().flatten() {
            working.finish()?;
        }
    }
    check_interrupt()
}
