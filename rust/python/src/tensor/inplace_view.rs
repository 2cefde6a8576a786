//! In-place twins of views: the object becomes that of a tensor which sees the same memory in another shape.

use super::index::spoken_of;
use super::PyTensor;
use crate::convert::DimArg;
use crate::error::IntoPy;
use firesteel::Tensor;
use pyo3::prelude::*;

/// Makes `slf` the object of `view` of its tensor. A leaf that asks for a gradient is refused while recording.
fn becomes<'py>(
    slf: Bound<'py, PyTensor>,
    op: &str,
    view: impl Fn(&Tensor) -> firesteel::Result<Tensor>,
) -> PyResult<Bound<'py, PyTensor>> {
    // Two handles are ours: this one and the object's.
    let tensor = slf.get().tensor();
    let next = tensor.view_in_place(op, 2, |x| spoken_of(op, view(x))).py(slf.py())?;
    PyTensor::become_tensor(&slf, next)?;
    Ok(slf)
}

#[pymethods]
impl PyTensor {
    /// In-place `squeeze`.
    #[pyo3(signature = (dim=DimArg(None)))]
    fn squeeze_(slf: Bound<'_, Self>, dim: DimArg) -> PyResult<Bound<'_, Self>> {
        becomes(slf, "squeeze_", |x| x.squeeze(dim.0.as_deref()))
    }

    /// In-place `unsqueeze`.
    fn unsqueeze_(slf: Bound<'_, Self>, dim: isize) -> PyResult<Bound<'_, Self>> {
        becomes(slf, "unsqueeze_", |x| x.unsqueeze(dim))
    }

    /// In-place `t`.
    fn t_(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        becomes(slf, "t_", Tensor::t)
    }

    /// In-place `transpose`.
    fn transpose_(slf: Bound<'_, Self>, dim0: isize, dim1: isize) -> PyResult<Bound<'_, Self>> {
        becomes(slf, "transpose_", |x| x.transpose(dim0, dim1))
    }

    /// In-place `swapaxes`.
    fn swapaxes_(slf: Bound<'_, Self>, axis0: isize, axis1: isize) -> PyResult<Bound<'_, Self>> {
        becomes(slf, "swapaxes_", |x| x.transpose(axis0, axis1))
    }
}
