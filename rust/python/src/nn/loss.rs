//! Losses.

use super::{maybe, warn, Maybe};
use crate::convert::float_of;
use crate::enter::enter;
use crate::error::IntoPy;
use crate::flag;
use crate::tensor::Out;
use crate::tensor::PyTensor;
use firesteel::ops::loss::{ClassLoss, Reduction};
use firesteel::Tensor;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A `reduction=` argument; what is no str is no valid value either.
fn reduction_name<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    match value.cast::<PyString>() {
        Ok(name) => name.to_str(),
        Err(_) => Err(PyValueError::new_err(format!(
            "{value} is not a valid value for reduction; use 'none', 'mean' or 'sum'"
        ))),
    }
}

/// `reduction=`, or what the older `size_average=` and `reduce=` say.
fn reduction_of(
    py: Python<'_>,
    op: &str,
    size_average: Option<bool>,
    reduce: Option<bool>,
    reduction: &str,
) -> PyResult<Reduction> {
    if size_average.is_none() && reduce.is_none() {
        return Reduction::from_name(op, reduction).py(py);
    }
    let name = match (reduce.unwrap_or(true), size_average.unwrap_or(true)) {
        (true, true) => "mean",
        (true, false) => "sum",
        (false, _) => "none",
    };
    warn(
        py,
        &format!("size_average and reduce args will be deprecated, please use reduction='{name}' instead."),
    )?;
    Reduction::from_name(op, name).py(py)
}

/// PyTorch's warning for sizes that differ and broadcast.
fn warn_of_sizes(a: &Tensor, b: &Bound<'_, PyTensor>) -> PyResult<()> {
    let target = &b.get().tensor();
    if a.shape() == target.shape() {
        return Ok(());
    }
    warn(
        b.py(),
        &format!(
            "Using a target size (torch.Size({:?})) that is different to the input size (torch.Size({:?})). This will likely lead to \
             incorrect results due to broadcasting. Please ensure they have the same size.",
            target.shape(),
            a.shape()
        ),
    )
}

/// cross_entropy(input, target, weight=None, ignore_index=-100, reduction='mean', label_smoothing=0.0) -> Tensor:
/// of logits, and class indices or class probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0))]
#[allow(clippy::too_many_arguments)]
fn cross_entropy(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    weight: Maybe<'_, '_>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    ignore_index: i64,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
    #[pyo3(from_py_with = float_of)] label_smoothing: f64,
) -> PyResult<Out> {
    let reduction = reduction_of(py, "cross_entropy", size_average, reduce, reduction)?;
    let options = ClassLoss { weight: maybe(weight), ignore_index, reduction, label_smoothing };
    let (x, target) = (&input.get().tensor(), &target.get().tensor());
    enter(py, x.numel() * 4, || x.cross_entropy(target, &options)).map(Out)
}

/// nll_loss(input, target, weight=None, ignore_index=-100, reduction='mean') -> Tensor: negative
/// log-likelihood of class indices, of log-probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"))]
#[allow(clippy::too_many_arguments)]
fn nll_loss(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    weight: Maybe<'_, '_>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    ignore_index: i64,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
) -> PyResult<Out> {
    let reduction = reduction_of(py, "nll_loss", size_average, reduce, reduction)?;
    let options = ClassLoss { weight: maybe(weight), ignore_index, reduction, label_smoothing: 0.0 };
    let (x, target) = (&input.get().tensor(), &target.get().tensor());
    enter(py, x.numel(), || x.nll_loss(target, &options)).map(Out)
}

/// Runs a loss of two tensors, after the warning about their sizes; `weight` multiplies the elements' losses.
fn of_pair(
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    weight: Maybe<'_, '_>,
    reduction: Reduction,
    call: impl Fn(&Tensor, &Tensor, Reduction) -> firesteel::Result<Tensor> + Sync,
) -> PyResult<Out> {
    let (x, target_tensor) = (&input.get().tensor(), &target.get().tensor());
    warn_of_sizes(x, target)?;
    let weight = maybe(weight);
    let weight = weight.as_ref();
    enter(input.py(), x.numel(), || {
        let Some(weight) = weight else { return call(x, target_tensor, reduction) };
        let losses = call(x, target_tensor, Reduction::None)?.mul(weight)?;
        match reduction {
            Reduction::None => Ok(losses),
            Reduction::Sum => losses.sum(&[], false),
            // A mean that is weighted, too.
            Reduction::Mean => {
                let shape = losses.shape().to_vec();
                losses.sum(&[], false)?.div(&weight.expand(&shape)?.sum(&[], false)?)
            }
        }
    })
    .map(Out)
}

/// mse_loss(input, target, reduction='mean', weight=None) -> Tensor: squared error.
#[pyfunction]
#[pyo3(signature = (input, target, size_average=None, reduce=None, reduction="mean", weight=None))]
fn mse_loss(
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
    weight: Maybe<'_, '_>,
) -> PyResult<Out> {
    let reduction = reduction_of(input.py(), "mse_loss", size_average, reduce, reduction)?;
    of_pair(input, target, weight, reduction, Tensor::mse_loss)
}

/// l1_loss(input, target, reduction='mean', weight=None) -> Tensor: absolute error.
#[pyfunction]
#[pyo3(signature = (input, target, size_average=None, reduce=None, reduction="mean", weight=None))]
fn l1_loss(
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
    weight: Maybe<'_, '_>,
) -> PyResult<Out> {
    let reduction = reduction_of(input.py(), "l1_loss", size_average, reduce, reduction)?;
    of_pair(input, target, weight, reduction, Tensor::l1_loss)
}

/// smooth_l1_loss(input, target, reduction='mean', beta=1.0) -> Tensor: squared below beta, absolute above.
#[pyfunction]
#[pyo3(signature = (input, target, size_average=None, reduce=None, reduction="mean", beta=1.0))]
fn smooth_l1_loss(
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
    #[pyo3(from_py_with = float_of)] beta: f64,
) -> PyResult<Out> {
    let reduction = reduction_of(input.py(), "smooth_l1_loss", size_average, reduce, reduction)?;
    of_pair(input, target, None, reduction, move |x, target, reduction| {
        x.smooth_l1_loss(target, beta, reduction)
    })
}

/// huber_loss(input, target, reduction='mean', delta=1.0, weight=None) -> Tensor: squared below delta, absolute above.
#[pyfunction]
#[pyo3(signature = (input, target, reduction="mean", delta=1.0, weight=None))]
fn huber_loss(
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
    #[pyo3(from_py_with = float_of)] delta: f64,
    weight: Maybe<'_, '_>,
) -> PyResult<Out> {
    let reduction = reduction_of(input.py(), "huber_loss", None, None, reduction)?;
    of_pair(input, target, weight, reduction, move |x, target, reduction| {
        x.huber_loss(target, delta, reduction)
    })
}

/// binary_cross_entropy(input, target, weight=None, reduction='mean') -> Tensor: of probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, weight=None, size_average=None, reduce=None, reduction="mean"))]
#[allow(clippy::too_many_arguments)]
fn binary_cross_entropy(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    weight: Maybe<'_, '_>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
) -> PyResult<Out> {
    let reduction = reduction_of(py, "binary_cross_entropy", size_average, reduce, reduction)?;
    let (x, target, weight) = (&input.get().tensor(), &target.get().tensor(), maybe(weight));
    let weight = weight.as_ref();
    enter(py, x.numel(), || x.binary_cross_entropy(target, weight, reduction)).map(Out)
}

/// binary_cross_entropy_with_logits(input, target, weight=None, reduction='mean', pos_weight=None) -> Tensor:
/// binary_cross_entropy of sigmoid(input), without loss of digits.
#[pyfunction]
#[pyo3(signature = (input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None))]
#[allow(clippy::too_many_arguments)]
fn binary_cross_entropy_with_logits(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    target: &Bound<'_, PyTensor>,
    weight: Maybe<'_, '_>,
    #[pyo3(from_py_with = flag::size_average)] size_average: Option<bool>,
    #[pyo3(from_py_with = flag::reduce)] reduce: Option<bool>,
    #[pyo3(from_py_with = reduction_name)] reduction: &str,
    pos_weight: Maybe<'_, '_>,
) -> PyResult<Out> {
    let reduction = reduction_of(py, "binary_cross_entropy_with_logits", size_average, reduce, reduction)?;
    let (x, target) = (&input.get().tensor(), &target.get().tensor());
    let (weight, pos_weight) = (maybe(weight), maybe(pos_weight));
    let (weight, pos_weight) = (weight.as_ref(), pos_weight.as_ref());
    enter(py, x.numel(), || x.binary_cross_entropy_with_logits(target, weight, pos_weight, reduction))
        .map(Out)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cross_entropy, m)?)?;
    m.add_function(wrap_pyfunction!(nll_loss, m)?)?;
    m.add_function(wrap_pyfunction!(mse_loss, m)?)?;
    m.add_function(wrap_pyfunction!(l1_loss, m)?)?;
    m.add_function(wrap_pyfunction!(smooth_l1_loss, m)?)?;
    m.add_function(wrap_pyfunction!(huber_loss, m)?)?;
    m.add_function(wrap_pyfunction!(binary_cross_entropy, m)?)?;
    m.add_function(wrap_pyfunction!(binary_cross_entropy_with_logits, m)?)
}
