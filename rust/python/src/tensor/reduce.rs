//! Reductions.

use super::PyTensor;
use crate::convert::{DTypeArg, DimArg};
use crate::enter::enter;
use pyo3::prelude::*;

#[pymethods]
impl PyTensor {
    /// sum(input, dim=None, keepdim=False, *, dtype=None) -> Tensor: sum over dims, or of all elements.
    #[pyo3(signature = (dim=DimArg(None), keepdim=false, *, dtype=None))]
    fn sum(&self, py: Python<'_>, dim: DimArg, keepdim: bool, dtype: Option<DTypeArg>) -> PyResult<PyTensor> {
        let x = self.tensor();
        let dims = dim.0.unwrap_or_default();
        enter(py, x.numel(), || match dtype {
            None => x.sum(&dims, keepdim),
            Some(dtype) => x.to_dtype(dtype.0)?.sum(&dims, keepdim),
        })
        .map(PyTensor::new)
    }

    /// mean(input, dim=None, keepdim=False, *, dtype=None) -> Tensor: arithmetic mean over dims, or of all elements.
    #[pyo3(signature = (dim=DimArg(None), keepdim=false, *, dtype=None))]
    fn mean(
        &self,
        py: Python<'_>,
        dim: DimArg,
        keepdim: bool,
        dtype: Option<DTypeArg>,
    ) -> PyResult<PyTensor> {
        let x = self.tensor();
        let dims = dim.0.unwrap_or_default();
        enter(py, x.numel(), || match dtype {
            None => x.mean(&dims, keepdim),
            Some(dtype) => x.to_dtype(dtype.0)?.mean(&dims, keepdim),
        })
        .map(PyTensor::new)
    }
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &["sum", "mean"];
