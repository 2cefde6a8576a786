//! Matrix products, and what is made of them.

use super::{delivered, tensors_of, PyTensor};
use crate::convert::{ints_of, Ints, Number};
use crate::enter::{enter, enter_short};
use crate::tensor::lent::{Call2, Loan};
use crate::tensor::Out;
use firesteel::{Scalar, Tensor};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyEllipsis, PyInt, PyString, PyTuple};

type AddCall = fn(&Tensor, &Tensor, &Tensor, Scalar, Scalar) -> firesteel::Result<Tensor>;
type AddCallInPlace = fn(&Tensor, &Tensor, &Tensor, Scalar, Scalar) -> firesteel::Result<()>;

/// Multiplications that take as long as an element of an element-wise operation.
const PER_ELEMENT: usize = 16;

/// The time of `a @ b`, in elements of an element-wise operation.
#[inline]
fn work(a: &Tensor, b: &Tensor) -> usize {
    let cols = if b.rank() > 1 { b.shape()[b.rank() - 1] } else { 1 };
    a.numel().saturating_mul(cols) / PER_ELEMENT
}

#[inline]
fn product(py: Python<'_>, a: &PyTensor, b: &Bound<'_, PyTensor>, call: Call2) -> PyResult<Out> {
    let b = b.get();
    let numel = work(a.borrowed(), b.borrowed()).max(b.borrowed().numel());
    if let Some(loan) = Loan::begin(py, numel) {
        let (a, b) = (a.lent(&loan), b.lent(&loan));
        return enter_short(py, || call(&a, &b)).map(Out);
    }
    let (a, b) = (&a.tensor(), &b.tensor());
    enter(py, numel, || call(a, b)).map(Out)
}

/// The numbers given for `beta` and `alpha`, or 1.
fn factors(beta: Option<Number>, alpha: Option<Number>) -> (Scalar, Scalar) {
    let or_one = |factor: Option<Number>| factor.map_or(Scalar::Int(1), |number| number.0);
    (or_one(beta), or_one(alpha))
}

macro_rules! product_methods {
    ($($(#[doc = $doc:literal])* $name:ident = $call:ident ($other:ident))*) => {
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                fn $name(&self, py: Python<'_>, $other: &Bound<'_, PyTensor>) -> PyResult<Out> {
                    product(py, self, $other, Tensor::$call)
                }
            )*
        }
    };
}

product_methods! {
    /// matmul(input, other) -> Tensor: product of vectors, matrices or batches of matrices, which broadcast.
    matmul = matmul (other)
    /// mm(input, mat2) -> Tensor: product of two matrices.
    mm = mm (mat2)
    /// bmm(input, mat2) -> Tensor: products of two batches of matrices of equal sizes.
    bmm = bmm (mat2)
    /// mv(input, vec) -> Tensor: product of a matrix and a vector.
    mv = mv (vec)
    /// dot(input, tensor) -> Tensor: scalar product of two vectors.
    dot = dot (tensor)
    /// outer(input, vec2) -> Tensor: every product of elements of two vectors.
    outer = outer (vec2)
    __matmul__ = matmul (other)
}

macro_rules! add_product_methods {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident ($a:ident, $b:ident))*) => {
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])+
                #[pyo3(signature = ($a, $b, *, beta=None, alpha=None))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    $a: &Bound<'_, PyTensor>,
                    $b: &Bound<'_, PyTensor>,
                    beta: Option<Number>,
                    alpha: Option<Number>,
                ) -> PyResult<Out> {
                    let (a, b) = (&$a.get().tensor(), &$b.get().tensor());
                    let (beta, alpha) = factors(beta, alpha);
                    let call: AddCall = Tensor::$name;
                    let x = &self.tensor();
                    enter(py, work(a, b), || call(x, a, b, beta, alpha)).map(Out)
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                #[pyo3(signature = ($a, $b, *, beta=None, alpha=None))]
                fn $inplace<'py>(
                    slf: Bound<'py, Self>,
                    $a: &Bound<'py, PyTensor>,
                    $b: &Bound<'py, PyTensor>,
                    beta: Option<Number>,
                    alpha: Option<Number>,
                ) -> PyResult<Bound<'py, Self>> {
                    let (x, a, b) = (&slf.get().tensor(), &$a.get().tensor(), &$b.get().tensor());
                    let (beta, alpha) = factors(beta, alpha);
                    let call: AddCallInPlace = Tensor::$inplace;
                    enter(slf.py(), work(a, b), || call(x, a, b, beta, alpha))?;
                    Ok(slf)
                }
            )*
        }
    };
}

add_product_methods! {
    /// addmm(input, mat1, mat2, *, beta=1, alpha=1) -> Tensor: `beta * input + alpha * (mat1 @ mat2)`.
    addmm / addmm_ (mat1, mat2)
    /// addmv(input, mat, vec, *, beta=1, alpha=1) -> Tensor: `beta * input + alpha * (mat @ vec)`.
    addmv / addmv_ (mat, vec)
    /// baddbmm(input, batch1, batch2, *, beta=1, alpha=1) -> Tensor: `addmm` for batches of matrices.
    baddbmm / baddbmm_ (batch1, batch2)
}

#[pymethods]
impl PyTensor {
    /// diagonal(input, offset=0, dim1=0, dim2=1) -> Tensor: elements at (i, i + offset) of two dims, as a view.
    #[pyo3(signature = (offset=0, dim1=0, dim2=1))]
    fn diagonal(&self, py: Python<'_>, offset: isize, dim1: isize, dim2: isize) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, 0, || x.diagonal(offset, dim1, dim2)).map(Out)
    }

    fn __rmatmul__(&self, py: Python<'_>, other: &Bound<'_, PyTensor>) -> PyResult<Out> {
        let (a, b) = (&other.get().tensor(), &self.tensor());
        enter(py, work(a, b), || a.matmul(b)).map(Out)
    }
}

/// linear(input, weight, bias=None) -> Tensor: `input @ weight.T + bias` over the last dim.
#[pyfunction]
#[pyo3(signature = (input, weight, bias=None))]
pub fn linear(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    weight: &Bound<'_, PyTensor>,
    bias: Option<&Bound<'_, PyTensor>>,
) -> PyResult<Out> {
    let (x, w, b) = (input.get(), weight.get(), bias.map(|bias| bias.get()));
    let rows = w.borrowed().shape().first().copied().unwrap_or(1);
    let numel = x.borrowed().numel().saturating_mul(rows) / PER_ELEMENT;
    if let Some(loan) = Loan::begin(py, numel) {
        let (x, w, b) = (x.lent(&loan), w.lent(&loan), b.map(|b| b.lent(&loan)));
        return enter_short(py, || x.linear(&w, b.as_deref())).map(Out);
    }
    let (x, w, b) = (&x.tensor(), &w.tensor(), b.map(PyTensor::tensor));
    enter(py, numel, || x.linear(w, b.as_ref())).map(Out)
}

/// An equation for operands given with lists of numbered dims: `einsum(a, [0, 1], b, [1, 2], [0, 2])`.
fn equation_of(args: &Bound<'_, PyTuple>) -> PyResult<(String, Vec<Tensor>)> {
    let mut equation = String::new();
    let mut operands = Vec::new();
    for (i, pair) in args.iter().collect::<Vec<_>>().chunks(2).enumerate() {
        let labels = match pair {
            [operand, labels] => {
                operands.push(operand.cast::<PyTensor>()?.get().tensor());
                equation.push_str(if i > 0 { "," } else { "" });
                labels
            }
            rest => {
                equation.push_str("->");
                &rest[0]
            }
        };
        for label in labels.try_iter()? {
            equation.push_str(&label_of(&label?)?);
        }
    }
    Ok((equation, operands))
}

/// The letter for a numbered dim, or an ellipsis.
fn label_of(label: &Bound<'_, PyAny>) -> PyResult<String> {
    if label.cast::<PyEllipsis>().is_ok() {
        return Ok("...".into());
    }
    match label.extract::<u8>() {
        Ok(n @ 0..26) => Ok(char::from(b'A' + n).to_string()),
        Ok(n @ 26..52) => Ok(char::from(b'a' + n - 26).to_string()),
        _ => Err(PyRuntimeError::new_err(format!(
            "einsum: not within the valid range [0, 52) in a list of subscripts: {label}; use 0 to 51"
        ))),
    }
}

/// einsum(equation, *operands) -> Tensor: a sum of products, such as "bij,bjk->bik" for a batch of matrices.
#[pyfunction]
#[pyo3(signature = (*args))]
fn einsum(py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Out> {
    let first = args.iter_borrowed().next().ok_or_else(|| {
        PyTypeError::new_err("einsum: expected an equation and operands, but got no arguments; give both")
    })?;
    let (equation, operands) = match first.cast::<PyString>() {
        Ok(equation) => {
            let rest = args.get_slice(1, args.len());
            let is_list = rest.len() == 1 && rest.get_item(0)?.cast::<PyTensor>().is_err();
            let operands = if is_list {
                tensors_of("einsum", &rest.get_item(0)?)?
            } else {
                tensors_of("einsum", &rest)?
            };
            (equation.to_str()?.to_owned(), operands)
        }
        Err(_) => equation_of(args)?,
    };
    let numel = operands.iter().map(Tensor::numel).sum();
    enter(py, numel, || Tensor::einsum(&equation, &operands.iter().collect::<Vec<_>>())).map(Out)
}

/// tensordot(a, b, dims=2) -> Tensor: sums of products over the last dims of `a` and the first of `b`, or
/// over the dims listed for each.
#[pyfunction]
#[pyo3(signature = (a, b, dims=None, out=None))]
fn tensordot<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyTensor>,
    b: &Bound<'py, PyTensor>,
    dims: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (a, b) = (&a.get().tensor(), &b.get().tensor());
    let (ours, theirs) = match dims {
        Some(dims) if dims.cast::<PyInt>().is_err() => {
            (ints_of(&dims.get_item(0)?)?, ints_of(&dims.get_item(1)?)?)
        }
        dims => {
            let count = dims.map_or(Ok(2), |dims| dims.extract::<isize>())?;
            if count < 0 || count as usize > a.rank().min(b.rank()) {
                return Err(PyRuntimeError::new_err(format!(
                    "tensordot: expects dims from 0 to the number of dims of both tensors ({} and {}), but got \
                     dims={count}; use a number in that range",
                    a.rank(),
                    b.rank()
                )));
            }
            ((-count..0).collect::<Ints>(), (0..count).collect::<Ints>())
        }
    };
    let result = enter(py, a.numel() + b.numel(), || a.tensordot(b, [&ours, &theirs]))?;
    delivered(py, "tensordot", Out(result), out)
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] =
    &["matmul", "mm", "bmm", "mv", "dot", "outer", "addmm", "addmv", "baddbmm", "diagonal"];

/// Adds the functions that are not methods.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(linear, m)?)?;
    m.add_function(wrap_pyfunction!(einsum, m)?)?;
    m.add_function(wrap_pyfunction!(tensordot, m)?)
}
