//! Convolutions.

use super::{maybe, pair_of, single_of, Maybe};
use crate::convert::dim_of;
use crate::enter::enter;
use crate::tensor::Out;
use crate::tensor::PyTensor;
use firesteel::ops::conv::{ConvOptions, ConvPadding};
use firesteel::Tensor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

type Pair = fn(&str, &str, &Bound<'_, PyAny>) -> PyResult<[usize; 2]>;

/// An argument, or `default` for both dims.
fn or_default(
    op: &str,
    role: &str,
    value: Option<&Bound<'_, PyAny>>,
    default: usize,
    pair: Pair,
) -> PyResult<[usize; 2]> {
    value.map_or(Ok([default; 2]), |value| pair(op, role, value))
}

fn padding_of(op: &str, value: Option<&Bound<'_, PyAny>>, pair: Pair) -> PyResult<ConvPadding> {
    let Some(value) = value else { return Ok(ConvPadding::Zeros([0, 0])) };
    if let Ok(name) = value.cast::<PyString>() {
        return match name.to_cow()?.as_ref() {
            "same" => Ok(ConvPadding::Same),
            "valid" => Ok(ConvPadding::Zeros([0, 0])),
            other => Err(PyRuntimeError::new_err(format!(
                "{op}: Invalid padding string: '{other}'; use 'same' or 'valid'"
            ))),
        };
    }
    Ok(ConvPadding::Zeros(pair(op, "padding", value)?))
}

fn groups_of(op: &str, groups: isize) -> PyResult<usize> {
    usize::try_from(groups).map_err(|_| {
        PyRuntimeError::new_err(format!(
            "{op}: non-positive groups is not supported, got groups={groups}; use at least 1"
        ))
    })
}

/// Multiplications of a convolution, about: how long it takes.
fn work(x: &Tensor, weight: &Tensor) -> usize {
    x.numel().saturating_mul(weight.shape().first().copied().unwrap_or(1))
}

/// conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor: convolution of images
/// (N, C, H, W) or (C, H, W); padding may be 'valid' or 'same'.
#[pyfunction]
#[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, dilation=None, groups=1))]
fn conv2d(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    weight: &Bound<'_, PyTensor>,
    bias: Maybe<'_, '_>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    dilation: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = dim_of)] groups: isize,
) -> PyResult<Out> {
    let options = ConvOptions {
        stride: or_default("conv2d", "stride", stride, 1, pair_of)?,
        dilation: or_default("conv2d", "dilation", dilation, 1, pair_of)?,
        groups: groups_of("conv2d", groups)?,
        ..ConvOptions::default()
    };
    let padding = padding_of("conv2d", padding, pair_of)?;
    let (x, weight, bias) = (&input.get().tensor(), &weight.get().tensor(), maybe(bias));
    let bias = bias.as_ref();
    enter(py, work(x, weight), || x.conv2d(weight, bias, padding, options)).map(Out)
}

/// conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor: convolution of signals
/// (N, C, L) or (C, L); padding may be 'valid' or 'same'.
#[pyfunction]
#[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, dilation=None, groups=1))]
fn conv1d(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    weight: &Bound<'_, PyTensor>,
    bias: Maybe<'_, '_>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    dilation: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = dim_of)] groups: isize,
) -> PyResult<Out> {
    let options = ConvOptions {
        stride: or_default("conv1d", "stride", stride, 1, single_of)?,
        dilation: or_default("conv1d", "dilation", dilation, 1, single_of)?,
        groups: groups_of("conv1d", groups)?,
        ..ConvOptions::default()
    };
    let padding = padding_of("conv1d", padding, single_of)?;
    let (x, weight, bias) = (&input.get().tensor(), &weight.get().tensor(), maybe(bias));
    let bias = bias.as_ref();
    enter(py, work(x, weight), || x.conv1d(weight, bias, padding, options)).map(Out)
}

/// conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> Tensor:
/// what the gradient of conv2d's input is.
#[pyfunction]
#[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, output_padding=None, groups=1, dilation=None))]
fn conv_transpose2d(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    weight: &Bound<'_, PyTensor>,
    bias: Maybe<'_, '_>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    output_padding: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = dim_of)] groups: isize,
    dilation: Option<&Bound<'_, PyAny>>,
) -> PyResult<Out> {
    let op = "conv_transpose2d";
    let options = ConvOptions {
        stride: or_default(op, "stride", stride, 1, pair_of)?,
        padding: or_default(op, "padding", padding, 0, pair_of)?,
        dilation: or_default(op, "dilation", dilation, 1, pair_of)?,
        groups: groups_of(op, groups)?,
    };
    let output_padding = or_default(op, "output_padding", output_padding, 0, pair_of)?;
    let (x, weight, bias) = (&input.get().tensor(), &weight.get().tensor(), maybe(bias));
    let bias = bias.as_ref();
    enter(py, work(x, weight), || x.conv_transpose2d(weight, bias, output_padding, options)).map(Out)
}

/// conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> Tensor:
/// what the gradient of conv1d's input is.
#[pyfunction]
#[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, output_padding=None, groups=1, dilation=None))]
fn conv_transpose1d(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    weight: &Bound<'_, PyTensor>,
    bias: Maybe<'_, '_>,
    stride: Option<&Bound<'_, PyAny>>,
    padding: Option<&Bound<'_, PyAny>>,
    output_padding: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = dim_of)] groups: isize,
    dilation: Option<&Bound<'_, PyAny>>,
) -> PyResult<Out> {
    let op = "conv_transpose1d";
    let options = ConvOptions {
        stride: or_default(op, "stride", stride, 1, single_of)?,
        padding: or_default(op, "padding", padding, 0, single_of)?,
        dilation: or_default(op, "dilation", dilation, 1, single_of)?,
        groups: groups_of(op, groups)?,
    };
    let output_padding = or_default(op, "output_padding", output_padding, 0, single_of)?;
    let (x, weight, bias) = (&input.get().tensor(), &weight.get().tensor(), maybe(bias));
    let bias = bias.as_ref();
    enter(py, work(x, weight), || x.conv_transpose1d(weight, bias, output_padding, options)).map(Out)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(conv1d, m)?)?;
    m.add_function(wrap_pyfunction!(conv2d, m)?)?;
    m.add_function(wrap_pyfunction!(conv_transpose1d, m)?)?;
    m.add_function(wrap_pyfunction!(conv_transpose2d, m)?)
}
