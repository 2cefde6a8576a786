//! Anomaly mode: the switch, and how the line of the user's program is found.

use firesteel::autograd::anomaly::{set_tracer, Anomalies, Place};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The Python function that finds the line.
static TRACER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// File, line, function, module and source of a place.
type PlaceParts = (String, u32, String, Option<String>, Option<String>);

/// The line that runs now. What goes wrong while it is looked for says nothing about the user's program.
fn trace() -> Option<Place> {
    Python::attach(|py| {
        let found: Option<PlaceParts> = TRACER.get(py)?.bind(py).call0().ok()?.extract().ok()?;
        let (file, line, function, module, source) = found?;
        Some(Place { file, line, function, module, source })
    })
}

/// Switches the mode, for all threads. `tracer` gives the parts of the place that runs now, or None.
#[pyfunction]
fn _set_anomalies(py: Python<'_>, enabled: bool, check_nan: bool, check_forward: bool, tracer: Py<PyAny>) {
    TRACER.get_or_init(py, || tracer);
    set_tracer(trace);
    Anomalies { enabled, check_nan, check_forward }.set();
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
    m.add_function(wrap_pyfunction!(_anomalies, m)?)
}
