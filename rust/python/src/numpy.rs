//! NumPy both ways without copying, through `__array_interface__`; NumPy itself is imported only when asked for.

use crate::error::IntoPy;
use crate::tensor::Out;
use firesteel::layout::{Dims, Strides};
use firesteel::storage::Storage;
use firesteel::{Array, DType, Layout, Tensor};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMemoryView, PyTuple, PyType};
use std::ffi::CStr;

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

/// The dtype of a buffer's elements, whose format is in the letters of Python's module `struct`.
fn dtype_of_format(format: &CStr, len_bytes: usize) -> Option<DType> {
    // A sign before the letter says native order; arrays that are not aligned have one.
    let letter = format.to_bytes();
    let letter = letter.strip_prefix(b"=").or(letter.strip_prefix(b"^")).unwrap_or(letter);
    Some(match (letter, len_bytes) {
        (b"?", 1) => DType::Bool,
        (b"B", 1) => DType::U8,
        (b"i" | b"l", 4) => DType::I32,
        (b"l" | b"q", 8) => DType::I64,
        (b"e", 2) => DType::F16,
        (b"f", 4) => DType::F32,
        (b"d", 8) => DType::F64,
        _ => return None,
    })
}

/// The dtype of one of NumPy's numbers; nothing for other objects, and for dtypes that tensors lack.
pub fn dtype_of_scalar(value: &Bound<'_, PyAny>) -> Option<DType> {
    let py = value.py();
    let kind = value.getattr_opt(intern!(py, "dtype")).ok()??.getattr_opt(intern!(py, "str")).ok()??;
    let kind = kind.extract::<String>().ok()?;
    DType::ALL.into_iter().find(|&dtype| typestr(dtype).is_ok_and(|own| own == kind))
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

/// The memory of a NumPy array, shared; a copy of what else NumPy can read; nothing if it is no array.
///
/// The memory is asked for by the buffer protocol, which keeps it where it is. An address in
/// `__array_interface__` may be that of a temporary array, as NumPy's numbers give.
pub fn array_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Array>> {
    let py = value.py();
    if !value.get_type().hasattr(intern!(py, "__array_interface__"))? {
        return Ok(None);
    }
    if is_ndarray(value) {
        return shared(value).map(Some);
    }
    let copy = py.import(intern!(py, "numpy"))?.call_method1(intern!(py, "array"), (value,))?;
    shared(&copy).map(Some)
}

fn is_ndarray(value: &Bound<'_, PyAny>) -> bool {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(value.py(), "numpy", "ndarray").is_ok_and(|class| value.is_instance(class).unwrap_or(false))
}

fn shared(ndarray: &Bound<'_, PyAny>) -> PyResult<Array> {
    let py = ndarray.py();
    let unsupported = || {
        let name =
            ndarray.getattr("dtype").map_or_else(|_| String::from("unknown"), |dtype| dtype.to_string());
        PyTypeError::new_err(format!(
            "from_numpy: can't convert np.ndarray of type {name}. The only supported types are: float64, float32, \
             float16, int64, int32, uint8, and bool; use .astype(...)"
        ))
    };
    // `PyUntypedBuffer` takes no buffer without dims.
    let is_0d = ndarray.getattr(intern!(py, "ndim"))?.extract::<usize>()? == 0;
    let flat = if is_0d { ndarray.call_method1(intern!(py, "reshape"), (1,))? } else { ndarray.clone() };
    // Some dtypes have no format: their arrays give no buffer.
    let buffer = PyUntypedBuffer::get(&flat).map_err(|_| unsupported())?;
    if buffer.format().to_bytes().starts_with(b">") {
        return Err(PyValueError::new_err(
            "from_numpy: given numpy array has byte order different from the native byte order; use \
             array.astype(array.dtype.newbyteorder('='))",
        ));
    }
    let dtype = dtype_of_format(buffer.format(), buffer.item_size()).ok_or_else(unsupported)?;
    let dims = if is_0d { 0..0 } else { 0..buffer.dimensions() };
    let (shape, steps, size) =
        (&buffer.shape()[dims.clone()], &buffer.strides()[dims], dtype.size() as isize);
    let is_moved = |&(_, &extent): &(&isize, &usize)| extent > 1;
    if steps.iter().zip(shape).filter(is_moved).any(|(step, _)| step % size != 0) {
        return Err(PyValueError::new_err(format!(
            "from_numpy: given numpy array strides {steps:?} not a multiple of the element byte size {size}; use \
             array.copy()"
        )));
    }
    if steps.iter().zip(shape).filter(is_moved).any(|(&step, _)| step < 0) {
        return Err(PyValueError::new_err(format!(
            "from_numpy: At least one stride in the given numpy array is negative ({steps:?}), and tensors with \
             negative strides are not currently supported; use array.copy()"
        )));
    }
    let strides: Strides = steps.iter().map(|step| step / size).collect();
    let layout = Layout::new(Dims::from_slice(shape), strides, 0);
    let len_bytes = layout.span() * dtype.size();
    let mut pointer = buffer.buf_ptr().cast::<u8>();
    if len_bytes == 0 {
        pointer = std::ptr::NonNull::<u64>::dangling().as_ptr().cast();
    } else if !(pointer as usize).is_multiple_of(dtype.size()) {
        return Err(PyValueError::new_err(
            "from_numpy: the array's memory is not aligned to its elements; use array.copy()",
        ));
    }
    let read_only = buffer.readonly();
    // A memoryview pins the buffer as well, and to drop it never waits for the GIL: a core thread that holds a
    // lock may do so.
    let owner = PyMemoryView::from(&flat)?.unbind();
    // SAFETY: the exporter answers for memory of this shape and these strides, none of them negative; the
    // owner pins it; alignment was checked above.
    let storage = unsafe { Storage::foreign(pointer, len_bytes, !read_only, owner) };
    Array::from_storage(storage, layout, dtype).py(py)
}

/// from_numpy(ndarray) -> Tensor
///
/// A tensor that shares the memory of a NumPy array: a change of one is seen in the other.
#[pyfunction]
fn from_numpy(ndarray: &Bound<'_, PyAny>) -> PyResult<Out> {
    if !is_ndarray(ndarray) {
        return Err(PyTypeError::new_err(format!(
            "from_numpy: expected np.ndarray (got {}); use tensor() for other data",
            ndarray.get_type().name()?
        )));
    }
    shared(ndarray).map(Tensor::constant).map(Out)
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
    #[pyo3(from_py_with = crate::flag::wants_grad)] requires_grad: bool,
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
    let owner = PyMemoryView::from(buffer)?.unbind();
    // SAFETY: the buffer is pinned by the owner, bounds and alignment were checked above.
    let storage = unsafe { Storage::foreign(pointer, numel * size, !read_only, owner) };
    let array = Array::from_storage(storage, Layout::contiguous(&[numel]), dtype.0).py(py)?;
    let tensor = Tensor::constant(array);
    tensor.set_requires_grad(requires_grad).py(py)?;
    Ok(Out(tensor))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(from_numpy, m)?)?;
    m.add_function(wrap_pyfunction!(frombuffer, m)?)
}
