//! The module `firesteel._core`: a thin binding of the crate `firesteel`.

mod anomaly;
mod autograd;
mod convert;
mod create;
mod data;
mod dtype;
mod enter;
mod error;
mod flag;
mod format;
mod function;
mod graph;
mod io;
mod memory;
mod nn;
mod node;
mod numpy;
mod optim;
mod pass;
mod random;
mod saved_hooks;
mod tensor;

use firesteel::alloc::Objects;
use pyo3::prelude::*;

#[global_allocator]
static OBJECTS: Objects = Objects;

// One object per tensor rests on the GIL (tensor/mod.rs), so a free-threaded interpreter must take it.
#[pymodule(gil_used = true)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(m)?;
    dtype::register(m)?;
    format::register(m)?;
    tensor::register(m)?;
    anomaly::register(m)?;
    autograd::register(m)?;
    function::register(m)?;
    node::register(m)?;
    pass::register(m)?;
    graph::register(m)?;
    create::register(m)?;
    io::register(m)?;
    memory::register(m)?;
    nn::register(m)?;
    numpy::register(m)?;
    optim::register(m)?;
    random::register(m)?;
    saved_hooks::register(m)?;
    firesteel::autograd::set_interrupt_check(enter::check_interrupt);
    Ok(())
}
