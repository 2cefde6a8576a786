//! The doorway into the core: the GIL, errors and interrupts.

use crate::error::IntoPy;
use firesteel::{Error, Result};
use pyo3::prelude::*;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

/// Elements from which an operation is long enough (about 10 microseconds) to let other Python
/// threads run meanwhile; below, letting go of the GIL and taking it again would cost more.
const RELEASE_GIL_FROM: usize = 1 << 14;

/// Runs `body`, without the GIL if it touches many elements.
#[inline]
pub fn enter<T: Send>(py: Python<'_>, numel: usize, body: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    if is_short(numel) {
        enter_short(py, body)
    } else {
        py.detach(|| caught(body)).py(py)
    }
}

/// Whether an operation on so many elements keeps the GIL.
#[inline]
pub fn is_short(numel: usize) -> bool {
    numel < RELEASE_GIL_FROM
}

/// Runs `body`, which is short, with the GIL.
#[inline]
pub fn enter_short<T>(py: Python<'_>, body: impl FnOnce() -> Result<T>) -> PyResult<T> {
    caught(body).py(py)
}

/// Runs `body` without the GIL.
pub fn enter_long<T: Send>(py: Python<'_>, body: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| caught(body)).py(py)
}

/// The result of `body`, an error that unwinds included: so the core's operators on tensors end. They belong into
/// gradient rules, where the engine catches them; this is the net below all other code.
#[inline]
fn caught<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| match panic.downcast::<Error>() {
        Ok(error) => Err(*error),
        Err(panic) => resume_unwind(panic),
    })
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
