//! Optimizer steps: one call for all parameters of a group.

use crate::enter::enter;
use crate::flag;
use crate::tensor::{Out, PyTensor};
use firesteel::kernels::optim::{AdamOptions, SgdOptions};
use firesteel::optim::{adam_step, sgd_step, AdamState};
use firesteel::Tensor;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The parameters that have a gradient: their objects, themselves and the gradients.
#[derive(Default)]
struct Trained<'py> {
    objects: Vec<Bound<'py, PyAny>>,
    tensors: Vec<Tensor>,
    grads: Vec<Tensor>,
}

/// Those of `params`. They are asked here and not in Python, where that took half of a small step.
fn trained<'py>(params: &Bound<'py, PyAny>) -> PyResult<Trained<'py>> {
    let mut found = Trained::default();
    for object in params.try_iter()? {
        let object = object?;
        let tensor = object.cast::<PyTensor>()?.get().tensor();
        if let Some(grad) = tensor.grad() {
            found.objects.push(object);
            found.tensors.push(tensor);
            found.grads.push(grad);
        }
    }
    Ok(found)
}

/// Entry `key` of a parameter's state.
fn entry(state: &Bound<'_, PyAny>, key: &Bound<'_, PyString>) -> PyResult<Tensor> {
    Ok(state.get_item(key)?.cast::<PyTensor>()?.get().tensor())
}

/// One step of stochastic gradient descent for those of `params` that have a gradient. With momentum, `states` holds
/// a dict for each parameter, where its buffer is kept.
#[pyfunction]
fn _sgd_step(
    py: Python<'_>,
    params: &Bound<'_, PyAny>,
    states: &Bound<'_, PyAny>,
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    #[pyo3(from_py_with = flag::nesterov)] nesterov: bool,
    #[pyo3(from_py_with = flag::maximize)] maximize: bool,
) -> PyResult<()> {
    let Trained { objects, tensors, grads } = trained(params)?;
    let options = SgdOptions { lr, momentum, dampening, weight_decay, nesterov, maximize };
    let numel = tensors.iter().map(Tensor::numel).sum();
    if momentum == 0.0 {
        let none = vec![None; tensors.len()];
        return enter(py, numel, || sgd_step(&tensors, &grads, &none, &options)).map(drop);
    }
    let key = intern!(py, "momentum_buffer");
    let states = objects.iter().map(|object| states.get_item(object)).collect::<PyResult<Vec<_>>>()?;
    let buffer = |state: &Bound<'_, PyAny>| {
        let buffer = state.call_method1(intern!(py, "get"), (key,))?;
        Ok(if buffer.is_none() { None } else { Some(buffer.cast::<PyTensor>()?.get().tensor()) })
    };
    let buffers = states.iter().map(buffer).collect::<PyResult<Vec<_>>>()?;
    let kept = enter(py, numel, || sgd_step(&tensors, &grads, &buffers, &options))?;
    for ((state, before), buffer) in states.iter().zip(&buffers).zip(kept) {
        if before.is_none() {
            state.set_item(key, buffer.map(Out))?;
        }
    }
    Ok(())
}

/// One step of Adam or, with `decoupled`, AdamW for those of `params` that have a gradient. `states` holds a dict for
/// each parameter, which `start(parameter, amsgrad)` fills before its first step; everything is updated in place.
#[pyfunction]
fn _adam_step(
    py: Python<'_>,
    params: &Bound<'_, PyAny>,
    states: &Bound<'_, PyAny>,
    start: &Bound<'_, PyAny>,
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    #[pyo3(from_py_with = flag::amsgrad)] amsgrad: bool,
    #[pyo3(from_py_with = flag::maximize)] maximize: bool,
    #[pyo3(from_py_with = flag::decoupled)] decoupled: bool,
) -> PyResult<()> {
    let Trained { objects, tensors, grads } = trained(params)?;
    let state_of = |object: &Bound<'_, PyAny>| {
        let mut state = states.get_item(object)?;
        if !state.is_truthy()? {
            state = start.call1((object, amsgrad))?;
        }
        Ok(AdamState {
            exp_avg: entry(&state, intern!(py, "exp_avg"))?,
            exp_avg_sq: entry(&state, intern!(py, "exp_avg_sq"))?,
            max_exp_avg_sq: if amsgrad { Some(entry(&state, intern!(py, "max_exp_avg_sq"))?) } else { None },
            step: entry(&state, intern!(py, "step"))?,
        })
    };
    let states = objects.iter().map(state_of).collect::<PyResult<Vec<_>>>()?;
    let options = AdamOptions {
        lr,
        betas: (beta1, beta2),
        eps,
        weight_decay,
        decoupled_weight_decay: decoupled,
        maximize,
    };
    let numel = tensors.iter().map(Tensor::numel).sum();
    enter(py, numel, || adam_step(&tensors, &grads, &states, &options))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_sgd_step, m)?)?;
    m.add_function(wrap_pyfunction!(_adam_step, m)?)
}
