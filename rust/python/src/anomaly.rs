//! Anomaly mode: the switch, and how the line of the user's program is found.

use crate::enter::from_py;
use crate::error::IntoPy;
use crate::tensor::PyTensor;
use firesteel::autograd::anomaly::{check_interrupt, set_tracer, Anomalies, Known, Place};
use firesteel::{Result, Tensor};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// The Python function that finds the line.
static TRACER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// File, line, function, module and source of a place.
type PlaceParts = (String, u32, String, Option<String>, Option<String>);

/// The line that runs now. What goes wrong while it is looked for says nothing about the user's program; only
/// what is no `Exception` (Ctrl-C) is raised.
fn trace() -> Result<Option<Place>> {
    Python::attach(|py| {
        let Some(tracer) = TRACER.get(py) else { return Ok(None) };
        let found: Option<PlaceParts> = match tracer.bind(py).call0() {
            Ok(found) => found.extract().unwrap_or_default(),
            Err(error) if error.is_instance_of::<PyException>(py) => None,
            Err(error) => return Err(from_py(error)),
        };
        Ok(found.map(|(file, line, function, module, source)| Place { file, line, function, module, source }))
    })
}

/// Switches the mode, for all threads. `tracer` gives the parts of the place that runs now, or None.
#[pyfunction]
fn _set_anomalies(
    py: Python<'_>,
    enabled: bool,
    check_nan: bool,
    check_forward: bool,
    tracer: Py<PyAny>,
) -> PyResult<()> {
    TRACER.get_or_init(py, || tracer);
    set_tracer(trace);
    Anomalies { enabled, check_nan, check_forward }.set();
    check_interrupt().py(py)
}

/// Calls a function that is made of operations as if it were one: where results are checked, its own is, and not
/// those inside of it.
#[pyfunction]
fn _as_one<'py>(
    name: &str,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let tensor = |item: Bound<'py, PyAny>| item.cast::<PyTensor>().ok().map(|x| x.get().tensor());
    let given: Vec<Tensor> = args.iter().filter_map(tensor).collect();
    let known = Known::of(given.iter().map(Tensor::array)).py(py)?;
    let result = function.call1(args)?;
    if let (Some(known), Some(result)) = (known, tensor(result.clone())) {
        known.check(name, &[result.array()]).py(py)?;
    }
    Ok(result)
}

/// What is looked for: whether the mode is on, whether gradients and results are checked.
#[pyfunction]
fn _anomalies() -> (bool, bool, bool) {
    let Anomalies { enabled, check_nan, check_forward } = Anomalies::current();
    (enabled, check_nan, check_forward)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_set_anomalies, m)?)?;
    m.add_function(wrap_pyfunction!(_as_one, m)?)?;
    m.add_function(wrap_pyfunction!(_anomalies, m)?)
}
