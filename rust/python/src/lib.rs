//! The module `firesteel._core`: a thin binding of the crate `firesteel`.

mod autograd;
mod convert;
mod create;
mod dtype;
mod enter;
mod error;
mod nn;
mod numpy;
mod tensor;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(m)?;
    dtype::register(m)?;
    tensor::register(m)?;
    autograd::register(m)?;
    create::register(m)?;
    numpy::register(m)?;
    nn::register(m)?;
    firesteel::autograd::set_interrupt_check(enter::check_interrupt);
    Ok(())
}
