//! New tensors from data, shapes and numbers.

use crate::convert::{ints_of, ints_of_args, shape_of, tensor_of, DTypeArg, Number};
use crate::enter::enter;
use crate::error::IntoPy;
use crate::tensor::PyTensor;
use firesteel::{DType, Scalar, Tensor};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

/// A new object of `cls`, a subclass of `Tensor`, around `tensor`.
pub fn with_class<'py>(cls: &Bound<'py, PyType>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let py = cls.py();
    let source = Py::new(py, PyTensor::new(tensor))?;
    let new = py.get_type::<PyTensor>().getattr(intern!(py, "__new__"))?;
    new.call((cls, source), Some(&[("_alias", true)].into_py_dict(py)?))
}

use pyo3::types::IntoPyDict;

/// `Tensor(...)`: PyTorch's old constructor, a shape or data, always float32.
pub fn legacy_tensor(
    py: Python<'_>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<PyTensor> {
    if args.is_empty() {
        return Tensor::empty(&[0], DType::F32).py(py).map(PyTensor::new);
    }
    let first = args.get_item(0)?;
    if let Ok(tensor) = first.cast::<PyTensor>() {
        // Only `with_class` asks for the very same tensor.
        let alias = kwargs.is_some_and(|k| k.contains("_alias").unwrap_or(false));
        let tensor = tensor.get().tensor();
        return Ok(PyTensor::new(if alias { tensor.clone() } else { tensor.detach() }));
    }
    if first.cast::<pyo3::types::PyInt>().is_ok() {
        let shape = shape_of("Tensor", &ints_of_args(args)?)?;
        return Tensor::empty(&shape, DType::F32).py(py).map(PyTensor::new);
    }
    tensor_of(&first, Some(DType::F32)).map(PyTensor::new)
}

/// A leaf with the options that all creation functions share.
fn finish(py: Python<'_>, tensor: Tensor, requires_grad: bool) -> PyResult<PyTensor> {
    if requires_grad {
        tensor.set_requires_grad(true).py(py)?;
    }
    Ok(PyTensor::new(tensor))
}

/// tensor(data, *, dtype=None, device=None, requires_grad=False) -> Tensor
///
/// A new tensor with a copy of `data`: a number, nested sequences of numbers, or an array.
#[pyfunction]
#[pyo3(signature = (data, *, dtype=None, device=None, requires_grad=false, pin_memory=false))]
fn tensor(
    py: Python<'_>,
    data: &Bound<'_, PyAny>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'_, PyAny>>,
    requires_grad: bool,
    pin_memory: bool,
) -> PyResult<PyTensor> {
    let _ = (device, pin_memory);
    finish(py, tensor_of(data, dtype.map(|d| d.0))?, requires_grad)
}

/// as_tensor(data, dtype=None, device=None) -> Tensor
///
/// `data` itself if it is a tensor of that dtype, an array's memory if it is an array, else a copy.
#[pyfunction]
#[pyo3(signature = (data, dtype=None, device=None))]
fn as_tensor<'py>(
    data: &Bound<'py, PyAny>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let _ = device;
    let py = data.py();
    let wanted = dtype.map(|d| d.0);
    if let Ok(tensor) = data.cast::<PyTensor>() {
        let tensor = tensor.get().tensor();
        return match wanted {
            Some(dtype) if dtype != tensor.dtype() => {
                Ok(Bound::new(py, PyTensor::new(tensor.to_dtype(dtype).py(py)?))?.into_any())
            }
            _ => Ok(data.clone()),
        };
    }
    let made = match crate::numpy::array_of(data)? {
        Some(array) => Tensor::constant(array.to_dtype(wanted.unwrap_or(array.dtype())).py(py)?),
        None => tensor_of(data, wanted)?,
    };
    Ok(Bound::new(py, PyTensor::new(made))?.into_any())
}

/// Functions of a shape: `name(*size, *, out=None, dtype=None, device=None, requires_grad=False)`.
macro_rules! of_shape {
    ($($(#[doc = $doc:literal])+ $name:ident |$shape:ident, $dtype:ident| $make:expr;)*) => {
        $(
            $(#[doc = $doc])+
            #[pyfunction]
            #[pyo3(signature = (*size, dtype=None, device=None, requires_grad=false, layout=None, pin_memory=false, memory_format=None))]
            fn $name(
                py: Python<'_>,
                size: &Bound<'_, PyTuple>,
                dtype: Option<DTypeArg>,
                device: Option<&Bound<'_, PyAny>>,
                requires_grad: bool,
                layout: Option<&Bound<'_, PyAny>>,
                pin_memory: bool,
                memory_format: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<PyTensor> {
                let _ = (device, layout, pin_memory, memory_format);
                let $shape = shape_of(stringify!($name), &ints_of_args(size)?)?;
                let $dtype = dtype.map_or(DType::F32, |d| d.0);
                let numel = $shape.iter().fold(1usize, |n, &e| n.saturating_mul(e));
                finish(py, enter(py, numel, || $make)?, requires_grad)
            }
        )*
        fn register_of_shape(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

of_shape! {
    /// zeros(*size, *, dtype=None, requires_grad=False) -> Tensor: zeros.
    zeros |shape, dtype| Tensor::zeros(&shape, dtype);
    /// ones(*size, *, dtype=None, requires_grad=False) -> Tensor: ones.
    ones |shape, dtype| Tensor::ones(&shape, dtype);
    /// empty(*size, *, dtype=None, requires_grad=False) -> Tensor: elements without a value yet.
    empty |shape, dtype| Tensor::empty(&shape, dtype);
}

/// full(size, fill_value, *, dtype=None, requires_grad=False) -> Tensor: every element `fill_value`.
#[pyfunction]
#[pyo3(signature = (size, fill_value, *, dtype=None, device=None, requires_grad=false))]
fn full(
    py: Python<'_>,
    size: &Bound<'_, PyAny>,
    fill_value: Number,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'_, PyAny>>,
    requires_grad: bool,
) -> PyResult<PyTensor> {
    let _ = device;
    let shape = shape_of("full", &ints_of(size)?)?;
    let value: Scalar = fill_value.0;
    let dtype = dtype.map_or(value.default_dtype(), |d| d.0);
    let numel = shape.iter().fold(1usize, |n, &e| n.saturating_mul(e));
    finish(py, enter(py, numel, || Tensor::full(&shape, value, dtype))?, requires_grad)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    register_of_shape(m)?;
    m.add_function(wrap_pyfunction!(tensor, m)?)?;
    m.add_function(wrap_pyfunction!(as_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(full, m)?)
}
