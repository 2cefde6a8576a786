//! Normalisation.

use super::{maybe, Maybe};
use crate::convert::{dim_of, float_of, ints_of, shape_of};
use crate::enter::enter;
use crate::flag;
use crate::tensor::Out;
use crate::tensor::PyTensor;
use firesteel::ops::norm::BatchNormOptions;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-05) -> Tensor: the last dims shifted and scaled
/// to mean 0 and variance 1, times weight, plus bias.
#[pyfunction]
#[pyo3(signature = (input, normalized_shape, weight=None, bias=None, eps=1e-5))]
fn layer_norm(
    input: &Bound<'_, PyTensor>,
    normalized_shape: &Bound<'_, PyAny>,
    weight: Maybe<'_, '_>,
    bias: Maybe<'_, '_>,
    #[pyo3(from_py_with = float_of)] eps: f64,
) -> PyResult<Out> {
    let shape = shape_of("layer_norm", &ints_of(normalized_shape)?)?;
    let (x, weight, bias) = (&input.get().tensor(), maybe(weight), maybe(bias));
    let (weight, bias) = (weight.as_ref(), bias.as_ref());
    enter(input.py(), x.numel(), || x.layer_norm(&shape, weight, bias, eps)).map(Out)
}

/// rms_norm(input, normalized_shape, weight=None, eps=None) -> Tensor: the last dims over their root mean square,
/// times weight.
#[pyfunction]
#[pyo3(signature = (input, normalized_shape, weight=None, eps=None))]
fn rms_norm(
    input: &Bound<'_, PyTensor>,
    normalized_shape: &Bound<'_, PyAny>,
    weight: Maybe<'_, '_>,
    eps: Option<f64>,
) -> PyResult<Out> {
    let shape = shape_of("rms_norm", &ints_of(normalized_shape)?)?;
    let (x, weight) = (&input.get().tensor(), maybe(weight));
    let weight = weight.as_ref();
    enter(input.py(), x.numel(), || x.rms_norm(&shape, weight, eps)).map(Out)
}

/// group_norm(input, num_groups, weight=None, bias=None, eps=1e-05) -> Tensor: groups of channels of each sample
/// shifted and scaled to mean 0 and variance 1, times weight, plus bias.
#[pyfunction]
#[pyo3(signature = (input, num_groups, weight=None, bias=None, eps=1e-5))]
fn group_norm(
    input: &Bound<'_, PyTensor>,
    #[pyo3(from_py_with = dim_of)] num_groups: isize,
    weight: Maybe<'_, '_>,
    bias: Maybe<'_, '_>,
    #[pyo3(from_py_with = float_of)] eps: f64,
) -> PyResult<Out> {
    let groups = usize::try_from(num_groups).map_err(|_| {
        PyRuntimeError::new_err(format!(
            "group_norm: Expected num groups to be greater than 0, got {num_groups}; use at least 1"
        ))
    })?;
    let (x, weight, bias) = (&input.get().tensor(), maybe(weight), maybe(bias));
    let (weight, bias) = (weight.as_ref(), bias.as_ref());
    enter(input.py(), x.numel(), || x.group_norm(groups, weight, bias, eps)).map(Out)
}

/// batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05) ->
/// Tensor: each channel shifted and scaled, by the batch's statistics if training (the running ones then follow),
/// else by the running ones.
#[pyfunction]
#[pyo3(signature = (input, running_mean, running_var, weight=None, bias=None, training=false, momentum=0.1, eps=1e-5))]
#[allow(clippy::too_many_arguments)]
fn batch_norm(
    input: &Bound<'_, PyTensor>,
    running_mean: Maybe<'_, '_>,
    running_var: Maybe<'_, '_>,
    weight: Maybe<'_, '_>,
    bias: Maybe<'_, '_>,
    #[pyo3(from_py_with = flag::training)] training: bool,
    #[pyo3(from_py_with = float_of)] momentum: f64,
    #[pyo3(from_py_with = float_of)] eps: f64,
) -> PyResult<Out> {
    let is_good = if training { eps > 0.0 } else { eps >= 0.0 };
    if !is_good {
        return Err(PyValueError::new_err(format!(
            "batch_norm: eps must be {} with training={training}, but got {eps}; use a small number such as 1e-5",
            if training { "positive" } else { "non-negative" }
        )));
    }
    if training && running_mean.is_some() != running_var.is_some() {
        return Err(PyValueError::new_err(
            "batch_norm: running_mean and running_var must either both be None or neither be None; give the other one",
        ));
    }
    let options = BatchNormOptions { training, momentum, eps };
    let (x, running) = (&input.get().tensor(), [maybe(running_mean), maybe(running_var)]);
    let running = running.each_ref().map(Option::as_ref);
    let (weight, bias) = (maybe(weight), maybe(bias));
    let (weight, bias) = (weight.as_ref(), bias.as_ref());
    enter(input.py(), x.numel(), || x.batch_norm(running, weight, bias, options)).map(Out)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(layer_norm, m)?)?;
    m.add_function(wrap_pyfunction!(rms_norm, m)?)?;
    m.add_function(wrap_pyfunction!(group_norm, m)?)?;
    m.add_function(wrap_pyfunction!(batch_norm, m)?)
}
