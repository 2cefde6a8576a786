//! Matrix products, and what is made of them.

use super::PyTensor;
use crate::convert::Number;
use crate::enter::enter;
use firesteel::{Scalar, Tensor};
use pyo3::prelude::*;

type Call = fn(&Tensor, &Tensor) -> firesteel::Result<Tensor>;
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
fn product(py: Python<'_>, a: &PyTensor, b: &Bound<'_, PyTensor>, call: Call) -> PyResult<PyTensor> {
    let (a, b) = (a.tensor(), b.get().tensor());
    enter(py, work(a, b).max(b.numel()), || call(a, b)).map(PyTensor::new)
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
                fn $name(&self, py: Python<'_>, $other: &Bound<'_, PyTensor>) -> PyResult<PyTensor> {
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
                ) -> PyResult<PyTensor> {
                    let (a, b) = ($a.get().tensor(), $b.get().tensor());
                    let (beta, alpha) = factors(beta, alpha);
                    let call: AddCall = Tensor::$name;
                    enter(py, work(a, b), || call(self.tensor(), a, b, beta, alpha)).map(PyTensor::new)
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
                    let (x, a, b) = (slf.get().tensor(), $a.get().tensor(), $b.get().tensor());
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
    fn __rmatmul__(&self, py: Python<'_>, other: &Bound<'_, PyTensor>) -> PyResult<PyTensor> {
        let (a, b) = (other.get().tensor(), self.tensor());
        enter(py, work(a, b), || a.matmul(b)).map(PyTensor::new)
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
) -> PyResult<PyTensor> {
    let (x, w) = (input.get().tensor(), weight.get().tensor());
    let bias = bias.map(|bias| bias.get().tensor());
    let rows = w.shape().first().copied().unwrap_or(1);
    enter(py, x.numel().saturating_mul(rows) / PER_ELEMENT, || x.linear(w, bias)).map(PyTensor::new)
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &["matmul", "mm", "bmm", "mv", "dot", "outer", "addmm", "addmv", "baddbmm"];

/// Adds the functions that are not methods.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(linear, m)?)
}
