//! `firesteel.float32` and its like.

use firesteel::DType;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Type of a tensor's elements.
#[pyclass(frozen, eq, hash, name = "dtype", module = "firesteel")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PyDType(pub DType);

static OBJECTS: PyOnceLock<Vec<Py<PyDType>>> = PyOnceLock::new();

/// The one object of `dtype`.
pub fn object(py: Python<'_>, dtype: DType) -> Py<PyDType> {
    let objects = OBJECTS.get_or_init(py, || {
        DType::ALL.iter().map(|&d| Py::new(py, PyDType(d)).expect("a small object")).collect()
    });
    objects[dtype as usize].clone_ref(py)
}

#[pymethods]
impl PyDType {
    fn __repr__(&self) -> String {
        // PyTorch's own spelling: programs take it apart.
        format!("torch.{}", self.0.name())
    }

    fn __reduce__(&self) -> &'static str {
        self.0.name()
    }

    /// Whether values are floating-point numbers.
    #[getter]
    fn is_floating_point(&self) -> bool {
        self.0.is_float()
    }

    /// Whether values are complex numbers: never.
    #[getter]
    fn is_complex(&self) -> bool {
        false
    }

    /// Whether negative values can be represented.
    #[getter]
    fn is_signed(&self) -> bool {
        !matches!(self.0, DType::U8 | DType::Bool)
    }

    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.size()
    }
}

/// Adds the class, the dtypes and their aliases.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add_class::<PyDType>()?;
    for dtype in DType::ALL {
        m.add(dtype.name(), object(py, dtype))?;
    }
    let aliases = [
        ("float", DType::F32),
        ("double", DType::F64),
        ("half", DType::F16),
        ("int", DType::I32),
        ("long", DType::I64),
    ];
    for (alias, dtype) in aliases {
        m.add(alias, object(py, dtype))?;
    }
    Ok(())
}
