//! Numbers in Python's and NumPy's containers, as tensors.

use crate::convert::scalar_of;
use crate::error::{integer_range, IntoPy};
use crate::tensor::PyTensor;
use firesteel::dtype::Category;
use firesteel::{Array, DType, Scalar, Tensor};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};

/// Numbers in nested sequences, row by row.
struct Nested {
    shape: Vec<usize>,
    values: Vec<Scalar>,
    /// That of all values so far.
    dtype: Option<DType>,
    /// The dtype that was asked for.
    wanted: Option<DType>,
}

/// Nesting deeper than this is a sequence that contains itself.
const MAX_DEPTH: usize = 64;

impl Nested {
    fn read(&mut self, value: &Bound<'_, PyAny>, depth: usize, first: bool) -> PyResult<()> {
        if let Some(scalar) = scalar_of(value) {
            if depth != self.shape.len() {
                return Err(ragged(depth, self.shape[depth], 1));
            }
            self.push(scalar, dtype_of_number(value, scalar));
            return Ok(());
        }
        if let Ok(tensor) = value.cast::<PyTensor>() {
            let tensor = &tensor.get().tensor();
            if tensor.numel() == 1 && depth == self.shape.len() {
                self.push(item_of(tensor.array()).py(value.py())?, tensor.dtype());
                return Ok(());
            }
            return Err(PyValueError::new_err(format!(
                "tensor: only one element tensors can be converted to Python scalars, got shape {:?}; use stack",
                tensor.shape()
            )));
        }
        if value.cast::<PyInt>().is_ok() {
            if self.wanted.is_some_and(|dtype| dtype.is_float() || dtype == DType::Bool) {
                self.values.push(Scalar::Float(value.extract()?));
                return Ok(());
            }
            return Err(integer_range(
                value.py(),
                format!("tensor: Overflow when unpacking long long: {value} does not fit into 64 bits; use a float"),
            ));
        }
        let Some(len) = len_of_sequence(value) else {
            return Err(self.no_number(value, first && depth > 0)?);
        };
        if depth >= MAX_DEPTH {
            return Err(PyValueError::new_err(format!(
                "too many dimensions: data is nested deeper than {MAX_DEPTH}"
            )));
        }
        if first {
            self.shape.push(len);
        } else if depth >= self.shape.len() {
            return Err(ragged(depth, 1, len));
        } else if self.shape[depth] != len {
            return Err(ragged(depth, self.shape[depth], len));
        }
        for i in 0..len {
            self.read(&value.get_item(i)?, depth + 1, first && i == 0)?;
        }
        Ok(())
    }

    /// What PyTorch raises for data that is neither a number nor a sequence.
    #[cold]
    fn no_number(&self, value: &Bound<'_, PyAny>, is_first_inside: bool) -> PyResult<PyErr> {
        let name = value.get_type().name()?;
        let takes = "tensor() takes numbers, bools and nested sequences of them";
        let is_str = value.cast::<PyString>().is_ok();
        Ok(if is_str && is_first_inside {
            PyValueError::new_err(format!("tensor: too many dimensions '{name}'; {takes}"))
        } else if is_str || value.cast::<PyBytes>().is_ok() {
            PyTypeError::new_err(format!("tensor: invalid data type '{name}'; {takes}"))
        } else if let Some(dtype) = self.wanted {
            PyTypeError::new_err(format!("tensor: must be a number for {dtype}, not {name}; {takes}"))
        } else {
            PyRuntimeError::new_err(format!("tensor: Could not infer dtype of {name}; {takes}"))
        })
    }

    fn push(&mut self, value: Scalar, dtype: DType) {
        self.values.push(value);
        self.dtype = Some(self.dtype.map_or(dtype, |others| others.promote(dtype)));
    }
}

/// The dtype of a number without a tensor: NumPy's numbers have one of their own, even where they are Python's.
fn dtype_of_number(value: &Bound<'_, PyAny>, scalar: Scalar) -> DType {
    let is_pythons = value.cast_exact::<PyFloat>().is_ok() || value.cast_exact::<PyInt>().is_ok();
    let own = if is_pythons { None } else { crate::numpy::dtype_of_scalar(value) };
    own.unwrap_or(match scalar {
        Scalar::Bool(_) => DType::Bool,
        Scalar::Int(_) => DType::I64,
        Scalar::Float(_) => DType::F32,
    })
}

/// The element of an array of one.
fn item_of(array: &Array) -> firesteel::Result<Scalar> {
    Ok(match array.dtype().category() {
        Category::Float => Scalar::Float(array.item_f64()?),
        Category::Int => Scalar::Int(array.item_i64()?),
        Category::Bool => Scalar::Bool(array.item_i64()? != 0),
    })
}

/// Number of items, unless it is no sequence: text, or items without an order.
fn len_of_sequence(value: &Bound<'_, PyAny>) -> Option<usize> {
    if value.cast::<PyList>().is_err() && value.cast::<PyTuple>().is_err() {
        let is_text = value.cast::<PyString>().is_ok() || value.cast::<PyBytes>().is_ok();
        let is_set = value.cast::<PySet>().is_ok() || value.cast::<PyFrozenSet>().is_ok();
        if is_text || is_set || value.cast::<PyDict>().is_ok() {
            return None;
        }
    }
    value.len().ok()
}

fn ragged(depth: usize, expected: usize, found: usize) -> PyErr {
    PyValueError::new_err(format!(
        "tensor: expected sequence of length {expected} at dim {depth} (got {found}); all rows must have one length"
    ))
}

/// The most frequent data, a float or an int of Python's for a tensor of its kind, without the questions that tell
/// it from all else: `tensor(3.0)` took 516 ns with them, and takes 105.
fn plain_number(data: &Bound<'_, PyAny>, dtype: Option<DType>) -> Option<firesteel::Result<Array>> {
    if let Ok(float) = data.cast_exact::<PyFloat>() {
        // 16-bit floats are rounded to float32 first, as all others here.
        let dtype = dtype.unwrap_or(DType::F32);
        return matches!(dtype, DType::F32 | DType::F64)
            .then(|| Scalar::Float(float.value()).to_array(dtype));
    }
    let int = data.cast_exact::<PyInt>().ok()?;
    let dtype = dtype.unwrap_or(DType::I64);
    (dtype == DType::I64).then(|| int.extract().ok().map(Array::scalar::<i64>))?
}

/// A new tensor from numbers and nested sequences of them.
pub fn tensor_of(data: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    let py = data.py();
    if let Some(number) = plain_number(data, dtype) {
        return Ok(Tensor::constant(number.py(py)?));
    }
    if let Ok(tensor) = data.cast::<PyTensor>() {
        let tensor = tensor.get().tensor().detach();
        let array = match dtype {
            Some(dtype) if dtype != tensor.dtype() => tensor.array().to_dtype(dtype),
            _ => tensor.array().copied(),
        };
        return Ok(Tensor::constant(array.py(py)?));
    }
    if let Some(array) = crate::numpy::array_of(data)? {
        let array = array.copied().and_then(|array| array.to_dtype(dtype.unwrap_or(array.dtype())));
        return Ok(Tensor::constant(array.py(py)?));
    }
    let mut nested = Nested { shape: Vec::new(), values: Vec::new(), dtype: None, wanted: dtype };
    let is_scalar = scalar_of(data).is_some();
    nested.read(data, 0, !is_scalar)?;
    let dtype = dtype.or(nested.dtype).unwrap_or(DType::F32);
    if !dtype.is_float() {
        for value in &nested.values {
            value.check_fits("tensor", dtype).py(py)?;
        }
    }
    let array = if dtype.is_float() {
        let values: Vec<f64> = nested.values.iter().map(|v| v.to_f64()).collect();
        Array::from_slice(&values, &nested.shape)
    } else {
        let values = nested.values.iter().map(|v| match *v {
            Scalar::Int(i) => i,
            Scalar::Bool(b) => i64::from(b),
            Scalar::Float(f) if dtype == DType::Bool => i64::from(f != 0.0),
            Scalar::Float(f) => f as i64,
        });
        let values: Vec<i64> = values.collect();
        Array::from_slice(&values, &nested.shape)
    };
    Ok(Tensor::constant(array.and_then(|array| array.to_dtype(dtype)).py(py)?))
}
