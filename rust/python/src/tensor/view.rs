//! Views and reshapes.

use super::PyTensor;
use crate::convert::{ints_called, ints_of, shape_of, DTypeArg, DimArg, Ints};
use crate::enter::enter;
use crate::error::IntoPy;
use crate::tensor::Out;
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use smallvec::SmallVec;

/// Extents with at most one -1, which is inferred from the number of elements.
pub fn infer_shape(op: &str, x: &Tensor, extents: &[isize]) -> PyResult<SmallVec<[usize; 4]>> {
    infer_extents(op, extents, x.numel()).map_err(|problem| {
        PyRuntimeError::new_err(format!(
            "{op}: shape '{extents:?}' is invalid for input of size {} (shape {:?}); {problem}",
            x.numel(),
            x.shape()
        ))
    })
}

/// Extents whose product is `numel`, or what is wrong with them. Without a -1 the product is not asked for.
fn infer_extents(op: &str, extents: &[isize], numel: usize) -> Result<SmallVec<[usize; 4]>, String> {
    let mut shape: SmallVec<[usize; 4]> = SmallVec::new();
    let mut inferred = None;
    let mut known = 1usize;
    for (d, &extent) in extents.iter().enumerate() {
        if extent == -1 && inferred.is_none() {
            inferred = Some(d);
            shape.push(1);
        } else if extent >= 0 {
            known = known.saturating_mul(extent as usize);
            shape.push(extent as usize);
        } else if extent == -1 {
            return Err("only one dimension can be inferred".into());
        } else {
            return Err(format!("invalid shape dimension {extent}: use sizes of at least 0"));
        }
    }
    if let Some(d) = inferred {
        if known == 0 {
            return Err("beside a 0 the size -1 can be any value and is ambiguous: give it".into());
        }
        if !numel.is_multiple_of(known) {
            return Err(format!("{numel} is not a multiple of {known}"));
        }
        shape[d] = numel / known;
    } else if op == "unflatten" && (extents.is_empty() || known != numel) {
        return Err(format!("the product is {known}"));
    }
    Ok(shape)
}

/// Extents for `expand`, where -1 keeps the tensor's own.
fn expand_shape(x: &Tensor, extents: &[isize]) -> PyResult<SmallVec<[usize; 4]>> {
    let lead = extents.len().checked_sub(x.rank()).ok_or_else(|| {
        PyRuntimeError::new_err(format!(
            "expand: the number of sizes provided ({}) must be greater or equal to the number of dimensions in \
             the tensor ({}); give a size for each dim",
            extents.len(),
            x.rank()
        ))
    })?;
    let own = |(d, &extent): (usize, &isize)| {
        if extent == -1 && d >= lead {
            x.shape()[d - lead] as isize
        } else {
            extent
        }
    };
    let extents: Ints = extents.iter().enumerate().map(own).collect();
    shape_of("expand", &extents)
}

/// A new tensor over the same elements: a view, so that what is set on one does not show on the other.
pub fn alias(x: &Tensor) -> firesteel::Result<Tensor> {
    x.view(x.shape()).or_else(|_| x.slice(0, 0, usize::MAX, 1))
}

/// The dtype of `view(dtype)` or `view(dtype=dtype)`.
#[cold]
fn dtype_argument(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<DTypeArg>> {
    let named = kwargs.map(|kwargs| kwargs.get_item("dtype")).transpose()?.flatten();
    match named {
        Some(value) if args.is_empty() && kwargs.is_some_and(|kwargs| kwargs.len() == 1) => {
            value.extract().map(Some)
        }
        Some(_) => {
            Err(PyTypeError::new_err("view: takes a shape or a dtype, not both; leave one of them out"))
        }
        None if args.len() == 1 => Ok(DTypeArg::of(&args.get_item(0)?).map(DTypeArg)),
        None => Ok(None),
    }
}

/// `x.view(dtype)`: the same bytes; so far of the tensor's own dtype only.
fn view_as_dtype(py: Python<'_>, x: &Tensor, dtype: firesteel::DType) -> PyResult<Out> {
    if dtype == x.dtype() {
        return alias(x).py(py).map(Out);
    }
    Err(PyRuntimeError::new_err(format!(
        "view: a tensor of {} cannot be viewed as {dtype}; use .to(dtype) to convert the values",
        x.dtype()
    )))
}

#[pymethods]
impl PyTensor {
    /// view(*size) -> Tensor: the same memory in another shape; -1 infers one extent.
    #[pyo3(signature = (*size, **kwargs))]
    fn view(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let extents = match ints_called("view", "size", size, kwargs) {
            Ok(extents) => extents,
            Err(error) => match dtype_argument(size, kwargs)? {
                Some(dtype) => return view_as_dtype(py, x, dtype.0),
                None => return Err(error),
            },
        };
        let shape = infer_shape("view", x, &extents)?;
        x.view(&shape).py(py).map(Out)
    }

    /// view_as(other) -> Tensor: `view(other.shape)`.
    fn view_as(&self, py: Python<'_>, other: &Bound<'_, PyTensor>) -> PyResult<Out> {
        self.tensor().view(other.get().tensor().shape()).py(py).map(Out)
    }

    /// reshape(input, *shape) -> Tensor: another shape; a view where the memory order allows it, else a copy.
    #[pyo3(signature = (*shape, **kwargs))]
    fn reshape(
        &self,
        py: Python<'_>,
        shape: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let shape = infer_shape("reshape", x, &ints_called("reshape", "shape", shape, kwargs)?)?;
        if x.shape() == &shape[..] {
            return alias(x).py(py).map(Out);
        }
        enter(py, x.numel(), || x.reshape(&shape)).map(Out)
    }

    /// reshape_as(other) -> Tensor: `reshape(other.shape)`.
    fn reshape_as(&self, py: Python<'_>, other: &Bound<'_, PyTensor>) -> PyResult<Out> {
        self.tensor().reshape(other.get().tensor().shape()).py(py).map(Out)
    }

    /// flatten(input, start_dim=0, end_dim=-1) -> Tensor: a range of dims made one.
    #[pyo3(signature = (start_dim=0, end_dim=-1))]
    fn flatten(&self, py: Python<'_>, start_dim: isize, end_dim: isize) -> PyResult<Out> {
        let x = &self.tensor();
        let start = firesteel::layout::normalize_dim("flatten", start_dim, x.rank()).py(py)?;
        let end = firesteel::layout::normalize_dim("flatten", end_dim, x.rank()).py(py)?;
        if start > end {
            return Err(PyRuntimeError::new_err(format!(
                "flatten: start_dim {start_dim} cannot come after end_dim {end_dim}; swap them"
            )));
        }
        let mut shape: SmallVec<[usize; 4]> = SmallVec::new();
        if x.rank() == 0 {
            shape.push(1);
        } else {
            shape.extend_from_slice(&x.shape()[..start]);
            shape.push(x.shape()[start..=end].iter().product());
            shape.extend_from_slice(&x.shape()[end + 1..]);
        }
        enter(py, x.numel(), || x.reshape(&shape)).map(Out)
    }

    /// ravel(input) -> Tensor: all dims made one; a view of what is contiguous, else a copy.
    fn ravel(&self, py: Python<'_>) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, x.numel(), || x.contiguous()?.view(&[x.numel()])).map(Out)
    }

    /// unflatten(input, dim, sizes) -> Tensor: one dim made several.
    fn unflatten(&self, py: Python<'_>, dim: isize, sizes: &Bound<'_, PyAny>) -> PyResult<Out> {
        let x = &self.tensor();
        let d = firesteel::layout::normalize_dim("unflatten", dim, x.rank()).py(py)?;
        let given = ints_of(sizes)?;
        let Some(&extent) = x.shape().get(d) else {
            return Err(PyRuntimeError::new_err(format!(
                "unflatten: a 0-d tensor has no dim {dim} to make several of; reshape it"
            )));
        };
        let sizes = infer_extents("unflatten", &given, extent).map_err(|_| {
            PyRuntimeError::new_err(format!(
                "unflatten: Provided sizes {:?} don't multiply up to the size of dim {d} ({extent}) in the input tensor \
                 of shape {:?}; give sizes whose product is {extent}, one of them may be -1",
                given.as_slice(),
                x.shape()
            ))
        })?;
        let mut shape: SmallVec<[usize; 4]> = x.shape()[..d].into();
        shape.extend_from_slice(&sizes);
        shape.extend_from_slice(&x.shape()[d + 1..]);
        enter(py, x.numel(), || x.reshape(&shape)).map(Out)
    }

    /// expand(*size) -> Tensor: extents of 1 repeated without copying; -1 keeps an extent.
    #[pyo3(signature = (*size, **kwargs))]
    fn expand(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        x.expand(&expand_shape(x, &ints_called("expand", "size", size, kwargs)?)?).py(py).map(Out)
    }

    /// expand_as(other) -> Tensor: `expand(other.shape)`.
    fn expand_as(&self, py: Python<'_>, other: &Bound<'_, PyTensor>) -> PyResult<Out> {
        self.tensor().expand(other.get().tensor().shape()).py(py).map(Out)
    }

    /// broadcast_to(input, *size) -> Tensor: alias of `expand`.
    #[pyo3(signature = (*size, **kwargs))]
    fn broadcast_to(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        x.expand(&expand_shape(x, &ints_called("broadcast_to", "size", size, kwargs)?)?).py(py).map(Out)
    }

    /// permute(input, *dims) -> Tensor: dims in another order.
    #[pyo3(signature = (*dims, **kwargs))]
    fn permute(
        &self,
        py: Python<'_>,
        dims: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Out> {
        self.tensor().permute(&ints_called("permute", "dims", dims, kwargs)?).py(py).map(Out)
    }

    /// transpose(input, dim0, dim1) -> Tensor: two dims swapped.
    fn transpose(&self, py: Python<'_>, dim0: isize, dim1: isize) -> PyResult<Out> {
        self.tensor().transpose(dim0, dim1).py(py).map(Out)
    }

    /// swapaxes(input, axis0, axis1) -> Tensor: alias of `transpose`.
    fn swapaxes(&self, py: Python<'_>, axis0: isize, axis1: isize) -> PyResult<Out> {
        self.tensor().transpose(axis0, axis1).py(py).map(Out)
    }

    /// t(input) -> Tensor: a matrix with its dims swapped.
    fn t(&self, py: Python<'_>) -> PyResult<Out> {
        self.tensor().t().py(py).map(Out)
    }

    /// The tensor with its dims in reverse order.
    #[getter(T)]
    fn reversed_dims(&self, py: Python<'_>) -> PyResult<Out> {
        let dims: Ints = (0..self.tensor().rank() as isize).rev().collect();
        self.tensor().permute(&dims).py(py).map(Out)
    }

    /// The last two dims swapped.
    #[getter(mT)]
    fn matrix_transpose(&self, py: Python<'_>) -> PyResult<Out> {
        if self.tensor().rank() == 0 {
            return Ok(Out(self.tensor())); // as in PyTorch
        }
        if self.tensor().rank() == 1 {
            return Err(PyRuntimeError::new_err(format!(
                "mT: only supported on matrices or batches of matrices. Got {}-D tensor; unsqueeze it first",
                self.tensor().rank()
            )));
        }
        self.tensor().transpose(-2, -1).py(py).map(Out)
    }

    /// movedim(input, source, destination) -> Tensor: dims moved to other places.
    fn movedim(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        destination: &Bound<'_, PyAny>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let place = |dims: Ints| -> firesteel::Result<Vec<usize>> {
            dims.iter().map(|&d| firesteel::layout::normalize_dim("movedim", d, x.rank())).collect()
        };
        let (from, to) = (place(ints_of(source)?).py(py)?, place(ints_of(destination)?).py(py)?);
        let twice = |dims: &[usize]| (1..dims.len()).any(|i| dims[..i].contains(&dims[i]));
        if from.len() != to.len() || twice(&from) || twice(&to) {
            return Err(PyRuntimeError::new_err(format!(
                "movedim: Invalid source or destination dims: source ({from:?} dims) should contain the same \
                 number of dims as destination ({to:?} dims), each once; name them once"
            )));
        }
        let mut rest = (0..x.rank()).filter(|d| !from.contains(d));
        let order: Ints = (0..x.rank())
            .map(|d| match to.iter().position(|&t| t == d) {
                Some(i) => from[i],
                None => rest.next().unwrap_or_default(),
            } as isize)
            .collect();
        x.permute(&order).py(py).map(Out)
    }

    /// squeeze(input, dim=None) -> Tensor: without dims of extent 1.
    #[pyo3(signature = (dim=DimArg(None)))]
    fn squeeze(&self, py: Python<'_>, dim: DimArg) -> PyResult<Out> {
        self.tensor().squeeze(dim.0.as_deref()).py(py).map(Out)
    }

    /// unsqueeze(input, dim) -> Tensor: with a new dim of extent 1.
    fn unsqueeze(&self, py: Python<'_>, dim: isize) -> PyResult<Out> {
        self.tensor().unsqueeze(dim).py(py).map(Out)
    }

    /// narrow(input, dim, start, length) -> Tensor: `length` elements of a dim from `start`.
    fn narrow(&self, py: Python<'_>, dim: isize, start: isize, length: isize) -> PyResult<Out> {
        let length = usize::try_from(length).map_err(|_| {
            PyRuntimeError::new_err(format!(
                "narrow: length must be non-negative, not {length}; use at least 0"
            ))
        })?;
        self.tensor().narrow(dim, start, length).py(py).map(Out)
    }

    /// select(input, dim, index) -> Tensor: one position of a dim, which disappears.
    fn select(&self, py: Python<'_>, dim: isize, index: isize) -> PyResult<Out> {
        self.tensor().select(dim, index).py(py).map(Out)
    }
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &[
    "reshape",
    "flatten",
    "ravel",
    "unflatten",
    "broadcast_to",
    "permute",
    "transpose",
    "swapaxes",
    "t",
    "movedim",
    "squeeze",
    "unsqueeze",
    "narrow",
    "select",
];
