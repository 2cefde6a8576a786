//! Errors of the core as Python exceptions that are also what PyTorch raises.

use firesteel::{Error, Kind};
use pyo3::exceptions::{
    PyIndexError, PyMemoryError, PyNotImplementedError, PyOSError, PyOverflowError, PyRuntimeError,
    PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

/// The exception classes that have two of PyTorch's as bases, by kind.
struct Classes {
    shape: Py<PyType>,
    dtype: Py<PyType>,
    index: Py<PyType>,
    value: Py<PyType>,
    autograd: Py<PyType>,
    integer: Py<PyType>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn class<'py>(py: Python<'py>, name: &str, doc: &str, bases: &[Bound<'py, PyType>]) -> PyResult<Py<PyType>> {
    let body = pyo3::types::PyDict::new(py);
    body.set_item("__doc__", doc)?;
    body.set_item("__module__", "firesteel")?;
    let made = py.get_type::<PyType>().call1((name, PyTuple::new(py, bases)?, body))?;
    Ok(made.cast_into::<PyType>()?.unbind())
}

/// Creates the exception classes and adds them to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let runtime = py.get_type::<PyRuntimeError>();
    let value = py.get_type::<PyValueError>();
    let type_ = py.get_type::<PyTypeError>();
    // Also a RuntimeError: PyTorch raises now the one, now the other.
    let not_implemented = py.get_type::<PyNotImplementedError>();
    let classes = Classes {
        shape: class(py, "ShapeError", "Shapes do not fit.", &[runtime.clone(), value.clone()])?,
        dtype: class(
            py,
            "DTypeError",
            "An operation is not defined for these dtypes.",
            &[not_implemented, type_.clone()],
        )?,
        index: class(
            py,
            "IndexRangeError",
            "A dim or an index lies outside its range.",
            &[py.get_type::<PyIndexError>(), runtime.clone()],
        )?,
        value: class(
            py,
            "ArgumentError",
            "An argument has an impossible value.",
            &[runtime.clone(), value.clone()],
        )?,
        // PyTorch raises each of the four, by where the integer stands.
        integer: class(
            py,
            "IntegerRangeError",
            "An integer does not fit into 64 bits.",
            &[py.get_type::<PyOverflowError>(), runtime.clone(), value, type_],
        )?,
        autograd: class(py, "AutogradError", "The graph cannot be recorded or walked as asked.", &[runtime])?,
    };
    m.add("ShapeError", &classes.shape)?;
    m.add("DTypeError", &classes.dtype)?;
    m.add("IndexRangeError", &classes.index)?;
    m.add("ArgumentError", &classes.value)?;
    m.add("AutogradError", &classes.autograd)?;
    m.add("IntegerRangeError", &classes.integer)?;
    let _ = CLASSES.set(py, classes);
    Ok(())
}

/// The exception for an error of the core; a callback's own exception comes out as it was.
#[cold]
pub fn to_py(py: Python<'_>, error: Error) -> PyErr {
    let text = error.message().to_owned();
    let note = error.note().map(str::to_owned);
    let of = |class: fn(&Classes) -> &Py<PyType>| match CLASSES.get(py) {
        Some(classes) => PyErr::from_type(class(classes).bind(py).clone(), (text.clone(),)),
        None => PyRuntimeError::new_err(text.clone()),
    };
    match error.kind() {
        Kind::Shape => of(|c| &c.shape),
        Kind::DType => of(|c| &c.dtype),
        Kind::Value => of(|c| &c.value),
        Kind::Autograd => of(|c| &c.autograd),
        Kind::Index => of(|c| &c.index),
        Kind::Type => PyTypeError::new_err(text),
        Kind::Memory => PyMemoryError::new_err(text),
        Kind::Io => PyOSError::new_err(text),
        Kind::External => match error.into_payload().and_then(|p| p.downcast::<PyErr>().ok()) {
            Some(exception) => noted(py, *exception, note),
            None => PyRuntimeError::new_err(text),
        },
        _ => PyRuntimeError::new_err(text),
    }
}

/// A callback's exception with what the core has to say of it.
fn noted(py: Python<'_>, exception: PyErr, note: Option<String>) -> PyErr {
    if let Some(note) = note {
        // An exception that takes no note comes out without one.
        let _ = exception.value(py).call_method1(intern!(py, "add_note"), (note.trim_start(),));
    }
    exception
}

/// The exception for a Python integer that does not fit into 64 bits.
#[cold]
pub fn integer_range(py: Python<'_>, text: String) -> PyErr {
    match CLASSES.get(py) {
        Some(classes) => PyErr::from_type(classes.integer.bind(py).clone(), (text,)),
        None => PyOverflowError::new_err(text),
    }
}

/// `result.py(py)?`: the core's result as Python's.
pub trait IntoPy<T> {
    /// Maps the error.
    fn py(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> IntoPy<T> for firesteel::Result<T> {
    #[inline]
    fn py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_py(py, error))
    }
}
