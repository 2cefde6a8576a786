//! Optimizer steps over lists of tensors: one call updates every parameter.

use crate::array::Array;
use crate::kernels::optim::{adam_arrays, sgd_arrays, AdamOptions, SgdOptions};
use crate::ops::promote::compute_dtype;
use crate::tensor::Tensor;
use crate::{ensure, Result};

/// An array in the dtype and order that the kernels take; written back where that is a copy.
struct Working<'a> {
    original: &'a Array,
    array: Array,
}

impl<'a> Working<'a> {
    fn new(original: &'a Array) -> Result<Self> {
        Ok(Self { original, array: original.to_dtype(compute_dtype(original.dtype()))?.contiguous()? })
    }

    fn finish(self) -> Result<()> {
        if !self.array.is_same_view(self.original) {
            self.original.copy_from(&self.array)?;
        }
        self.original.storage().bump_version();
        Ok(())
    }
}

fn check(op: &str, i: usize, param: &Tensor, other: &Tensor, role: &str) -> Result<()> {
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
    ensure!(
        param.array().storage().is_writable() && !param.array().layout().has_overlap(),
        Value,
        "{op}: parameter {i} (shape {:?}) has memory that cannot be written element by element; clone() it first",
        param.shape()
    );
    Ok(())
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
        "sgd_step: {} parameters, {} gradients, {} buffers: the lists must have one length",
        params.len(),
        grads.len(),
        buffers.len()
    );
    for (i, param) in params.iter().enumerate() {
        check("sgd_step", i, param, &grads[i], "gradient")?;
        if let Some(buffer) = &buffers[i] {
            check("sgd_step", i, param, buffer, "momentum buffer")?;
        }
    }
    let mut kept = Vec::with_capacity(params.len());
    for i in 0..params.len() {
        let param = Working::new(params[i].array())?;
        let grad = Working::new(grads[i].array())?;
        if options.momentum == 0.0 {
            sgd_arrays(&param.array, &grad.array, None, false, options);
            kept.push(None);
        } else {
            let first = buffers[i].is_none();
            let buffer = match &buffers[i] {
                Some(buffer) => buffer.clone(),
                None => Tensor::empty(params[i].shape(), params[i].dtype())?,
            };
            let working = Working::new(buffer.array())?;
            sgd_arrays(&param.array, &grad.array, Some(&working.array), first, options);
            working.finish()?;
            kept.push(Some(buffer));
        }
        param.finish()?;
    }
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
        "adam_step: {} parameters, {} gradients, {} states: the lists must have one length",
        params.len(),
        grads.len(),
        states.len()
    );
    for (i, param) in params.iter().enumerate() {
        check("adam_step", i, param, &grads[i], "gradient")?;
        check("adam_step", i, param, &states[i].exp_avg, "exp_avg")?;
        check("adam_step", i, param, &states[i].exp_avg_sq, "exp_avg_sq")?;
        if let Some(max) = &states[i].max_exp_avg_sq {
            check("adam_step", i, param, max, "max_exp_avg_sq")?;
        }
    }
    for ((param, grad), state) in params.iter().zip(grads).zip(states) {
        let step = state.step.array().item_f64()? + 1.0;
        state.step.array().copy_from(&Array::scalar(step as f32)?)?;
        let param = Working::new(param.array())?;
        let grad = Working::new(grad.array())?;
        let exp_avg = Working::new(state.exp_avg.array())?;
        let exp_avg_sq = Working::new(state.exp_avg_sq.array())?;
        let max = state.max_exp_avg_sq.as_ref().map(|max| Working::new(max.array())).transpose()?;
        let max_array = max.as_ref().map(|max| &max.array);
        adam_arrays(&param.array, &grad.array, &exp_avg.array, &exp_avg_sq.array, max_array, step, options);
        for working in [Some(param), Some(exp_avg), Some(exp_avg_sq), max].into_iter().flatten() {
            working.finish()?;
        }
    }
    Ok(())
}
