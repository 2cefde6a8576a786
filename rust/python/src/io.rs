//! Tensors as safetensors bytes.

use crate::error::IntoPy;
use crate::tensor::Out;
use crate::tensor::PyTensor;
use firesteel::{Array, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::HashMap;

/// The bytes of a file with these tensors and this metadata.
#[pyfunction]
fn _safetensors_serialize<'py>(
    py: Python<'py>,
    tensors: &Bound<'py, PyDict>,
    metadata: HashMap<String, String>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut named: Vec<(String, Array)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors.iter() {
        named.push((name.extract()?, tensor.cast::<PyTensor>()?.get().tensor().array().clone()));
    }
    let bytes = py.detach(|| firesteel::io::serialize(&named, metadata)).py(py)?;
    Ok(PyBytes::new(py, &bytes))
}

/// The tensors and the metadata of a file's bytes.
#[pyfunction]
fn _safetensors_deserialize<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<(Bound<'py, PyDict>, HashMap<String, String>)> {
    let bytes = data.as_bytes();
    let (tensors, metadata) = py.detach(|| firesteel::io::deserialize(bytes)).py(py)?;
    let named = PyDict::new(py);
    for (name, array) in tensors {
        named.set_item(name, Out(Tensor::constant(array)).into_pyobject(py)?)?;
    }
    Ok((named, metadata))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_safetensors_serialize, m)?)?;
    m.add_function(wrap_pyfunction!(_safetensors_deserialize, m)?)
}
