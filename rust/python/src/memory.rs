//! Threads and memory of the core.

use crate::convert::int_of;
use crate::error::IntoPy;
use firesteel::{alloc, par};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt};

/// get_num_threads() -> int: threads that operations may use.
#[pyfunction]
fn get_num_threads() -> usize {
    par::num_threads()
}

/// set_num_threads(num_threads): sets how many threads operations may use.
#[pyfunction]
fn set_num_threads(py: Python<'_>, num_threads: &Bound<'_, PyAny>) -> PyResult<()> {
    if num_threads.cast::<PyInt>().is_err() || num_threads.cast::<PyBool>().is_ok() {
        return Err(PyRuntimeError::new_err(format!(
            "set_num_threads expects an int, but got {}; use 1 or more",
            num_threads.get_type().name()?
        )));
    }
    match usize::try_from(int_of(num_threads)?) {
        Ok(count) if count > 0 => par::set_num_threads(count).py(py),
        _ => Err(PyRuntimeError::new_err(format!(
            "set_num_threads expects a positive integer, got {num_threads}; use 1 or more"
        ))),
    }
}

/// empty_cache(): gives memory that no tensor uses back to the system.
#[pyfunction]
fn empty_cache() {
    alloc::empty_cache();
}

/// memory_stats() -> dict: bytes in use, their peak, bytes kept for reuse, and counts.
#[pyfunction]
fn memory_stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let stats = alloc::stats();
    let dict = PyDict::new(py);
    dict.set_item("allocated_bytes", stats.allocated_bytes)?;
    dict.set_item("peak_bytes", stats.peak_bytes)?;
    dict.set_item("cached_bytes", stats.cached_bytes)?;
    dict.set_item("allocations", stats.allocations)?;
    Ok(dict)
}

/// reset_peak_memory_stats(): starts the peak anew.
#[pyfunction]
fn reset_peak_memory_stats() {
    alloc::reset_peak();
}

/// set_memory_limit(limit): allocations beyond `limit` bytes raise MemoryError; None lifts the limit.
#[pyfunction]
#[pyo3(signature = (limit))]
fn set_memory_limit(limit: Option<usize>) {
    alloc::set_limit(limit);
}

/// Name of the instruction set that kernels use.
#[pyfunction]
fn _cpu_capability() -> String {
    firesteel::simd::level().to_string()
}

/// Every operation of the core: its name, and whether gradients flow through it.
#[pyfunction]
fn _registered_ops() -> Vec<(&'static str, bool)> {
    firesteel::ops::registry::registered().iter().map(|op| (op.name, op.differentiable)).collect()
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(get_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(set_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(empty_cache, m)?)?;
    m.add_function(wrap_pyfunction!(memory_stats, m)?)?;
    m.add_function(wrap_pyfunction!(reset_peak_memory_stats, m)?)?;
    m.add_function(wrap_pyfunction!(set_memory_limit, m)?)?;
    m.add_function(wrap_pyfunction!(_registered_ops, m)?)?;
    m.add_function(wrap_pyfunction!(_cpu_capability, m)?)
}
