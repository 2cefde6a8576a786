//! Optimizer steps: one call for all parameters of a group.

use crate::enter::enter;
use crate::flag;
use crate::tensor::Out;
use crate::tensor::{tensors_of, PyTensor};
use firesteel::kernels::optim::{AdamOptions, SgdOptions};
use firesteel::optim::{adam_step, sgd_step, AdamState};
use firesteel::Tensor;
use pyo3::prelude::*;
use pyo3::types::PyList;

fn optional(list: &Bound<'_, PyList>) -> PyResult<Vec<Option<Tensor>>> {
    list.iter()
        .map(|item| if item.is_none() { Ok(None) } else { Ok(Some(item.cast::<PyTensor>()?.get().tensor())) })
        .collect()
}

/// One step of stochastic gradient descent; returns the momentum buffers.
#[pyfunction]
fn _sgd_step<'py>(
    py: Python<'py>,
    params: &Bound<'py, PyAny>,
    grads: &Bound<'py, PyAny>,
    momentum_buffers: &Bound<'py, PyList>,
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    #[pyo3(from_py_with = flag::nesterov)] nesterov: bool,
    #[pyo3(from_py_with = flag::maximize)] maximize: bool,
) -> PyResult<Bound<'py, PyList>> {
    let (params, grads) = (tensors_of("step", params)?, tensors_of("step", grads)?);
    let given = optional(momentum_buffers)?;
    let options = SgdOptions { lr, momentum, dampening, weight_decay, nesterov, maximize };
    let numel = params.iter().map(Tensor::numel).sum();
    let kept = enter(py, numel, || sgd_step(&params, &grads, &given, &options))?;
    if momentum == 0.0 || given.iter().all(Option::is_some) {
        return Ok(momentum_buffers.clone());
    }
    PyList::new(py, kept.into_iter().map(|buffer| buffer.map(Out)).collect::<Vec<_>>())
}

/// One step of Adam or, with `decoupled`, AdamW; everything is updated in place.
#[pyfunction]
fn _adam_step(
    py: Python<'_>,
    params: &Bound<'_, PyAny>,
    grads: &Bound<'_, PyAny>,
    exp_avgs: &Bound<'_, PyAny>,
    exp_avg_sqs: &Bound<'_, PyAny>,
    max_exp_avg_sqs: &Bound<'_, PyAny>,
    steps: &Bound<'_, PyAny>,
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    #[pyo3(from_py_with = flag::amsgrad)] amsgrad: bool,
    #[pyo3(from_py_with = flag::maximize)] maximize: bool,
    #[pyo3(from_py_with = flag::decoupled)] decoupled: bool,
) -> PyResult<()> {
    let (params, grads) = (tensors_of("step", params)?, tensors_of("step", grads)?);
    let mut max = if amsgrad { tensors_of("step", max_exp_avg_sqs)? } else { Vec::new() }.into_iter();
    let averages = tensors_of("step", exp_avgs)?
        .into_iter()
        .zip(tensors_of("step", exp_avg_sqs)?)
        .zip(tensors_of("step", steps)?);
    let states: Vec<AdamState> = averages
        .map(|((exp_avg, exp_avg_sq), step)| AdamState {
            exp_avg,
            exp_avg_sq,
            max_exp_avg_sq: max.next(),
            step,
        })
        .collect();
    let options = AdamOptions {
        lr,
        betas: (beta1, beta2),
        eps,
        weight_decay,
        decoupled_weight_decay: decoupled,
        maximize,
    };
    let numel = params.iter().map(Tensor::numel).sum();
    enter(py, numel, || adam_step(&params, &grads, &states, &options))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_sgd_step, m)?)?;
    m.add_function(wrap_pyfunction!(_adam_step, m)?)
}
