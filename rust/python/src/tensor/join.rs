//! Joining tensors, cutting them apart, and copies in another order.

use super::{delivered, tensors_of, PyTensor};
use crate::convert::{ints_called, ints_of, shape_of, DimArg, Ints};
use crate::enter::enter;
use crate::error::IntoPy;
use crate::tensor::Out;
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// A tuple of tensors.
pub fn tuple<'py>(py: Python<'py>, tensors: Vec<Tensor>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, tensors.into_iter().map(Out))
}

fn joined(
    py: Python<'_>,
    op: &str,
    tensors: &Bound<'_, PyAny>,
    dim: isize,
    join: fn(&[&Tensor], isize) -> firesteel::Result<Tensor>,
) -> PyResult<Out> {
    if tensors.cast::<PyTuple>().is_err() && tensors.cast::<PyList>().is_err() {
        return Err(PyTypeError::new_err(format!(
            "{op}: argument 'tensors' must be a tuple or list of Tensors, not {}; put it in a list",
            tensors.get_type().name()?
        )));
    }
    let tensors = tensors_of(op, tensors)?;
    let numel = tensors.iter().map(Tensor::numel).sum();
    enter(py, numel, || join(&tensors.iter().collect::<Vec<_>>(), dim)).map(Out)
}

/// cat(tensors, dim=0) -> Tensor: tensors laid one after the other along a dim.
#[pyfunction]
#[pyo3(signature = (tensors, dim=None, *, axis=None, out=None))]
fn cat<'py>(
    py: Python<'py>,
    tensors: &Bound<'py, PyAny>,
    dim: Option<isize>,
    axis: Option<isize>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    delivered(py, "cat", joined(py, "cat", tensors, dim.or(axis).unwrap_or(0), Tensor::cat)?, out)
}

/// concat(tensors, dim=0) -> Tensor: alias of `cat`.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0, *, out=None))]
fn concat<'py>(
    py: Python<'py>,
    tensors: &Bound<'py, PyAny>,
    dim: isize,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    delivered(py, "concat", joined(py, "concat", tensors, dim, Tensor::cat)?, out)
}

/// stack(tensors, dim=0) -> Tensor: tensors of one shape laid side by side along a new dim.
#[pyfunction]
#[pyo3(signature = (tensors, dim=0, *, out=None))]
fn stack<'py>(
    py: Python<'py>,
    tensors: &Bound<'py, PyAny>,
    dim: isize,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    delivered(py, "stack", joined(py, "stack", tensors, dim, Tensor::stack)?, out)
}

/// A copy with `before[d]` and `after[d]` elements of `value` at the ends of each dim `d`.
#[pyfunction]
fn _constant_pad(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    before: Vec<usize>,
    after: Vec<usize>,
    value: f64,
) -> PyResult<Out> {
    let x = &input.get().tensor();
    enter(py, x.numel(), || x.constant_pad(&before, &after, value)).map(Out)
}

#[pymethods]
impl PyTensor {
    /// split(input, split_size_or_sections, dim=0) -> tuple of Tensors: pieces along a dim, as views.
    #[pyo3(signature = (split_size=None, dim=0, *, split_size_or_sections=None))]
    fn split<'py>(
        &self,
        py: Python<'py>,
        split_size: Option<&Bound<'py, PyAny>>,
        dim: isize,
        split_size_or_sections: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let x = &self.tensor();
        // PyTorch's method and its function call the argument differently.
        let Some(split_size) = split_size.or(split_size_or_sections) else {
            return Err(PyTypeError::new_err(
                "split() missing 1 required positional argument: 'split_size'; give an int or a list of ints",
            ));
        };
        if split_size.cast::<pyo3::types::PyInt>().is_ok() {
            let size = split_size.extract::<isize>()?;
            let size = usize::try_from(size).map_err(|_| {
                PyRuntimeError::new_err(format!(
                    "split: expects split_size be non-negative, but got split_size={size}; use at least 1"
                ))
            })?;
            return tuple(py, x.split(size, dim).py(py)?);
        }
        let sizes = ints_of(split_size)?;
        if sizes.iter().any(|&size| size < 0) {
            return Err(PyRuntimeError::new_err(format!(
                "split: split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={:?}; \
                 leave out the negative ones",
                sizes.as_slice()
            )));
        }
        let sizes: Vec<usize> = sizes.iter().map(|&size| size as usize).collect();
        tuple(py, x.split_with_sizes(&sizes, dim).py(py)?)
    }

    /// chunk(input, chunks, dim=0) -> tuple of Tensors: at most `chunks` pieces of equal extent, as views.
    #[pyo3(signature = (chunks, dim=0))]
    fn chunk<'py>(&self, py: Python<'py>, chunks: isize, dim: isize) -> PyResult<Bound<'py, PyTuple>> {
        let chunks = usize::try_from(chunks).unwrap_or(0);
        tuple(py, self.tensor().chunk(chunks, dim).py(py)?)
    }

    /// unbind(input, dim=0) -> tuple of Tensors: every position along a dim, as views.
    #[pyo3(signature = (dim=0))]
    fn unbind<'py>(&self, py: Python<'py>, dim: isize) -> PyResult<Bound<'py, PyTuple>> {
        tuple(py, self.tensor().unbind(dim).py(py)?)
    }

    /// flip(input, *dims) -> Tensor: a copy with the order along the dims reversed.
    #[pyo3(signature = (*dims, **kwargs))]
    fn flip(
        &self,
        py: Python<'_>,
        dims: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let dims = ints_called("flip", "dims", dims, kwargs)?;
        enter(py, x.numel(), || x.flip(&dims)).map(Out)
    }

    /// roll(input, shifts, dims=None) -> Tensor: a copy whose positions are moved along, the last ones to the front.
    #[pyo3(signature = (shifts, dims=DimArg(None)))]
    fn roll(&self, py: Python<'_>, shifts: &Bound<'_, PyAny>, dims: DimArg) -> PyResult<Out> {
        let x = &self.tensor();
        let shifts = ints_of(shifts)?;
        enter(py, x.numel(), || x.roll(&shifts, dims.0.as_deref())).map(Out)
    }

    /// repeat(*repeats) -> Tensor: a copy tiled along each dim.
    #[pyo3(signature = (*repeats, **kwargs))]
    fn repeat(
        &self,
        py: Python<'_>,
        repeats: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let counts = shape_of("repeat", &ints_called("repeat", "repeats", repeats, kwargs)?)?;
        enter(py, x.numel(), || x.repeat(&counts)).map(Out)
    }

    /// tile(input, *dims) -> Tensor: as `repeat`, with missing leading counts taken as 1.
    #[pyo3(signature = (*dims, **kwargs))]
    fn tile(
        &self,
        py: Python<'_>,
        dims: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let mut counts: Ints = Ints::new();
        let given = ints_called("tile", "dims", dims, kwargs)?;
        counts.extend((given.len()..x.rank()).map(|_| 1));
        counts.extend(given);
        let counts = shape_of("tile", &counts)?;
        enter(py, x.numel(), || x.repeat(&counts)).map(Out)
    }

    /// tril(input, diagonal=0) -> Tensor: zeros above a diagonal of the last two dims.
    #[pyo3(signature = (diagonal=0))]
    fn tril(&self, py: Python<'_>, diagonal: isize) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, x.numel(), || x.tril(diagonal)).map(Out)
    }

    /// triu(input, diagonal=0) -> Tensor: zeros below a diagonal of the last two dims.
    #[pyo3(signature = (diagonal=0))]
    fn triu(&self, py: Python<'_>, diagonal: isize) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, x.numel(), || x.triu(diagonal)).map(Out)
    }
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &["split", "chunk", "unbind", "flip", "roll", "tile", "tril", "triu"];

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cat, m)?)?;
    m.add_function(wrap_pyfunction!(concat, m)?)?;
    m.add_function(wrap_pyfunction!(_constant_pad, m)?)?;
    m.add_function(wrap_pyfunction!(stack, m)?)
}
