//! `out=`: results that are written into tensors of the user's.

use super::PyTensor;
use crate::convert::DTypeArg;
use crate::enter::enter;
use crate::error::IntoPy;
use firesteel::autograd::{check_inference, check_writable, is_recording, GradMode};
use firesteel::{DType, Error, Kind, Tensor};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// The functions made of methods (function.rs) that take `out=` in PyTorch.
#[rustfmt::skip]
const TAKE_OUT: &[&str] = &[
    "abs", "add", "addcdiv", "addcmul", "addmm", "addmv", "all", "amax", "amin", "any", "argmax", "argmin",
    "baddbmm", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "bmm", "ceil", "clamp", "clamp_max", "clamp_min", "clip", "cos", "cumprod", "cumsum", "div",
    "dot", "eq", "erf", "exp", "expm1", "floor", "floor_divide", "fmod", "gather", "ge", "gt", "index_add",
    "index_select", "le", "lerp", "log", "log10", "log1p", "log2", "logical_and", "logical_not", "logical_or",
    "logical_xor", "logsumexp", "lt", "masked_select", "matmul", "max", "maximum", "mean", "min", "minimum",
    "mm", "mul", "multiply", "mv", "nansum", "ne", "neg", "nonzero", "norm", "outer", "prod", "reciprocal",
    "remainder", "round", "rsqrt", "scatter", "scatter_add", "sigmoid", "sign", "sin", "sort", "sqrt", "square",
    "std", "sub", "sum", "take_along_dim", "tan", "tanh", "topk", "tril", "triu", "true_divide", "trunc", "var",
];

/// Whether the function `name` takes `out=`.
pub fn takes_out(name: &str) -> bool {
    TAKE_OUT.contains(&name)
}

/// An error unless the function `name` takes `out=`.
pub fn expect_takes_out(name: &str) -> PyResult<()> {
    if takes_out(name) {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{name}() got an unexpected keyword argument 'out'; write its result with out.copy_(...)"
    )))
}

/// `result`, or `out` with the result written into it if there is one.
#[inline]
pub fn delivered<'py>(
    py: Python<'py>,
    op: &str,
    result: super::Out,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let result = result.into_pyobject(py)?.into_any();
    match out {
        None => Ok(result),
        Some(out) => written(op, &result, out),
    }
}

/// `out` after `result` was written into it: a tensor, or several as a tuple. All checks come before the
/// first write; an `out` of another shape is resized.
#[cold]
pub fn written<'py>(
    op: &str,
    result: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = out.py();
    if out.is_none() {
        return Ok(result.clone());
    }
    if let Ok(result) = result.cast::<PyTensor>() {
        let out = target(op, out)?;
        write_all(py, op, &[(result.get().tensor(), out)])?;
        return Ok(out.clone().into_any());
    }
    let (results, outs) = (result.cast::<PyTuple>()?, super::sequence_of(out));
    let is_sequence = out.is_instance_of::<PyTuple>() || out.is_instance_of::<PyList>();
    if !is_sequence || outs.len() != results.len() {
        return Err(PyTypeError::new_err(format!(
            "{op}(): argument 'out' must be a tuple of {} Tensors, not {}; give one for each result",
            results.len(),
            if is_sequence { format!("{} of them", outs.len()) } else { out.get_type().name()?.to_string() }
        )));
    }
    let mut pairs = Vec::new();
    for (result, out) in results.iter().zip(&outs) {
        pairs.push((result.cast::<PyTensor>()?.get().tensor(), target(op, out)?));
    }
    write_all(py, op, &pairs)?;
    let outs = PyTuple::new(py, &outs)?;
    match results.hasattr(intern!(py, "_fields"))? {
        true => results.get_type().call1(outs), // "values" and "indices" keep their names
        false => Ok(outs.into_any()),
    }
}

/// The dtype of new values: the one asked for, which must be that of the tensor that they are written into.
pub fn dtype_for(
    op: &str,
    dtype: Option<DTypeArg>,
    out: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<DType>> {
    let asked = dtype.map(|dtype| dtype.0);
    let Some(out) = out.and_then(|out| out.cast::<PyTensor>().ok()) else { return Ok(asked) };
    let of_out = out.get().tensor().dtype();
    match asked.filter(|asked| *asked != of_out) {
        None => Ok(Some(of_out)),
        Some(asked) => Err(PyRuntimeError::new_err(format!(
            "{op}: dtype {asked} does not match dtype of out parameter ({of_out}); leave dtype= away"
        ))),
    }
}

/// Refuses `out=` beside inputs with a history, for functions whose results have none in any case.
pub fn expect_no_history(op: &str, inputs: &[&Tensor]) -> firesteel::Result<()> {
    match is_recording() && inputs.iter().any(|x| x.requires_grad()) {
        true => Err(history_error(op)),
        false => Ok(()),
    }
}

fn history_error(op: &str) -> Error {
    let text = format!(
        "{op}(): functions with out=... arguments don't support automatic differentiation, but one of the \
         arguments requires grad; leave out= away, or wrap the call in `with no_grad():`"
    );
    Error::new(Kind::Autograd, text)
}

fn target<'a, 'py>(op: &str, out: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyTensor>> {
    out.cast::<PyTensor>().map_err(|_| match out.get_type().name() {
        Ok(found) => PyTypeError::new_err(format!(
            "{op}(): argument 'out' must be Tensor, not {found}; make one with torch.empty(0)"
        )),
        Err(error) => error,
    })
}

fn write_all(py: Python<'_>, op: &str, pairs: &[(Tensor, &Bound<'_, PyTensor>)]) -> PyResult<()> {
    for (result, out) in pairs {
        check(op, result, &out.get().tensor()).py(py)?;
    }
    for (result, out) in pairs {
        let out = out.get().tensor();
        if out.numel() > 0 && out.shape() != result.shape() {
            let text = format!(
                "{op}: An output with one or more elements was resized since it had shape {:?}, which does not \
                 match the required output shape {:?}; give out= of that shape, or an empty tensor",
                out.shape(),
                result.shape()
            );
            crate::nn::warn(py, &text)?;
        }
    }
    for (result, out) in pairs {
        let mut target = out.get().tensor();
        if target.shape() != result.shape() {
            // Resized, an ordinary tensor stays one, also in inference mode.
            let mode = GradMode::inference(target.is_inference());
            let resized = Tensor::empty(result.shape(), target.dtype());
            drop(mode);
            let resized = resized.py(py)?;
            PyTensor::become_tensor(out, target.replace_data(resized.array()).py(py)?)?;
            target = out.get().tensor();
        }
        enter(py, result.numel(), || target.copy_(result))?;
    }
    Ok(())
}

/// Refuses what PyTorch refuses: history, a dtype that loses the kind of number, memory that cannot be written.
fn check(op: &str, result: &Tensor, out: &Tensor) -> firesteel::Result<()> {
    if result.requires_grad() || (is_recording() && out.requires_grad()) {
        return Err(history_error(op));
    }
    if result.dtype().category() > out.dtype().category() {
        let text = format!(
            "{op}: result type {} can't be cast to the desired output type {}; give out= of dtype {}",
            result.dtype().scalar_name(),
            out.dtype().scalar_name(),
            result.dtype()
        );
        return Err(Error::new(Kind::DType, text));
    }
    match out.shape() == result.shape() {
        true => check_writable(op, out),
        false => check_inference(op, out), // it will be given other memory
    }
}

/// Writes `result` into `out`, for functions that are written in Python.
#[pyfunction]
fn _write_out<'py>(
    op: &str,
    result: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    written(op, result, out)
}

/// Adds the function.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_write_out, m)?)
}
