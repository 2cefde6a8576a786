//! Arguments from Python: operands, numbers, shapes, dims, dtypes.

use crate::dtype::PyDType;
use crate::error::{integer_range, IntoPy};
use crate::tensor::PyTensor;
use firesteel::{DType, Scalar, Tensor};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use smallvec::SmallVec;

/// Extents or dims as users write them.
pub type Ints = SmallVec<[isize; 4]>;

/// A tensor or a number.
#[derive(Debug, Clone)]
pub enum Operand {
    /// A tensor.
    Tensor(Tensor),
    /// A Python (or NumPy) number.
    Scalar(Scalar),
}

impl Operand {
    /// The operand as a tensor beside `other`.
    #[inline]
    pub fn beside(self, other: &Tensor) -> firesteel::Result<Tensor> {
        match self {
            Operand::Tensor(tensor) => Ok(tensor),
            Operand::Scalar(scalar) => other.scalar_beside(scalar),
        }
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        match self {
            Operand::Tensor(tensor) => tensor.numel(),
            Operand::Scalar(_) => 1,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Operand {
    type Error = PyErr;
    #[inline]
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Given::extract(value).map(Operand::from)
    }
}

/// An operand as it stands in a call: an object has not been asked for its tensor yet.
#[derive(Debug, Clone)]
pub enum Given<'a> {
    /// A tensor's object.
    Object(&'a PyTensor),
    /// Anything else.
    Operand(Operand),
}

impl From<Given<'_>> for Operand {
    #[inline]
    fn from(given: Given<'_>) -> Self {
        match given {
            Given::Object(object) => Operand::Tensor(object.tensor()),
            Given::Operand(operand) => operand,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'a> {
    type Error = PyErr;
    #[inline]
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(tensor) = value.cast_exact::<PyTensor>() {
            return Ok(Given::Object(tensor.get()));
        }
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return Ok(Given::Operand(Operand::Scalar(Scalar::Float(float.extract()?))));
        }
        if let Ok(tensor) = value.cast::<PyTensor>() {
            return Ok(Given::Object(tensor.get()));
        }
        if let Some(scalar) = scalar_of(&value) {
            return Ok(Given::Operand(Operand::Scalar(scalar)));
        }
        match crate::numpy::array_of(&value) {
            Ok(Some(array)) => Ok(Given::Operand(Operand::Tensor(Tensor::constant(array)))),
            Ok(None) => Err(not_a_number("a Tensor or a number", &value)?),
            Err(error) => Err(error),
        }
    }
}

/// The right side of an operator. Python takes an argument that does not extract for "ask the other operand",
/// which is wrong for a number that is too large: that error waits in here.
#[derive(Debug)]
pub struct Right<'a>(Result<Given<'a>, Box<PyErr>>); // boxed: it is returned and moved by every operator

impl<'a> Right<'a> {
    /// The operand, or the error that was kept.
    #[inline]
    pub fn get(self) -> PyResult<Given<'a>> {
        self.0.map_err(|error| *error)
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Right<'a> {
    type Error = PyErr;
    #[inline]
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match Given::extract(value) {
            Ok(operand) => Ok(Self(Ok(operand))),
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                Ok(Self(Err(Box::new(error))))
            }
            Err(error) => Err(error),
        }
    }
}

/// A number, if it is one: Python's, or one that converts like NumPy's scalars.
#[inline]
pub fn scalar_of(value: &Bound<'_, PyAny>) -> Option<Scalar> {
    python_scalar(value).or_else(|| numpy_scalar(value))
}

#[inline]
fn python_scalar(value: &Bound<'_, PyAny>) -> Option<Scalar> {
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Some(Scalar::Float(float.extract().ok()?));
    }
    if let Ok(boolean) = value.cast::<PyBool>() {
        return Some(Scalar::Bool(boolean.is_true()));
    }
    if let Ok(int) = value.cast::<PyInt>() {
        return match int.extract::<i64>() {
            Ok(int) => Some(Scalar::Int(int)),
            Err(_) => None, // see `not_a_number`
        };
    }
    if let Ok(float) = value.cast::<PyFloat>() {
        return Some(Scalar::Float(float.extract().ok()?));
    }
    None
}

/// NumPy's scalars have `dtype` and `item`, but no length.
fn numpy_scalar(value: &Bound<'_, PyAny>) -> Option<Scalar> {
    let py = value.py();
    if value.cast::<PyTensor>().is_ok() || value.cast::<PyList>().is_ok() || value.cast::<PyTuple>().is_ok() {
        return None;
    }
    let shape = value.getattr_opt(intern!(py, "shape")).ok()??;
    if !shape.cast::<PyTuple>().is_ok_and(|shape| shape.is_empty()) {
        return None;
    }
    python_scalar(&value.call_method0(intern!(py, "item")).ok()?)
}

/// A number argument, for functions that take nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub Scalar);

impl<'a, 'py> FromPyObject<'a, 'py> for Number {
    type Error = PyErr;
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Some(scalar) = scalar_of(&value) {
            return Ok(Number(scalar));
        }
        if let Ok(tensor) = value.cast::<PyTensor>() {
            let tensor = &tensor.get().tensor();
            if tensor.numel() == 1 && !tensor.requires_grad() {
                let array = tensor.array();
                return Ok(Number(if tensor.dtype().is_float() {
                    Scalar::Float(array.item_f64().py(value.py())?)
                } else {
                    Scalar::Int(array.item_i64().py(value.py())?)
                }));
            }
        }
        Err(not_a_number("a number", &value)?)
    }
}

/// What to say of a value that [`scalar_of`] takes for no number.
#[cold]
pub fn not_a_number(expected: &str, value: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    if value.cast::<PyInt>().is_ok() {
        let text = format!("int too big to convert: {value} does not fit into 64 bits; use a float");
        return Ok(integer_range(value.py(), text));
    }
    Ok(PyTypeError::new_err(format!("expected {expected}, not {}", value.get_type().name()?)))
}

/// One integer: Python's, NumPy's, or a tensor with one element.
#[inline]
pub fn int_of(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    if let Ok(int) = value.cast_exact::<PyInt>() {
        if let Ok(int) = int.extract() {
            return Ok(int);
        }
    }
    int_otherwise(value)
}

#[cold]
fn int_otherwise(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    match value.extract::<isize>() {
        Ok(int) if value.cast::<PyFloat>().is_err() => Ok(int),
        _ => {
            let name = value.get_type().name()?;
            if value.cast::<PyInt>().is_ok() {
                let text = format!("Overflow when unpacking long long: {value} does not fit into 64 bits");
                return Err(integer_range(value.py(), text + "; use a smaller number"));
            }
            Err(PyTypeError::new_err(format!("expected an int or a tuple of ints, not {name}")))
        }
    }
}

/// An argument that is one integer; a bool is none, as where `keepdim` took the place of `dim`.
#[inline]
pub fn dim_of(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    refuse_bool(value)?;
    int_of(value)
}

/// The same, or None.
pub fn optional_dim_of(value: &Bound<'_, PyAny>) -> PyResult<Option<isize>> {
    if value.is_none() {
        return Ok(None);
    }
    dim_of(value).map(Some)
}

#[inline]
fn refuse_bool(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.cast::<PyBool>().is_ok() {
        return Err(PyTypeError::new_err(format!(
            "expected an int, not bool ({value}); name keepdim, or use an int"
        )));
    }
    Ok(())
}

/// A float argument: any number, or a tensor with one element.
#[inline]
pub fn float_of(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return float.extract();
    }
    if let Ok(tensor) = value.cast::<PyTensor>() {
        let tensor = &tensor.get().tensor();
        if tensor.numel() != 1 {
            return Err(PyTypeError::new_err(format!(
                "expected a float, not a Tensor of shape {:?}; use a number",
                tensor.shape()
            )));
        }
    }
    value.extract()
}

/// Raises unless the device is the CPU.
pub fn check_device(py: Python<'_>, device: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let Some(device) = device else { return Ok(()) };
    let class = CLASS.import(py, "firesteel._types", "device")?;
    // There are no objects of other devices, and `to("cpu")` is called for every batch.
    let is_cpu =
        device.get_type().is(class) || device.cast_exact::<PyString>().is_ok_and(|name| name == "cpu");
    if !is_cpu {
        class.call1((device,))?;
    }
    Ok(())
}

/// `f(2, 3)` or `f((2, 3))` or `f([2, 3])`: the integers.
#[inline]
pub fn ints_of_args(args: &Bound<'_, PyTuple>) -> PyResult<Ints> {
    if args.len() == 1 {
        return ints_of(&args.get_item(0)?);
    }
    ints_in(args)
}

// A loop: collecting `Result`s into a SmallVec costs as much as making a tensor.
#[inline]
fn ints_in(tuple: &Bound<'_, PyTuple>) -> PyResult<Ints> {
    let mut ints = Ints::new();
    if let Ok(first) = tuple.get_borrowed_item(0) {
        refuse_bool(&first)?;
    }
    for item in tuple.iter_borrowed() {
        ints.push(int_of(&item)?);
    }
    Ok(ints)
}

/// The integers of a method that is called as `f(2, 3)`, as `f((2, 3))` or, by its keyword, as `f(name=(2, 3))`.
#[inline]
pub fn ints_called(
    method: &str,
    name: &str,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Ints> {
    if args.is_empty() || kwargs.is_some() {
        return ints_of(&keyword(method, name, args, kwargs)?);
    }
    ints_of_args(args)
}

/// The value of the one argument of `method` that may be named, where it must be.
#[cold]
fn keyword<'py>(
    method: &str,
    name: &str,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut found = None;
    for (key, value) in kwargs.into_iter().flatten() {
        let key: String = key.extract()?;
        if key != name {
            let problem =
                format!("{method}() got an unexpected keyword argument '{key}'; its argument is '{name}'");
            return Err(PyTypeError::new_err(problem));
        }
        found = Some(value);
    }
    match found {
        Some(_) if !args.is_empty() => Err(PyTypeError::new_err(format!(
            "{method}() got multiple values for argument '{name}'; give it once"
        ))),
        Some(value) => Ok(value),
        None => Err(PyTypeError::new_err(format!(
            "{method}() missing 1 required positional argument: '{name}'; give ints or a tuple of them"
        ))),
    }
}

/// The shape of a call such as `zeros(2, 3)`, `zeros((2, 3))` or `zeros(size=(2, 3))`.
pub fn size_of(op: &str, args: &Bound<'_, PyTuple>, size: Option<&Bound<'_, PyAny>>) -> PyResult<Ints> {
    match size {
        Some(size) => ints_of(size),
        None if args.is_empty() => Err(PyTypeError::new_err(format!(
            "{op}: missing 1 required positional argument: 'size'; use () for a tensor without dims"
        ))),
        None => ints_of_args(args),
    }
}

/// One integer or a sequence of them.
#[inline]
pub fn ints_of(value: &Bound<'_, PyAny>) -> PyResult<Ints> {
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return ints_in(tuple);
    }
    if let Ok(list) = value.cast::<PyList>() {
        if let Ok(first) = list.get_item(0) {
            refuse_bool(&first)?;
        }
        return list.iter().map(|item| int_of(&item)).collect();
    }
    Ok(Ints::from_elem(dim_of(value)?, 1))
}

/// A `dim=` argument: nothing, one dim or several.
#[derive(Debug, Clone, Default)]
pub struct DimArg(pub Option<Ints>);

impl<'a, 'py> FromPyObject<'a, 'py> for DimArg {
    type Error = PyErr;
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(DimArg(None));
        }
        Ok(DimArg(Some(ints_of(&value)?)))
    }
}

/// Extents of a new tensor: none may be negative.
pub fn shape_of(op: &str, extents: &[isize]) -> PyResult<SmallVec<[usize; 4]>> {
    extents
        .iter()
        .map(|&extent| {
            usize::try_from(extent).map_err(|_| {
                pyo3::exceptions::PyRuntimeError::new_err(format!(
                    "{op}: Trying to create tensor with negative dimension {extent}: {extents:?}; use 0 or more"
                ))
            })
        })
        .collect()
}

/// A dtype argument.
#[derive(Debug, Clone, Copy)]
pub struct DTypeArg(pub DType);

impl DTypeArg {
    /// The dtype that `value` stands for, if it stands for one.
    pub fn of(value: &Bound<'_, PyAny>) -> Option<DType> {
        if let Ok(dtype) = value.cast::<PyDType>() {
            return Some(dtype.get().0);
        }
        // `dtype=float`: Python's types stand for torch's widest, as in PyTorch.
        let py = value.py();
        if value.is(py.get_type::<PyFloat>()) {
            Some(DType::F64)
        } else if value.is(py.get_type::<PyInt>()) {
            Some(DType::I64)
        } else if value.is(py.get_type::<PyBool>()) {
            Some(DType::Bool)
        } else {
            None
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for DTypeArg {
    type Error = PyErr;
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        DTypeArg::of(&value).map(DTypeArg).ok_or_else(|| {
            PyTypeError::new_err(format!("expected a dtype such as firesteel.float32, not {value:?}"))
        })
    }
}
