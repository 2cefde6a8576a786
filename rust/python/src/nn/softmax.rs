//! Softmax, dropout, embedding.

use super::warn;
use crate::convert::{dim_of, float_of, optional_dim_of, DTypeArg};
use crate::enter::enter;
use crate::error::IntoPy;
use crate::flag;
use crate::tensor::{delivered, Out, PyTensor};
use firesteel::Tensor;
use pyo3::exceptions::{PyAssertionError, PyNotImplementedError};
use pyo3::prelude::*;

type Call = fn(&Tensor, isize) -> firesteel::Result<Tensor>;

fn along(py: Python<'_>, x: &Tensor, dim: isize, dtype: Option<DTypeArg>, call: Call) -> PyResult<Out> {
    enter(py, x.numel(), || match dtype {
        None => call(x, dim),
        Some(dtype) => call(&x.to_dtype(dtype.0)?, dim),
    })
    .map(Out)
}

/// The dim that PyTorch takes where none is given, with its warning.
fn implicit_dim(py: Python<'_>, name: &str, x: &Tensor) -> PyResult<isize> {
    warn(
        py,
        &format!(
            "Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument."
        ),
    )?;
    Ok(isize::from(!matches!(x.rank(), 0 | 1 | 3)))
}

/// The third argument: the dtype in `torch.softmax`, a number of stack frames in `nn.functional`'s.
fn third(value: Option<&Bound<'_, PyAny>>) -> Option<DTypeArg> {
    value.and_then(DTypeArg::of).map(DTypeArg)
}

/// softmax(input, dim=None, dtype=None) -> Tensor: exp(input) over its sum along a dim.
#[pyfunction]
#[pyo3(signature = (input, dim=None, _stacklevel=None, dtype=None, *, out=None))]
fn softmax<'py>(
    py: Python<'py>,
    input: &Bound<'py, PyTensor>,
    #[pyo3(from_py_with = optional_dim_of)] dim: Option<isize>,
    _stacklevel: Option<&Bound<'py, PyAny>>,
    dtype: Option<DTypeArg>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = dtype.or_else(|| third(_stacklevel));
    let x = &input.get().tensor();
    let dim = dim.map_or_else(|| implicit_dim(py, "softmax", x), Ok)?;
    delivered(py, "softmax", along(py, x, dim, dtype, Tensor::softmax)?, out)
}

/// log_softmax(input, dim=None, dtype=None) -> Tensor: the logarithm of softmax, without loss of digits.
#[pyfunction]
#[pyo3(signature = (input, dim=None, _stacklevel=None, dtype=None, *, out=None))]
fn log_softmax<'py>(
    py: Python<'py>,
    input: &Bound<'py, PyTensor>,
    #[pyo3(from_py_with = optional_dim_of)] dim: Option<isize>,
    _stacklevel: Option<&Bound<'py, PyAny>>,
    dtype: Option<DTypeArg>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = dtype.or_else(|| third(_stacklevel));
    let x = &input.get().tensor();
    let dim = dim.map_or_else(|| implicit_dim(py, "log_softmax", x), Ok)?;
    delivered(py, "log_softmax", along(py, x, dim, dtype, Tensor::log_softmax)?, out)
}

#[pymethods]
impl PyTensor {
    /// softmax(dim, dtype=None) -> Tensor: exp(self) over its sum along a dim.
    #[pyo3(signature = (dim, dtype=None))]
    fn softmax(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = dim_of)] dim: isize,
        dtype: Option<DTypeArg>,
    ) -> PyResult<Out> {
        along(py, &self.tensor(), dim, dtype, Tensor::softmax)
    }

    /// log_softmax(dim, dtype=None) -> Tensor: the logarithm of softmax, without loss of digits.
    #[pyo3(signature = (dim, dtype=None))]
    fn log_softmax(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = dim_of)] dim: isize,
        dtype: Option<DTypeArg>,
    ) -> PyResult<Out> {
        along(py, &self.tensor(), dim, dtype, Tensor::log_softmax)
    }
}

/// dropout(input, p=0.5, training=True, inplace=False) -> Tensor: elements set to zero with probability p, the
/// others divided by 1 - p, if training.
#[pyfunction]
#[pyo3(signature = (input, p=0.5, training=true, inplace=false))]
fn dropout<'py>(
    input: Bound<'py, PyTensor>,
    #[pyo3(from_py_with = float_of)] p: f64,
    #[pyo3(from_py_with = flag::training)] training: bool,
    #[pyo3(from_py_with = flag::inplace)] inplace: bool,
) -> PyResult<Bound<'py, PyTensor>> {
    let py = input.py();
    let x = &input.get().tensor();
    if inplace {
        enter(py, x.numel(), || x.dropout_(p, training))?;
        return Ok(input);
    }
    let out = enter(py, x.numel(), || x.dropout(p, training))?;
    if out.is_same(x) {
        return Ok(input);
    }
    Out(out).into_pyobject(py)
}

/// embedding(input, weight, padding_idx=None) -> Tensor: the rows of weight at the indices in input; the row
/// padding_idx gets no gradient.
#[pyfunction]
#[pyo3(signature = (input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=false, sparse=false))]
#[allow(clippy::too_many_arguments)]
fn embedding(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    weight: &Bound<'_, PyTensor>,
    padding_idx: Option<isize>,
    max_norm: Option<f64>,
    #[pyo3(from_py_with = float_of)] norm_type: f64,
    #[pyo3(from_py_with = flag::scale_grad_by_freq)] scale_grad_by_freq: bool,
    #[pyo3(from_py_with = flag::sparse)] sparse: bool,
) -> PyResult<Out> {
    if max_norm.is_some() || scale_grad_by_freq || sparse {
        return Err(PyNotImplementedError::new_err(format!(
            "embedding: max_norm={} (norm_type={norm_type}), scale_grad_by_freq={scale_grad_by_freq} and \
             sparse={sparse} are not supported; leave them at their defaults",
            max_norm.map_or("None".to_owned(), |limit| limit.to_string())
        )));
    }
    let (index, weight) = (&input.get().tensor(), &weight.get().tensor());
    let rows = weight.shape().first().copied().unwrap_or(0) as isize;
    let padding = match padding_idx {
        Some(row) if !(-rows..rows).contains(&row) => {
            return Err(PyAssertionError::new_err(format!(
                "embedding: Padding_idx must be within num_embeddings, got {row} for {rows} rows; use a row of the table"
            )))
        }
        Some(row) => Some((if row < 0 { row + rows } else { row }) as usize),
        None => None,
    };
    if weight.rank() != 2 {
        return weight.embedding(index, padding).map(Out).py(py);
    }
    enter(py, index.numel() * weight.shape()[1], || weight.embedding(index, padding)).map(Out)
}

/// Vectors that are 1 at the given int64 index and 0 elsewhere, along a new last dim.
#[pyfunction]
fn _one_hot(py: Python<'_>, input: &Bound<'_, PyTensor>, num_classes: i64) -> PyResult<Out> {
    let index = &input.get().tensor();
    let numel = index.numel().saturating_mul(num_classes.max(1) as usize);
    enter(py, numel, || index.one_hot(num_classes)).map(Out)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(softmax, m)?)?;
    m.add_function(wrap_pyfunction!(log_softmax, m)?)?;
    m.add_function(wrap_pyfunction!(dropout, m)?)?;
    m.add_function(wrap_pyfunction!(_one_hot, m)?)?;
    m.add_function(wrap_pyfunction!(embedding, m)?)
}
