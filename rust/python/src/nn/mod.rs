//! Functions of `nn.functional` that the core computes, with its signatures.

mod attention;
mod conv;
mod loss;
mod norm;
mod pool;
mod recurrent;
mod softmax;

use crate::convert::ints_of;
use crate::error::IntoPy;
use crate::tensor::{Out, PyTensor};
use firesteel::autograd::Ties;
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyUserWarning};
use pyo3::prelude::*;
use std::ffi::CString;

/// An optional tensor argument.
pub(crate) type Maybe<'a, 'py> = Option<&'a Bound<'py, PyTensor>>;

/// The core's tensor of an optional argument.
fn maybe(tensor: Maybe<'_, '_>) -> Option<Tensor> {
    tensor.map(|tensor| tensor.get().tensor())
}

/// One number for all dims, or a number for each, none negative.
fn sizes_of<const N: usize>(op: &str, role: &str, value: &Bound<'_, PyAny>) -> PyResult<[usize; N]> {
    let ints = ints_of(value)?;
    let sizes = match ints[..] {
        [all] => [all; N],
        _ => <[isize; N]>::try_from(&ints[..]).map_err(|_| {
            let dims = if N == 2 { "two" } else { "three" };
            PyRuntimeError::new_err(format!(
                "{op}: {role} should be a single int or a tuple of {dims} ints, got {} values; give one or {dims}",
                ints.len()
            ))
        })?,
    };
    if sizes.iter().any(|&n| n < 0) {
        return Err(PyRuntimeError::new_err(format!(
            "{op}: negative {role} is not supported, got {sizes:?}; use at least 0"
        )));
    }
    Ok(sizes.map(|n| n as usize))
}

/// The same for two dims.
fn pair_of(op: &str, role: &str, value: &Bound<'_, PyAny>) -> PyResult<[usize; 2]> {
    sizes_of(op, role, value)
}

/// The same for a single dim: its number is the second one of the pair.
fn single_of(op: &str, role: &str, value: &Bound<'_, PyAny>) -> PyResult<[usize; 2]> {
    let ints = ints_of(value)?;
    match ints[..] {
        [n] if n >= 0 => Ok([n as usize; 2]),
        _ => Err(PyRuntimeError::new_err(format!(
            "{op}: {role} should be a single int that is not negative, got {:?}; use at least 0",
            ints.as_slice()
        ))),
    }
}

/// A `UserWarning` at the caller's line: the innermost Python frame, for a function of ours has none.
pub fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    let text = CString::new(text).unwrap_or_default();
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)
}

/// The tensor itself for a formula that is one operation in PyTorch, whose recorded gradient is a function of it.
#[pyfunction]
fn _tied(py: Python<'_>, x: &Bound<'_, PyTensor>) -> PyResult<Out> {
    x.get().tensor().tied(Ties::Zeros(1)).py(py).map(Out)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_tied, m)?)?;
    softmax::register(m)?;
    loss::register(m)?;
    conv::register(m)?;
    pool::register(m)?;
    recurrent::register(m)?;
    norm::register(m)?;
    attention::register(m)
}
