//! `saved_tensors_hooks`: Python functions that decide how saved tensors are kept.

use crate::enter::from_py;
use crate::tensor::{drop_in_turn, Out, PyTensor};
use firesteel::autograd::{pop_saved_hooks, push_saved_hooks, Packed, SavedHooks};
use firesteel::{Array, Tensor};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;

/// Two Python functions that pack and unpack what operations save.
struct PySavedHooks {
    pack: Py<PyAny>,
    unpack: Py<PyAny>,
}

/// What the first made, and the second.
pub struct PyPacked {
    /// The former, until this is dropped.
    object: Option<Py<PyAny>>,
    unpack: Py<PyAny>,
}

impl PyPacked {
    /// Shows both to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object).and_then(|()| visit.call(&self.unpack))
    }
}

impl Drop for PyPacked {
    fn drop(&mut self) {
        // It may hold a tensor, and that the next such graph.
        let object = self.object.take();
        Python::try_attach(|_| object.map(drop_in_turn));
    }
}

impl SavedHooks for PySavedHooks {
    fn pack(&self, tensor: &Tensor) -> firesteel::Result<Box<dyn Packed>> {
        Python::attach(|py| {
            let object = self.pack.call1(py, (Out(tensor.clone()),))?;
            let packed: Box<dyn Packed> =
                Box::new(PyPacked { object: Some(object), unpack: self.unpack.clone_ref(py) });
            Ok(packed)
        })
        .map_err(from_py)
    }
}

impl Packed for PyPacked {
    fn unpack(&self) -> firesteel::Result<Tensor> {
        Python::attach(|py| {
            let result = self.unpack.bind(py).call1((&self.object,))?;
            match result.cast::<PyTensor>() {
                Ok(tensor) => Ok(tensor.get().tensor()),
                Err(_) => Err(PyTypeError::new_err(format!(
                    "Output of saved tensor unpack_hook expected to be a Tensor but got result of type {}; return \
                     the tensor that pack_hook was given",
                    result.get_type().name()?
                ))),
            }
        })
        .map_err(from_py)
    }

    fn arrays(&self) -> Vec<Array> {
        Python::attach(|py| {
            let Some(object) = &self.object else { return Vec::new() };
            let object = object.bind(py);
            let items = match object.cast::<PyTensor>() {
                Ok(_) => vec![object.clone()],
                Err(_) if object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyList>() => {
                    crate::tensor::sequence_of(object)
                }
                Err(_) => Vec::new(),
            };
            let tensors = items.iter().filter_map(|item| item.cast::<PyTensor>().ok());
            tensors.map(|tensor| tensor.get().tensor().array().clone()).collect()
        })
    }
}

/// Hands what operations of this thread save to two functions.
#[pyfunction]
fn _push_saved_tensors_hooks(pack_hook: Py<PyAny>, unpack_hook: Py<PyAny>) {
    push_saved_hooks(Arc::new(PySavedHooks { pack: pack_hook, unpack: unpack_hook }));
}

/// Ends what was pushed last.
#[pyfunction]
fn _pop_saved_tensors_hooks() {
    drop(pop_saved_hooks());
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_push_saved_tensors_hooks, m)?)?;
    m.add_function(wrap_pyfunction!(_pop_saved_tensors_hooks, m)?)
}
