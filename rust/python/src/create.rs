//! New tensors from data, shapes and numbers.

use crate::convert::{check_device, dim_of, ints_of, ints_of_args, shape_of, size_of, DTypeArg, Number};
use crate::data::tensor_of;
use crate::enter::enter;
use crate::error::IntoPy;
use crate::flag;
use crate::format;
use crate::tensor::{delivered, dtype_for, Out, PyTensor};
use firesteel::format::MemoryFormat;
use firesteel::{DType, Scalar, Tensor};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

/// A tensor of the core on its way into a new object of a subclass: only this module can make one.
#[pyclass(frozen)]
struct Wrapped(Tensor);

/// A new object of `cls`, a subclass of `Tensor`, around `tensor`.
pub fn with_class<'py>(cls: &Bound<'py, PyType>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let py = cls.py();
    let new = py.get_type::<PyTensor>().getattr(intern!(py, "__new__"))?;
    let object = new.call1((cls, Py::new(py, Wrapped(tensor))?))?;
    crate::tensor::register_object(object.cast::<PyTensor>()?)?;
    Ok(object)
}

/// `Tensor(...)`: PyTorch's old constructor, a shape or data, always float32.
pub fn legacy_tensor(
    py: Python<'_>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Tensor> {
    if let Some(kwargs) = kwargs.filter(|kwargs| !kwargs.is_empty()) {
        return Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "Tensor: unexpected keyword arguments {}; use tensor(data, dtype=...)",
            kwargs.keys()
        )));
    }
    if args.is_empty() {
        return Tensor::empty(&[0], DType::F32).py(py);
    }
    let first = args.get_item(0)?;
    if let Ok(wrapped) = first.cast::<Wrapped>() {
        return Ok(wrapped.get().0.clone());
    }
    if let Ok(tensor) = first.cast::<PyTensor>() {
        return Ok(tensor.get().tensor().detach());
    }
    if first.cast::<pyo3::types::PyInt>().is_ok() {
        let shape = shape_of("Tensor", &ints_of_args(args)?)?;
        return Tensor::empty(&shape, DType::F32).py(py);
    }
    tensor_of(&first, Some(DType::F32))
}

/// A leaf with the options that all creation functions share.
fn finish(py: Python<'_>, tensor: Tensor, requires_grad: bool) -> PyResult<Out> {
    if requires_grad {
        tensor.set_requires_grad(true).py(py)?;
    }
    Ok(Out(tensor))
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
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    #[pyo3(from_py_with = flag::pin_memory)] pin_memory: bool,
) -> PyResult<Out> {
    let _ = pin_memory;
    check_device(py, device)?;
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
    let py = data.py();
    check_device(py, device)?;
    let wanted = dtype.map(|d| d.0);
    if let Ok(tensor) = data.cast::<PyTensor>() {
        let tensor = &tensor.get().tensor();
        return match wanted {
            Some(dtype) if dtype != tensor.dtype() => {
                Ok(Out(tensor.to_dtype(dtype).py(py)?).into_pyobject(py)?.into_any())
            }
            _ => Ok(data.clone()),
        };
    }
    let made = match crate::numpy::array_of(data)? {
        Some(array) => Tensor::constant(array.to_dtype(wanted.unwrap_or(array.dtype())).py(py)?),
        None => tensor_of(data, wanted)?,
    };
    Ok(Out(made).into_pyobject(py)?.into_any())
}

/// Functions of a shape: `name(*size, *, dtype=None, device=None, requires_grad=False)`.
macro_rules! of_shape {
    ($($(#[doc = $doc:literal])+ $name:ident |$shape:ident, $dtype:ident| $make:expr, |$model:ident| $like:expr;)*) => {
        $(
            $(#[doc = $doc])+
            #[pyfunction]
            #[pyo3(signature = (*args, size=None, dtype=None, device=None, requires_grad=false, layout=None, pin_memory=false, memory_format=None, out=None))]
            fn $name<'py>(
                py: Python<'py>,
                args: &Bound<'py, PyTuple>,
                size: Option<&Bound<'py, PyAny>>,
                dtype: Option<DTypeArg>,
                device: Option<&Bound<'py, PyAny>>,
                #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
                layout: Option<&Bound<'py, PyAny>>,
                #[pyo3(from_py_with = flag::pin_memory)] pin_memory: bool,
                #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
                out: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let _ = (layout, pin_memory);
                check_device(py, device)?;
                let extents = size_of(stringify!($name), args, size)?;
                let $shape = shape_of(stringify!($name), &extents)?;
                let $dtype = dtype_for(stringify!($name), dtype, out)?.unwrap_or(DType::F32);
                let made = enter(py, numel_of(&$shape), || match memory_format {
                    None | Some(MemoryFormat::Contiguous) => $make,
                    Some(format) => {
                        let $model = Tensor::empty_in(&format.layout(&$shape)?, $dtype)?;
                        $like
                    }
                })?;
                delivered(py, stringify!($name), finish(py, made, requires_grad)?, out)
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
    zeros |shape, dtype| Tensor::zeros(&shape, dtype), |model| model.full_like(0i64, dtype);
    /// ones(*size, *, dtype=None, requires_grad=False) -> Tensor: ones.
    ones |shape, dtype| Tensor::ones(&shape, dtype), |model| model.full_like(1i64, dtype);
    /// empty(*size, *, dtype=None, requires_grad=False) -> Tensor: elements without a value yet.
    empty |shape, dtype| Tensor::empty(&shape, dtype), |model| Ok(model);
}

/// The tensor whose shape and order of dims a `*_like` function takes: `input`, or one in the format that is
/// asked for.
pub fn model_of(py: Python<'_>, input: &Tensor, format: Option<MemoryFormat>) -> PyResult<Tensor> {
    match format {
        // No memory: one element, repeated in contiguous order, has no order of its own.
        Some(MemoryFormat::Contiguous) if !input.array().is_contiguous() => {
            Tensor::empty(&[1], input.dtype()).and_then(|one| one.expand(input.shape())).py(py)
        }
        Some(format) if !format.is_of(input.array().layout()) => {
            format.layout(input.shape()).and_then(|layout| Tensor::empty_in(&layout, input.dtype())).py(py)
        }
        _ => Ok(input.clone()),
    }
}

/// Functions of another tensor's shape, order of dims and dtype.
macro_rules! like {
    ($($(#[doc = $doc:literal])+ $name:ident |$x:ident, $dtype:ident| $make:expr;)*) => {
        $(
            $(#[doc = $doc])+
            #[pyfunction]
            #[pyo3(signature = (input, *, dtype=None, device=None, requires_grad=false, layout=None, memory_format=None))]
            fn $name(
                py: Python<'_>,
                input: &Bound<'_, PyTensor>,
                dtype: Option<DTypeArg>,
                device: Option<&Bound<'_, PyAny>>,
                #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
                layout: Option<&Bound<'_, PyAny>>,
                #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
            ) -> PyResult<Out> {
                let _ = layout;
                check_device(py, device)?;
                let $x = &model_of(py, &input.get().tensor(), memory_format)?;
                let $dtype = dtype.map_or($x.dtype(), |d| d.0);
                finish(py, enter(py, $x.numel(), || $make)?, requires_grad)
            }
        )*
        fn register_like(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

like! {
    /// zeros_like(input, *, dtype=None, requires_grad=False) -> Tensor: zeros in the input's shape.
    zeros_like |x, dtype| x.full_like(0i64, dtype);
    /// ones_like(input, *, dtype=None, requires_grad=False) -> Tensor: ones in the input's shape.
    ones_like |x, dtype| x.full_like(1i64, dtype);
    /// empty_like(input, *, dtype=None, requires_grad=False) -> Tensor: elements without a value yet, in the input's shape.
    empty_like |x, dtype| x.empty_like(dtype);
}

/// full_like(input, fill_value, *, dtype=None, requires_grad=False) -> Tensor: every element `fill_value`.
#[pyfunction]
#[pyo3(signature = (input, fill_value, *, dtype=None, device=None, requires_grad=false, memory_format=None))]
fn full_like(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    fill_value: Number,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
) -> PyResult<Out> {
    check_device(py, device)?;
    let x = &model_of(py, &input.get().tensor(), memory_format)?;
    let dtype = dtype.map_or(x.dtype(), |d| d.0);
    finish(py, enter(py, x.numel(), || x.full_like(fill_value.0, dtype))?, requires_grad)
}

/// arange(start=0, end, step=1, *, dtype=None, requires_grad=False) -> Tensor: `start, start + step, ...` up to, not including, `end`.
#[pyfunction]
#[pyo3(signature = (*args, start=None, end=None, step=None, dtype=None, device=None, requires_grad=false, out=None))]
fn arange<'py>(
    py: Python<'py>,
    args: &Bound<'py, PyTuple>,
    start: Option<Number>,
    end: Option<Number>,
    step: Option<Number>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    let dtype = dtype_for("arange", dtype, out)?;
    let given = args.iter().map(|item| item.extract::<Number>()).collect::<PyResult<Vec<_>>>()?;
    let (first, second, third) = (given.first().copied(), given.get(1).copied(), given.get(2).copied());
    let (start, end, step) = match (given.len(), end) {
        (0, end) => (start, end, step),
        (1, Some(end)) => (first, Some(end), step),
        (1, None) => (start, first, step),
        _ => (first, second, third.or(step)),
    };
    let Some(end) = end else {
        return Err(pyo3::exceptions::PyTypeError::new_err("arange() missing required argument: end"));
    };
    let int = |value: i64| Scalar::Int(value);
    let start = start.map_or(int(0), |n| n.0);
    let step = step.map_or(int(1), |n| n.0);
    let all_int = [start, end.0, step].iter().all(|n| !matches!(n, Scalar::Float(_)));
    let dtype = dtype.unwrap_or(if all_int { DType::I64 } else { DType::F32 });
    delivered(
        py,
        "arange",
        finish(py, Tensor::arange(start, end.0, step, dtype).py(py)?, requires_grad)?,
        out,
    )
}

/// linspace(start, end, steps, *, dtype=None, requires_grad=False) -> Tensor: `steps` evenly spaced values, both ends included.
#[pyfunction]
#[pyo3(signature = (start, end, steps, *, dtype=None, device=None, requires_grad=false, out=None))]
fn linspace<'py>(
    py: Python<'py>,
    start: Number,
    end: Number,
    #[pyo3(from_py_with = dim_of)] steps: isize,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    let dtype = dtype_for("linspace", dtype, out)?;
    let steps = usize::try_from(steps).map_err(|_| {
        pyo3::exceptions::PyRuntimeError::new_err(format!(
            "linspace: number of steps must be non-negative, got {steps}; use 0 or more"
        ))
    })?;
    let dtype = dtype.unwrap_or(DType::F32);
    delivered(
        py,
        "linspace",
        finish(py, enter(py, steps, || Tensor::linspace(start.0, end.0, steps, dtype))?, requires_grad)?,
        out,
    )
}

/// eye(n, m=None, *, dtype=None, requires_grad=False) -> Tensor: ones on the diagonal of a matrix of zeros.
#[pyfunction]
#[pyo3(signature = (n, m=None, *, dtype=None, device=None, requires_grad=false, out=None))]
fn eye<'py>(
    py: Python<'py>,
    #[pyo3(from_py_with = dim_of)] n: isize,
    m: Option<isize>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    let dtype = dtype_for("eye", dtype, out)?;
    let shape = shape_of("eye", &[n, m.unwrap_or(n)])?;
    delivered(
        py,
        "eye",
        finish(py, Tensor::eye(shape[0], shape[1], dtype.unwrap_or(DType::F32)).py(py)?, requires_grad)?,
        out,
    )
}

#[pymethods]
impl PyTensor {
    /// new_tensor(data, *, dtype=None, requires_grad=False) -> Tensor: `data` as a tensor of this one's dtype.
    #[pyo3(signature = (data, *, dtype=None, device=None, requires_grad=false))]
    fn new_tensor(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        dtype: Option<DTypeArg>,
        device: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    ) -> PyResult<Out> {
        check_device(py, device)?;
        finish(py, tensor_of(data, Some(dtype.map_or(self.tensor().dtype(), |d| d.0)))?, requires_grad)
    }

    /// new_full(size, fill_value, *, dtype=None, requires_grad=False) -> Tensor: of this tensor's dtype.
    #[pyo3(signature = (size, fill_value, *, dtype=None, device=None, requires_grad=false))]
    fn new_full(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyAny>,
        fill_value: Number,
        dtype: Option<DTypeArg>,
        device: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    ) -> PyResult<Out> {
        check_device(py, device)?;
        let shape = shape_of("new_full", &ints_of(size)?)?;
        let dtype = dtype.map_or(self.tensor().dtype(), |d| d.0);
        finish(py, enter(py, numel_of(&shape), || Tensor::full(&shape, fill_value.0, dtype))?, requires_grad)
    }
}

/// Methods `x.new_zeros(*size)` and their like.
macro_rules! new_of_shape {
    ($($(#[doc = $doc:literal])+ $name:ident = $make:path;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])+
                #[pyo3(signature = (*args, size=None, dtype=None, device=None, requires_grad=false))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    args: &Bound<'_, PyTuple>,
                    size: Option<&Bound<'_, PyAny>>,
                    dtype: Option<DTypeArg>,
                    device: Option<&Bound<'_, PyAny>>,
                    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
                ) -> PyResult<Out> {
                    check_device(py, device)?;
                    let extents = size_of(stringify!($name), args, size)?;
                    let shape = shape_of(stringify!($name), &extents)?;
                    let dtype = dtype.map_or(self.tensor().dtype(), |d| d.0);
                    finish(py, enter(py, numel_of(&shape), || $make(&shape, dtype))?, requires_grad)
                }
            )*
        }
    };
}

new_of_shape! {
    /// new_zeros(*size, *, dtype=None, requires_grad=False) -> Tensor: zeros of this tensor's dtype.
    new_zeros = Tensor::zeros;
    /// new_ones(*size, *, dtype=None, requires_grad=False) -> Tensor: ones of this tensor's dtype.
    new_ones = Tensor::ones;
    /// new_empty(*size, *, dtype=None, requires_grad=False) -> Tensor: elements without a value yet, of this tensor's dtype.
    new_empty = Tensor::empty;
}

fn numel_of(shape: &[usize]) -> usize {
    shape.iter().fold(1usize, |n, &extent| n.saturating_mul(extent))
}

/// full(size, fill_value, *, dtype=None, requires_grad=False) -> Tensor: every element `fill_value`.
#[pyfunction]
#[pyo3(signature = (size, fill_value, *, dtype=None, device=None, requires_grad=false, out=None))]
fn full<'py>(
    py: Python<'py>,
    size: &Bound<'py, PyAny>,
    fill_value: Number,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    let dtype = dtype_for("full", dtype, out)?;
    let shape = shape_of("full", &ints_of(size)?)?;
    let value: Scalar = fill_value.0;
    let dtype = dtype.unwrap_or(value.default_dtype());
    delivered(
        py,
        "full",
        finish(py, enter(py, numel_of(&shape), || Tensor::full(&shape, value, dtype))?, requires_grad)?,
        out,
    )
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    register_of_shape(m)?;
    register_like(m)?;
    m.add_function(wrap_pyfunction!(full_like, m)?)?;
    m.add_function(wrap_pyfunction!(arange, m)?)?;
    m.add_function(wrap_pyfunction!(linspace, m)?)?;
    m.add_function(wrap_pyfunction!(eye, m)?)?;
    m.add_function(wrap_pyfunction!(tensor, m)?)?;
    m.add_function(wrap_pyfunction!(as_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(full, m)?)
}
