//! NumPy both ways without copying, through `__array_interface__`; NumPy itself is imported only when asked for.

use crate::error::IntoPy;
use crate::tensor::Out;
use firesteel::layout::{Dims, Strides};
use firesteel::storage::Storage;
use firesteel::{Array, DType, Layout, Tensor};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyTuple};
use std::sync::Arc;

fn typestr(dtype: DType) -> PyResult<&'static str> {
    Ok(match dtype {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::BF16 => {
            return Err(PyTypeError::new_err(
                "numpy: Got unsupported ScalarType BFloat16; NumPy has no such type, convert with .float()",
            ))
        }
    })
}

fn dtype_of(typestr: &str) -> PyResult<DType> {
    Ok(match typestr {
        "|b1" => DType::Bool,
        "|u1" => DType::U8,
        "<i4" => DType::I32,
        "<i8" => DType::I64,
        "<f2" => DType::F16,
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        other => {
            return Err(PyTypeError::new_err(format!(
                "can't convert np.ndarray of type {other}. The only supported types are: float64, float32, \
                 float16, int64, int32, uint8, and bool; use .astype(...)"
            )))
        }
    })
}

/// What NumPy reads; it holds this object, which holds the tensor, as long as the array lives.
#[pyclass(frozen)]
struct ArrayInterface(Tensor);

#[pymethods]
impl ArrayInterface {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let array = self.0.array();
        let size = array.dtype().size() as isize;
        let address = array.storage().as_ptr() as usize + array.layout().offset() * array.dtype().size();
        let strides: Vec<isize> = array.strides().iter().map(|s| s * size).collect();
        let dict = PyDict::new(py);
        dict.set_item("version", 3)?;
        dict.set_item("typestr", typestr(array.dtype())?)?;
        dict.set_item("shape", PyTuple::new(py, array.shape())?)?;
        dict.set_item("strides", PyTuple::new(py, strides)?)?;
        dict.set_item("data", (address, !array.storage().is_writable()))?;
        Ok(dict)
    }
}

/// The tensor's memory as a NumPy array.
pub fn to_numpy<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    typestr(tensor.dtype())?;
    let interface = Py::new(py, ArrayInterface(tensor.clone()))?;
    let numpy = py.import(intern!(py, "numpy"))?;
    numpy.call_method1(intern!(py, "asarray"), (interface,))
}

/// The memory of a NumPy array (or of anything with `__array_interface__`), shared; nothing if it is none.
pub fn array_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Array>> {
    let py = value.py();
    let Some(interface) = value.getattr_opt(intern!(py, "__array_interface__"))? else { return Ok(None) };
    let interface = interface.cast_into::<PyDict>()?;
    let item = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(interface.get_item(name)?.filter(|item| !item.is_none()))
    };
    let missing = || PyValueError::new_err("__array_interface__ lacks a field");
    let dtype = dtype_of(&item("typestr")?.ok_or_else(missing)?.extract::<String>()?)?;
    let shape: Vec<usize> = item("shape")?.ok_or_else(missing)?.extract()?;
    let (address, read_only): (usize, bool) = item("data")?.ok_or_else(missing)?.extract()?;
    let size = dtype.size() as isize;
    let strides: Strides = match item("strides")? {
        None => firesteel::layout::contiguous_strides(&shape),
        Some(bytes) => {
            let steps = bytes.extract::<Vec<isize>>()?;
            if steps.len() != shape.len() {
                return Err(PyValueError::new_err(format!(
                    "__array_interface__: {} strides for shape {shape:?}; give one per dim",
                    steps.len()
                )));
            }
            if steps.iter().zip(&shape).any(|(step, &n)| step % size != 0 && n > 1) {
                return Err(PyValueError::new_err(format!(
                    "given numpy array strides {steps:?} not a multiple of the element byte size {size}; use \
                     array.copy()"
                )));
            }
            steps.iter().map(|&step| step / size).collect()
        }
    };
    if strides.iter().zip(&shape).any(|(&step, &n)| step < 0 && n > 1) {
        return Err(PyValueError::new_err(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are \
             not currently supported; use array.copy()",
        ));
    }
    let layout = Layout::new(Dims::from_slice(&shape), strides, 0);
    let len_bytes = layout.span() * dtype.size();
    if len_bytes > 0 && (address == 0 || address % dtype.size() != 0) {
        return Err(PyValueError::new_err("the array's memory is not aligned; use array.copy()"));
    }
    let owner = value.clone().unbind();
    let pointer =
        if len_bytes == 0 { std::ptr::NonNull::<u64>::dangling().as_ptr() as usize } else { address };
    // SAFETY: the array interface promises memory for this shape and these strides; the owner keeps
    // it alive, and alignment was checked above.
    let storage = unsafe { Storage::foreign(pointer as *mut u8, len_bytes, !read_only, owner) };
    Ok(Some(Array::from_storage(Arc::new(storage), layout, dtype).py(py)?))
}

/// from_numpy(ndarray) -> Tensor
///
/// A tensor that shares the memory of a NumPy array: a change of one is seen in the other.
#[pyfunction]
fn from_numpy(ndarray: &Bound<'_, PyAny>) -> PyResult<Out> {
    match array_of(ndarray)? {
        Some(array) => Ok(Out(Tensor::constant(array))),
        None => {
            Err(PyTypeError::new_err(format!("expected np.ndarray (got {})", ndarray.get_type().name()?)))
        }
    }
}

/// frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False) -> Tensor
///
/// A 1-d tensor that shares the memory of an object with the buffer protocol, such as `bytes`.
#[pyfunction]
#[pyo3(signature = (buffer, *, dtype, count=-1, offset=0, requires_grad=false))]
fn frombuffer(
    buffer: &Bound<'_, PyAny>,
    dtype: crate::convert::DTypeArg,
    count: isize,
    offset: usize,
    requires_grad: bool,
) -> PyResult<Out> {
    let py = buffer.py();
    let bytes = pyo3::buffer::PyBuffer::<u8>::get(buffer)?;
    let size = dtype.0.size();
    let available = bytes.len_bytes().saturating_sub(offset);
    let numel = if count < 0 { available / size } else { count as usize };
    let fits = numel.checked_mul(size).is_some_and(|n| n <= available)
        && (count >= 0 || available % size == 0)
        && numel > 0;
    if !fits || !bytes.is_c_contiguous() {
        return Err(PyValueError::new_err(format!(
            "frombuffer: {count} elements of {} from offset {offset} do not fit a buffer of {} bytes",
            dtype.0,
            bytes.len_bytes()
        )));
    }
    let read_only = bytes.readonly();
    let pointer = (bytes.buf_ptr() as *mut u8).wrapping_add(offset);
    if !(pointer as usize).is_multiple_of(size) {
        return Err(PyValueError::new_err(format!(
            "frombuffer: offset {offset} is not aligned for {}",
            dtype.0
        )));
    }
    // A memoryview pins the buffer as well, and to drop it never waits for the GIL: a core thread that holds a
    // lock may do so.
    let owner = PyMemoryView::from(buffer)?.unbind();
    // SAFETY: the buffer is pinned by the owner, bounds and alignment were checked above.
    let storage = unsafe { Storage::foreign(pointer, numel * size, !read_only, owner) };
    let array = Array::from_storage(Arc::new(storage), Layout::contiguous(&[numel]), dtype.0).py(py)?;
    let tensor = Tensor::constant(array);
    tensor.set_requires_grad(requires_grad).py(py)?;
    Ok(Out(tensor))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(from_numpy, m)?)?;
    m.add_function(wrap_pyfunction!(frombuffer, m)?)
}
