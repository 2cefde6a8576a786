//! Pooling.

use super::{pair_of, single_of};
use crate::convert::int_of;
use crate::enter::enter;
use crate::flag;
use crate::tensor::Out;
use crate::tensor::PyTensor;
use firesteel::ops::pool::PoolOptions;
use firesteel::Tensor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

type Pair = fn(&str, &str, &Bound<'_, PyAny>) -> PyResult<[usize; 2]>;

/// The window; a missing stride is its extent.
fn options_of(
    op: &str,
    pair: Pair,
    kernel: &Bound<'_, PyAny>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    dilation: Option<&Bound<'_, PyAny>>,
    ceil_mode: bool,
) -> PyResult<PoolOptions> {
    let kernel = pair(op, "kernel_size", kernel)?;
    let is_given = |value: &&Bound<'_, PyAny>| value.len().map_or(true, |len| len > 0);
    Ok(PoolOptions {
        kernel,
        stride: stride.filter(is_given).map_or(Ok(kernel), |stride| pair(op, "stride", stride))?,
        padding: padding.map_or(Ok([0, 0]), |padding| pair(op, "padding", padding))?,
        dilation: dilation.map_or(Ok([1, 1]), |dilation| pair(op, "dilation", dilation))?,
        ceil_mode,
    })
}

/// The result, and with `return_indices` the places, as Python has them.
fn with_indices<'py>(
    py: Python<'py>,
    (out, indices): (Tensor, Option<Tensor>),
) -> PyResult<Bound<'py, PyAny>> {
    match indices {
        Some(indices) => Ok(PyTuple::new(py, [Out(out), Out(indices)])?.into_any()),
        None => Ok(Out(out).into_pyobject(py)?.into_any()),
    }
}

/// max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) ->
/// Tensor, or a tuple with the indices: the largest element of each window.
#[pyfunction]
#[pyo3(signature = (input, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false, return_indices=false))]
#[allow(clippy::too_many_arguments)]
fn max_pool2d<'py>(
    input: &Bound<'py, PyTensor>,
    kernel_size: &Bound<'py, PyAny>,
    stride: Option<&Bound<'py, PyAny>>,
    padding: Option<&Bound<'py, PyAny>>,
    dilation: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::ceil_mode)] ceil_mode: bool,
    #[pyo3(from_py_with = flag::return_indices)] return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let options = options_of("max_pool2d", pair_of, kernel_size, stride, padding, dilation, ceil_mode)?;
    let (py, x) = (input.py(), &input.get().tensor());
    with_indices(py, enter(py, x.numel(), || x.max_pool2d(&options, return_indices))?)
}

/// max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) ->
/// Tensor, or a tuple with the indices: the largest element of each window.
#[pyfunction]
#[pyo3(signature = (input, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false, return_indices=false))]
#[allow(clippy::too_many_arguments)]
fn max_pool1d<'py>(
    input: &Bound<'py, PyTensor>,
    kernel_size: &Bound<'py, PyAny>,
    stride: Option<&Bound<'py, PyAny>>,
    padding: Option<&Bound<'py, PyAny>>,
    dilation: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::ceil_mode)] ceil_mode: bool,
    #[pyo3(from_py_with = flag::return_indices)] return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let options = options_of("max_pool1d", single_of, kernel_size, stride, padding, dilation, ceil_mode)?;
    let (py, x) = (input.py(), &input.get().tensor());
    with_indices(py, enter(py, x.numel(), || x.max_pool1d(&options, return_indices))?)
}

/// avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
/// divisor_override=None) -> Tensor: the mean of each window.
#[pyfunction]
#[pyo3(signature = (input, kernel_size, stride=None, padding=None, ceil_mode=false, count_include_pad=true, divisor_override=None))]
#[allow(clippy::too_many_arguments)]
fn avg_pool2d(
    input: &Bound<'_, PyTensor>,
    kernel_size: &Bound<'_, PyAny>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = flag::ceil_mode)] ceil_mode: bool,
    #[pyo3(from_py_with = flag::count_include_pad)] count_include_pad: bool,
    divisor_override: Option<isize>,
) -> PyResult<Out> {
    let options = options_of("avg_pool2d", pair_of, kernel_size, stride, padding, None, ceil_mode)?;
    let x = &input.get().tensor();
    enter(input.py(), x.numel(), || x.avg_pool2d(&options, count_include_pad, divisor_override)).map(Out)
}

/// avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True) -> Tensor: the
/// mean of each window.
#[pyfunction]
#[pyo3(signature = (input, kernel_size, stride=None, padding=None, ceil_mode=false, count_include_pad=true))]
fn avg_pool1d(
    input: &Bound<'_, PyTensor>,
    kernel_size: &Bound<'_, PyAny>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = flag::ceil_mode)] ceil_mode: bool,
    #[pyo3(from_py_with = flag::count_include_pad)] count_include_pad: bool,
) -> PyResult<Out> {
    let options = options_of("avg_pool1d", single_of, kernel_size, stride, padding, None, ceil_mode)?;
    let x = &input.get().tensor();
    enter(input.py(), x.numel(), || x.avg_pool1d(&options, count_include_pad)).map(Out)
}

/// Height and width of an adaptive pooling's output: one number for both, or a pair; None keeps an extent.
fn plane_size(op: &str, x: &Tensor, output_size: &Bound<'_, PyAny>) -> PyResult<[usize; 2]> {
    let rank = x.rank();
    let extents = if rank >= 2 { [x.shape()[rank - 2], x.shape()[rank - 1]] } else { [0, 0] };
    let both = output_size.is_none() || output_size.cast::<PyInt>().is_ok();
    if !both && output_size.len()? != 2 {
        return Err(PyRuntimeError::new_err(format!(
            "{op}: output_size must be 2 numbers, got {output_size}; give a height and a width"
        )));
    }
    let mut size = extents;
    for (dim, size) in size.iter_mut().enumerate() {
        let value = if both { output_size.clone() } else { output_size.get_item(dim)? };
        if !value.is_none() {
            *size = extent_of(op, &value)?;
        }
    }
    Ok(size)
}

fn extent_of(op: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    usize::try_from(int_of(value)?).map_err(|_| {
        PyRuntimeError::new_err(format!(
            "{op}: elements of output_size must be greater than or equal to 0, but got {value}; give the size wanted"
        ))
    })
}

/// adaptive_avg_pool2d(input, output_size) -> Tensor: means over windows chosen so that the output has that height
/// and width; None keeps an extent.
#[pyfunction]
fn adaptive_avg_pool2d(input: &Bound<'_, PyTensor>, output_size: &Bound<'_, PyAny>) -> PyResult<Out> {
    let x = &input.get().tensor();
    let size = plane_size("adaptive_avg_pool2d", x, output_size)?;
    enter(input.py(), x.numel(), || x.adaptive_avg_pool2d(size)).map(Out)
}

/// adaptive_max_pool2d(input, output_size, return_indices=False) -> Tensor, or a tuple with the indices: the largest
/// elements of windows chosen so that the output has that height and width; None keeps an extent.
#[pyfunction]
#[pyo3(signature = (input, output_size, return_indices=false))]
fn adaptive_max_pool2d<'py>(
    input: &Bound<'py, PyTensor>,
    output_size: &Bound<'py, PyAny>,
    #[pyo3(from_py_with = flag::return_indices)] return_indices: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, x) = (input.py(), &input.get().tensor());
    let size = plane_size("adaptive_max_pool2d", x, output_size)?;
    with_indices(py, enter(py, x.numel(), || x.adaptive_max_pool2d(size, return_indices))?)
}

/// adaptive_max_pool1d(input, output_size) -> a tuple: the largest elements of windows chosen so that the output has
/// that length, and their indices.
#[pyfunction]
fn adaptive_max_pool1d<'py>(
    input: &Bound<'py, PyTensor>,
    output_size: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (op, py, x) = ("adaptive_max_pool1d", input.py(), &input.get().tensor());
    let size = match output_size.len() {
        Ok(1) => extent_of(op, &output_size.get_item(0)?)?,
        Ok(len) => {
            return Err(PyRuntimeError::new_err(format!(
                "{op}: argument 'output_size' should contain one int (got {len}); give the length wanted"
            )))
        }
        Err(_) => extent_of(op, output_size)?,
    };
    with_indices(py, enter(py, x.numel(), || x.adaptive_max_pool1d(size, true))?)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(max_pool1d, m)?)?;
    m.add_function(wrap_pyfunction!(max_pool2d, m)?)?;
    m.add_function(wrap_pyfunction!(avg_pool1d, m)?)?;
    m.add_function(wrap_pyfunction!(avg_pool2d, m)?)?;
    m.add_function(wrap_pyfunction!(adaptive_avg_pool2d, m)?)?;
    m.add_function(wrap_pyfunction!(adaptive_max_pool1d, m)?)?;
    m.add_function(wrap_pyfunction!(adaptive_max_pool2d, m)?)
}
