//! Functions of the module that are methods of `Tensor`: `exp(x)` and `exp(input=x)` are `x.exp()`.

use super::{out, PyTensor};
use crate::convert::{not_a_number, scalar_of};
use crate::error::IntoPy;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

// A method of `Tensor` as a function. No doc comment: it would hide each function's own `__doc__`.
#[pyclass(frozen, name = "builtin_function", module = "firesteel")]
#[derive(Debug)]
pub struct Function {
    name: &'static str,
    method: Py<PyAny>,
}

/// What PyTorch calls the first argument of functions.
const FIRST: [&str; 3] = ["input", "self", "tensor"];

/// The functions whose first argument may be a number, as in PyTorch.
const NUMBER_FIRST: [&str; 13] = [
    "add",
    "sub",
    "mul",
    "multiply",
    "div",
    "true_divide",
    "floor_divide",
    "remainder",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_left_shift",
    "bitwise_right_shift",
];

impl Function {
    /// The function of `method`, an unbound method of `Tensor`.
    pub fn new(name: &'static str, method: Py<PyAny>) -> Self {
        Self { name, method }
    }

    /// The call without `out`, then its result written there.
    #[cold]
    fn call_with_out<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        out: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        out::expect_takes_out(self.name)?;
        let rest = kwargs.copy()?;
        rest.del_item(intern!(args.py(), "out"))?;
        let result = self.__call__(args, Some(&rest))?;
        out::written(self.name, &result, out)
    }

    /// The call with its first argument found among the keywords, or made of a number.
    #[cold]
    fn call_otherwise<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, method) = (args.py(), self.method.bind(args.py()));
        if let Ok(first) = args.get_item(0) {
            let other = args.get_item(1).ok().or_else(|| kwargs?.get_item(intern!(py, "other")).ok()?);
            if first.is_instance_of::<PyInt>() && scalar_of(&first).is_none() {
                return Err(not_a_number("a Tensor or a number", &first)?);
            }
            if let (Some(scalar), Some(Ok(other)), true) = (
                scalar_of(&first),
                other.as_ref().map(|x| x.cast::<PyTensor>()),
                NUMBER_FIRST.contains(&self.name),
            ) {
                let number = other.get().tensor().scalar_beside(scalar).py(py)?;
                let rest = args.get_slice(1, args.len());
                let all =
                    std::iter::once(super::Out(number).into_pyobject(py)?.into_any()).chain(rest.iter());
                return method.call(PyTuple::new(py, all.collect::<Vec<_>>())?, kwargs);
            }
            return Err(PyTypeError::new_err(format!(
                "{}(): argument 'input' (position 1) must be Tensor, not {}",
                self.name,
                first.get_type().name()?
            )));
        }
        for name in FIRST {
            let Some(first) = kwargs.and_then(|kwargs| kwargs.get_item(name).ok()?) else { continue };
            let rest = kwargs.map(|kwargs| kwargs.copy()).transpose()?;
            if let Some(rest) = &rest {
                rest.del_item(name)?;
            }
            return self.__call__(&PyTuple::new(py, [first])?, rest.as_ref());
        }
        Err(PyTypeError::new_err(format!("{}() missing 1 required positional argument: 'input'", self.name)))
    }
}

#[pymethods]
impl Function {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(kwargs) = kwargs {
            if let Some(out) = kwargs.get_item(intern!(args.py(), "out"))? {
                return self.call_with_out(args, kwargs, &out);
            }
        }
        match args.get_borrowed_item(0) {
            Ok(first) if first.cast::<PyTensor>().is_ok() => self.method.bind(args.py()).call(args, kwargs),
            _ => self.call_otherwise(args, kwargs),
        }
    }

    /// As the functions of a module do, it stays itself as an attribute of a class.
    fn __get__<'py>(
        slf: Bound<'py, Self>,
        _instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> Bound<'py, Self> {
        slf
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.method.clone_ref(py)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn __doc__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.method.bind(py).getattr(intern!(py, "__doc__"))
    }

    /// The method's signature, its first argument called `input`, and `out` where it is taken.
    #[getter]
    fn __signature__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inspect = py.import("inspect")?;
        let signature = inspect.getattr("signature")?.call1((&self.method,))?;
        let mut parameters = Vec::new();
        for (i, parameter) in signature.getattr("parameters")?.call_method0("values")?.try_iter()?.enumerate()
        {
            let renamed = PyDict::new(py);
            if i == 0 {
                renamed.set_item("name", FIRST[0])?;
                renamed.set_item("kind", inspect.getattr("Parameter")?.getattr("POSITIONAL_OR_KEYWORD")?)?;
            }
            parameters.push(parameter?.call_method("replace", (), Some(&renamed))?);
        }
        if out::takes_out(self.name) {
            let class = inspect.getattr("Parameter")?;
            let default = PyDict::new(py);
            default.set_item("default", py.None())?;
            parameters.push(class.call(("out", class.getattr("KEYWORD_ONLY")?), Some(&default))?);
        }
        let replaced = PyDict::new(py);
        replaced.set_item("parameters", parameters)?;
        signature.call_method("replace", (), Some(&replaced))
    }

    fn __repr__(&self) -> String {
        format!("<built-in function {}>", self.name)
    }

    /// Pickled by name.
    fn __reduce__(&self) -> &'static str {
        self.name
    }
}
