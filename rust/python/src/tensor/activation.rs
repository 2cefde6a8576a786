//! Activation functions with arguments, as functions of the module: `nn.functional` names them.

use super::PyTensor;
use crate::convert::float_of;
use crate::enter::enter;
use crate::flag;
use crate::tensor::Out;
use firesteel::ops::activation::Approximate;
use firesteel::Tensor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// What PyTorch's `selu` fixes.
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

fn forward(
    input: &Bound<'_, PyTensor>,
    call: impl FnOnce(&Tensor) -> firesteel::Result<Tensor> + Send,
) -> PyResult<Out> {
    let x = &input.get().tensor();
    enter(input.py(), x.numel(), || call(x)).map(Out)
}

/// The result of `call`, or the input itself after `call_in_place`.
fn either<'py>(
    input: Bound<'py, PyTensor>,
    inplace: bool,
    call: impl FnOnce(&Tensor) -> firesteel::Result<Tensor> + Send,
    call_in_place: impl FnOnce(&Tensor) -> firesteel::Result<()> + Send,
) -> PyResult<Bound<'py, PyTensor>> {
    let py = input.py();
    let x = &input.get().tensor();
    if inplace {
        enter(py, x.numel(), || call_in_place(x))?;
        return Ok(input);
    }
    let out = enter(py, x.numel(), || call(x))?;
    Out(out).into_pyobject(py)
}

/// gelu(input, approximate='none') -> Tensor: input times the normal distribution function; 'tanh' approximates it.
#[pyfunction]
#[pyo3(signature = (input, approximate="none"))]
fn gelu(input: &Bound<'_, PyTensor>, approximate: &str) -> PyResult<Out> {
    let approximate = match approximate {
        "none" => Approximate::None,
        "tanh" => Approximate::Tanh,
        other => {
            return Err(PyRuntimeError::new_err(format!(
                "gelu: approximate argument must be either 'none' or 'tanh', not '{other}'; use one of these"
            )))
        }
    };
    forward(input, |x| x.gelu(approximate))
}

/// softplus(input, beta=1, threshold=20) -> Tensor: log(1 + exp(beta * input)) / beta.
#[pyfunction]
#[pyo3(signature = (input, beta=1.0, threshold=20.0))]
fn softplus(
    input: &Bound<'_, PyTensor>,
    #[pyo3(from_py_with = float_of)] beta: f64,
    #[pyo3(from_py_with = float_of)] threshold: f64,
) -> PyResult<Out> {
    forward(input, |x| x.softplus(beta, threshold))
}

/// logsigmoid(input) -> Tensor: log(sigmoid(input)), without overflow.
#[pyfunction]
fn logsigmoid(input: &Bound<'_, PyTensor>) -> PyResult<Out> {
    forward(input, Tensor::log_sigmoid)
}

/// hardswish(input, inplace=False) -> Tensor: input * relu6(input + 3) / 6.
#[pyfunction]
#[pyo3(signature = (input, inplace=false))]
fn hardswish(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, Tensor::hardswish, Tensor::hardswish_)
}

/// hardsigmoid(input, inplace=False) -> Tensor: relu6(input + 3) / 6.
#[pyfunction]
#[pyo3(signature = (input, inplace=false))]
fn hardsigmoid(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, Tensor::hardsigmoid, Tensor::hardsigmoid_)
}

/// mish(input, inplace=False) -> Tensor: input * tanh(softplus(input)).
#[pyfunction]
#[pyo3(signature = (input, inplace=false))]
fn mish(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, Tensor::mish, Tensor::mish_)
}

/// leaky_relu(input, negative_slope=0.01, inplace=False) -> Tensor: negative elements times a slope.
#[pyfunction]
#[pyo3(signature = (input, negative_slope=0.01, inplace=false))]
fn leaky_relu(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = float_of)] negative_slope: f64,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, |x| x.leaky_relu(negative_slope), |x| x.leaky_relu_(negative_slope))
}

/// elu(input, alpha=1, inplace=False) -> Tensor: alpha * (exp(input) - 1) where negative.
#[pyfunction]
#[pyo3(signature = (input, alpha=1.0, inplace=false))]
fn elu(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = float_of)] alpha: f64,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, |x| x.elu(alpha, 1.0, 1.0), |x| x.elu_(alpha, 1.0, 1.0))
}

/// selu(input, inplace=False) -> Tensor: the `elu` that keeps mean 0 and variance 1.
#[pyfunction]
#[pyo3(signature = (input, inplace=false))]
fn selu(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    let (alpha, scale) = (SELU_ALPHA, SELU_SCALE);
    either(input, inplace, |x| x.elu(alpha, scale, 1.0), |x| x.elu_(alpha, scale, 1.0))
}

/// celu(input, alpha=1, inplace=False) -> Tensor: alpha * (exp(input / alpha) - 1) where negative.
#[pyfunction]
#[pyo3(signature = (input, alpha=1.0, inplace=false))]
fn celu(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = float_of)] alpha: f64,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, |x| x.elu(alpha, 1.0, 1.0 / alpha), |x| x.elu_(alpha, 1.0, 1.0 / alpha))
}

/// hardtanh(input, min_val=-1, max_val=1, inplace=False) -> Tensor: elements limited to a range.
#[pyfunction]
#[pyo3(signature = (input, min_val=-1.0, max_val=1.0, inplace=false))]
fn hardtanh(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = float_of)] min_val: f64,
    #[pyo3(from_py_with = float_of)] max_val: f64,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, |x| x.hardtanh(min_val, max_val), |x| x.hardtanh_(min_val, max_val))
}

/// relu6(input, inplace=False) -> Tensor: elements limited to 0..6.
#[pyfunction]
#[pyo3(signature = (input, inplace=false))]
fn relu6(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, |x| x.hardtanh(0.0, 6.0), |x| x.hardtanh_(0.0, 6.0))
}

/// threshold(input, threshold, value, inplace=False) -> Tensor: elements above a threshold, a value for the others.
#[pyfunction]
#[pyo3(signature = (input, threshold, value, inplace=false))]
fn threshold(
    input: Bound<'_, PyTensor>,
    #[pyo3(from_py_with = float_of)] threshold: f64,
    #[pyo3(from_py_with = float_of)] value: f64,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'_, PyTensor>> {
    either(input, inplace, |x| x.threshold(threshold, value), |x| x.threshold_(threshold, value))
}

/// hardshrink(input, lambd=0.5) -> Tensor: elements, and 0 where their size is at most lambd.
#[pyfunction]
#[pyo3(signature = (input, lambd=0.5))]
fn hardshrink(input: &Bound<'_, PyTensor>, #[pyo3(from_py_with = float_of)] lambd: f64) -> PyResult<Out> {
    forward(input, |x| x.hardshrink(lambd))
}

/// softshrink(input, lambd=0.5) -> Tensor: elements moved by lambd towards 0, and 0 where their size is at most lambd.
#[pyfunction]
#[pyo3(signature = (input, lambd=0.5))]
fn softshrink(input: &Bound<'_, PyTensor>, #[pyo3(from_py_with = float_of)] lambd: f64) -> PyResult<Out> {
    if lambd < 0.0 {
        return Err(PyRuntimeError::new_err(format!(
            "softshrink: lambda must be greater or equal to 0, but found to be {lambd}; use at least 0"
        )));
    }
    forward(input, |x| x.softshrink(lambd))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(gelu, m)?)?;
    m.add_function(wrap_pyfunction!(softplus, m)?)?;
    m.add_function(wrap_pyfunction!(logsigmoid, m)?)?;
    m.add_function(wrap_pyfunction!(hardswish, m)?)?;
    m.add_function(wrap_pyfunction!(hardsigmoid, m)?)?;
    m.add_function(wrap_pyfunction!(mish, m)?)?;
    m.add_function(wrap_pyfunction!(leaky_relu, m)?)?;
    m.add_function(wrap_pyfunction!(elu, m)?)?;
    m.add_function(wrap_pyfunction!(selu, m)?)?;
    m.add_function(wrap_pyfunction!(celu, m)?)?;
    m.add_function(wrap_pyfunction!(hardtanh, m)?)?;
    m.add_function(wrap_pyfunction!(threshold, m)?)?;
    m.add_function(wrap_pyfunction!(hardshrink, m)?)?;
    m.add_function(wrap_pyfunction!(softshrink, m)?)?;
    m.add_function(wrap_pyfunction!(relu6, m)?)
}
