//! The module `firesteel._core`: a thin binding of the crate `firesteel`.

mod autograd;
mod convert;
mod create;
mod dtype;
mod enter;
mod error;
mod nn;
mod io;
mod memory;
mod numpy;
mod optim;
mod random;
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
    io::register(m)?;
    memory::register(m)?;
    numpy::register(m)?;
    nn::register(m)?;
    optim::register(m)?;
    random::register(m)?;
    firesteel::autograd::set_interrupt_check(enter::check_interrupt);
    Ok(())
}
