//! Binary operations: operators, methods, in-place twins.

use super::PyTensor;
use crate::convert::{Given, Operand, Right};
use crate::enter::enter;
use crate::error::IntoPy;
use crate::tensor::lent::{run2, Call2};
use crate::tensor::Out;
use firesteel::Tensor;
use pyo3::prelude::*;

type CallInPlace = fn(&Tensor, &Tensor) -> firesteel::Result<()>;

#[inline]
fn forward(py: Python<'_>, x: &PyTensor, other: Given<'_>, call: Call2) -> PyResult<Out> {
    run2(py, x, other, call).map(Out)
}

#[inline]
fn reflected(py: Python<'_>, x: &PyTensor, other: Given<'_>, call: Call2) -> PyResult<Out> {
    run2(py, x, other, |x, other| call(other, x)).map(Out)
}

#[inline]
fn in_place<'py>(
    slf: Bound<'py, PyTensor>,
    other: Given<'_>,
    call: CallInPlace,
) -> PyResult<Bound<'py, PyTensor>> {
    let (x, other) = (&slf.get().tensor(), Operand::from(other));
    enter(slf.py(), x.numel(), || call(x, &other.beside(x)?))?;
    Ok(slf)
}

/// Methods of two tensors, or a tensor and a number, with their in-place twins.
macro_rules! binary_methods {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])+
                fn $name(&self, py: Python<'_>, other: Given<'_>) -> PyResult<Out> {
                    forward(py, self, other, Tensor::$name)
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                fn $inplace<'py>(slf: Bound<'py, Self>, other: Given<'_>) -> PyResult<Bound<'py, Self>> {
                    in_place(slf, other, Tensor::$inplace)
                }
            )*
        }
    };
}

/// Methods without an in-place twin, and aliases.
macro_rules! methods_only {
    ($($(#[doc = $doc:literal])* $name:ident = $call:ident)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                fn $name(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
                    forward(py, self, other.get()?, Tensor::$call)
                }
            )*
        }
    };
}

macro_rules! operators {
    ($($name:ident $reflected:ident $inplace:ident = $call:ident / $call_inplace:ident)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                fn $name(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
                    forward(py, self, other.get()?, Tensor::$call)
                }
                fn $reflected(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
                    reflected(py, self, other.get()?, Tensor::$call)
                }
                fn $inplace(slf: Bound<'_, Self>, other: Right<'_>) -> PyResult<()> {
                    in_place(slf, other.get()?, Tensor::$call_inplace).map(|_| ())
                }
            )*
        }
    };
}

binary_methods! {
    /// mul(input, other) -> Tensor: `input * other`, element-wise and broadcast.
    mul / mul_
    /// maximum(input, other) -> Tensor: the larger of both, element-wise; nan if either is.
    maximum / maximum_
    /// minimum(input, other) -> Tensor: the smaller of both, element-wise; nan if either is.
    minimum / minimum_
    /// floor_divide(input, other) -> Tensor: the quotient rounded down.
    floor_divide / floor_divide_
    /// remainder(input, other) -> Tensor: remainder with the divisor's sign.
    remainder / remainder_
    /// fmod(input, other) -> Tensor: remainder with the dividend's sign.
    fmod / fmod_
}

methods_only! {
    /// multiply(input, other) -> Tensor: alias of `mul`.
    multiply = mul
    /// true_divide(input, other) -> Tensor: alias of `div`.
    true_divide = div
    /// eq(input, other) -> Tensor: whether `input == other`, element-wise.
    eq = eq
    /// ne(input, other) -> Tensor: whether `input != other`, element-wise.
    ne = ne
    /// lt(input, other) -> Tensor: whether `input < other`, element-wise.
    lt = lt
    /// le(input, other) -> Tensor: whether `input <= other`, element-wise.
    le = le
    /// gt(input, other) -> Tensor: whether `input > other`, element-wise.
    gt = gt
    /// ge(input, other) -> Tensor: whether `input >= other`, element-wise.
    ge = ge
    __eq__ = eq
    __ne__ = ne
    __lt__ = lt
    __le__ = le
    __gt__ = gt
    __ge__ = ge
}

operators! {
    __add__ __radd__ __iadd__ = add / add_
    __mul__ __rmul__ __imul__ = mul / mul_
    __floordiv__ __rfloordiv__ __ifloordiv__ = floor_divide / floor_divide_
    __mod__ __rmod__ __imod__ = remainder / remainder_
}

#[pymethods]
impl PyTensor {
    /// add(input, other, *, alpha=1) -> Tensor: `input + alpha * other`, element-wise and broadcast.
    #[pyo3(signature = (other, *, alpha=None))]
    fn add(&self, py: Python<'_>, other: Given<'_>, alpha: Option<crate::convert::Number>) -> PyResult<Out> {
        let Some(alpha) = alpha else { return forward(py, self, other, Tensor::add) };
        let (x, other) = (&self.tensor(), Operand::from(other));
        enter(py, x.numel(), || x.add_scaled(&other.beside(x)?, alpha.0)).map(Out)
    }

    /// In-place `add`.
    #[pyo3(signature = (other, *, alpha=None))]
    fn add_<'py>(
        slf: Bound<'py, Self>,
        other: Given<'_>,
        alpha: Option<crate::convert::Number>,
    ) -> PyResult<Bound<'py, Self>> {
        let Some(alpha) = alpha else { return in_place(slf, other, Tensor::add_) };
        let (x, other) = (&slf.get().tensor(), Operand::from(other));
        enter(slf.py(), x.numel(), || x.add_scaled_(&other.beside(x)?, alpha.0))?;
        Ok(slf)
    }

    /// sub(input, other, *, alpha=1) -> Tensor: `input - alpha * other`, element-wise and broadcast.
    #[pyo3(signature = (other, *, alpha=None))]
    fn sub(&self, py: Python<'_>, other: Given<'_>, alpha: Option<crate::convert::Number>) -> PyResult<Out> {
        let Some(alpha) = alpha else { return forward(py, self, not_bool(other).py(py)?, Tensor::sub) };
        let (x, other) = (&self.tensor(), Operand::from(other));
        enter(py, x.numel(), || x.sub_scaled(&other.beside(x)?, alpha.0)).map(Out)
    }

    /// In-place `sub`.
    #[pyo3(signature = (other, *, alpha=None))]
    fn sub_<'py>(
        slf: Bound<'py, Self>,
        other: Operand,
        alpha: Option<crate::convert::Number>,
    ) -> PyResult<Bound<'py, Self>> {
        let x = &slf.get().tensor();
        enter(slf.py(), x.numel(), || match alpha {
            None => x.sub_(&other.beside(x)?),
            Some(alpha) => x.sub_scaled_(&other.beside(x)?, alpha.0),
        })?;
        Ok(slf)
    }

    /// div(input, other, *, rounding_mode=None) -> Tensor: the quotient; "trunc" or "floor" rounds it.
    #[pyo3(signature = (other, *, rounding_mode=None))]
    fn div(&self, py: Python<'_>, other: Given<'_>, rounding_mode: Option<&str>) -> PyResult<Out> {
        let call: Call2 = match rounding_mode {
            None => Tensor::div,
            Some("floor") => Tensor::floor_divide,
            Some("trunc") => Tensor::trunc_divide,
            Some(mode) => return Err(unknown_rounding(mode)),
        };
        forward(py, self, other, call)
    }

    /// In-place `div`.
    #[pyo3(signature = (other, *, rounding_mode=None))]
    fn div_<'py>(
        slf: Bound<'py, Self>,
        other: Given<'_>,
        rounding_mode: Option<&str>,
    ) -> PyResult<Bound<'py, Self>> {
        let call: CallInPlace = match rounding_mode {
            None => Tensor::div_,
            Some("floor") => Tensor::floor_divide_,
            Some("trunc") => Tensor::trunc_divide_,
            Some(mode) => return Err(unknown_rounding(mode)),
        };
        in_place(slf, other, call)
    }
}

#[pymethods]
impl PyTensor {
    fn __truediv__(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
        forward(py, self, other.get()?, Tensor::div)
    }

    // PyTorch's two steps, and so its digits.
    fn __rtruediv__(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
        let other = Operand::from(other.get()?);
        let x = &self.tensor();
        enter(py, x.numel(), || {
            let inverse = x.reciprocal()?;
            inverse.mul(&other.beside(&inverse)?)
        })
        .map(Out)
    }

    fn __itruediv__(slf: Bound<'_, Self>, other: Right<'_>) -> PyResult<()> {
        in_place(slf, other.get()?, Tensor::div_).map(|_| ())
    }
}

/// Subtraction refuses `True` and `False`, as PyTorch does.
fn not_bool(other: Given<'_>) -> firesteel::Result<Given<'_>> {
    firesteel::ensure!(
        !matches!(other, Given::Operand(Operand::Scalar(firesteel::Scalar::Bool(_)))),
        DType,
        "sub: Subtraction, the `-` operator, with a bool is not supported; use an int"
    );
    Ok(other)
}

#[pymethods]
impl PyTensor {
    fn __sub__(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
        forward(py, self, not_bool(other.get()?).py(py)?, Tensor::sub)
    }

    fn __rsub__(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
        reflected(py, self, not_bool(other.get()?).py(py)?, Tensor::sub)
    }

    fn __isub__(slf: Bound<'_, Self>, other: Right<'_>) -> PyResult<()> {
        let other = not_bool(other.get()?).py(slf.py())?;
        in_place(slf, other, Tensor::sub_).map(|_| ())
    }
}

fn unknown_rounding(mode: &str) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err(format!(
        "div: expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{mode}'; use one of these"
    ))
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &[
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "floor_divide",
    "remainder",
    "fmod",
    "multiply",
    "true_divide",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
];
