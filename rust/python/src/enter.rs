//! The doorway into the core: the GIL, errors and interrupts.

use crate::error::IntoPy;
use firesteel::{Error, Result};
use pyo3::prelude::*;

/// Elements from which an operation is long enough (about 10 microseconds) to let other Python
/// threads run meanwhile; below, letting go of the GIL and taking it again would cost more.
const RELEASE_GIL_FROM: usize = 1 << 14;

/// Runs `body`, without the GIL if it touches many elements.
#[inline]
pub fn enter<T: Send>(py: Python<'_>, numel: usize, body: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    if numel < RELEASE_GIL_FROM {
        body().py(py)
    } else {
        py.detach(body).py(py)
    }
}

/// Runs `body` without the GIL.
pub fn enter_long<T: Send>(py: Python<'_>, body: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(body).py(py)
}

/// Raises what a signal handler raised (`KeyboardInterrupt`), if one did.
pub fn check_interrupt() -> Result<()> {
    Python::attach(|py| py.check_signals()).map_err(from_py)
}

/// A Python exception on its way through the core.
#[cold]
pub fn from_py(exception: PyErr) -> Error {
    Error::external("a Python callback raised an exception", exception)
}
