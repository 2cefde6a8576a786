//! Powers, limits, choices, logic and tests of values.

use super::{delivered, PyTensor};
use crate::convert::{Given, Number, Operand, Right};
use crate::enter::enter;
use crate::tensor::lent::{run, run2, Call2};
use crate::tensor::Out;
use firesteel::{DType, Scalar, Tensor};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

type Call2InPlace = fn(&Tensor, &Tensor) -> firesteel::Result<()>;

fn pair(py: Python<'_>, x: &PyTensor, other: Given<'_>, call: Call2) -> PyResult<Out> {
    run2(py, x, other, call).map(Out)
}

fn pair_in_place<'py>(
    slf: Bound<'py, PyTensor>,
    other: Given<'_>,
    call: Call2InPlace,
) -> PyResult<Bound<'py, PyTensor>> {
    let (x, other) = (&slf.get().tensor(), Operand::from(other));
    enter(slf.py(), x.numel(), || call(x, &other.beside(x)?))?;
    Ok(slf)
}

/// Logic on two tensors, or a tensor and a number, with in-place twins.
macro_rules! logic {
    ($($doc:literal $name:ident $inplace:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input, other) -> Tensor: ", $doc)]
                fn $name(&self, py: Python<'_>, other: Given<'_>) -> PyResult<Out> {
                    pair(py, self, other, Tensor::$name)
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                fn $inplace<'py>(slf: Bound<'py, Self>, other: Given<'_>) -> PyResult<Bound<'py, Self>> {
                    pair_in_place(slf, other, Tensor::$inplace)
                }
            )*
        }
    };
}

logic! {
    "whether both are not 0, element-wise." logical_and logical_and_;
    "whether one is not 0, element-wise." logical_or logical_or_;
    "whether exactly one is not 0, element-wise." logical_xor logical_xor_;
    "bits set in both, element-wise." bitwise_and bitwise_and_;
    "bits set in one or both, element-wise." bitwise_or bitwise_or_;
    "bits set in exactly one, element-wise." bitwise_xor bitwise_xor_;
    "bits moved up, element-wise." bitwise_left_shift bitwise_left_shift_;
    "bits moved down, element-wise." bitwise_right_shift bitwise_right_shift_;
}

macro_rules! bit_operators {
    ($($name:ident $reflected:ident $inplace:ident = $call:ident / $call_inplace:ident)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                fn $name(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
                    pair(py, self, other.get()?, Tensor::$call)
                }
                fn $reflected(&self, py: Python<'_>, other: Right<'_>) -> PyResult<Out> {
                    let other = Operand::from(other.get()?);
                    let x = &self.tensor();
                    enter(py, x.numel(), || other.beside(x)?.$call(x)).map(Out)
                }
                fn $inplace(slf: Bound<'_, Self>, other: Right<'_>) -> PyResult<()> {
                    pair_in_place(slf, other.get()?, Tensor::$call_inplace).map(|_| ())
                }
            )*
        }
    };
}

bit_operators! {
    __and__ __rand__ __iand__ = bitwise_and / bitwise_and_
    __or__ __ror__ __ior__ = bitwise_or / bitwise_or_
    __xor__ __rxor__ __ixor__ = bitwise_xor / bitwise_xor_
    __lshift__ __rlshift__ __ilshift__ = bitwise_left_shift / bitwise_left_shift_
    __rshift__ __rrshift__ __irshift__ = bitwise_right_shift / bitwise_right_shift_
}

/// Tests of each value.
macro_rules! tests {
    ($($doc:literal $name:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input) -> Tensor: ", $doc)]
                fn $name(&self, py: Python<'_>) -> PyResult<Out> {
                    run(py, self, Tensor::$name).map(Out)
                }
            )*
        }
    };
}

tests! {
    "whether an element is not a number, element-wise." isnan;
    "whether an element is infinite, element-wise." isinf;
    "whether an element is neither infinite nor nan, element-wise." isfinite;
    "whether an element is 0, element-wise." logical_not;
    "all bits flipped, element-wise; the logical not of bool." bitwise_not;
}

fn power(x: &Tensor, exponent: Operand) -> firesteel::Result<Tensor> {
    match exponent {
        Operand::Tensor(exponent) => x.pow(&exponent),
        Operand::Scalar(exponent) => x.pow_scalar(exponent),
    }
}

fn power_in_place<'py>(slf: Bound<'py, PyTensor>, exponent: Operand) -> PyResult<Bound<'py, PyTensor>> {
    let x = &slf.get().tensor();
    enter(slf.py(), x.numel(), || match exponent {
        Operand::Tensor(exponent) => x.pow_(&exponent),
        Operand::Scalar(exponent) => x.pow_scalar_(exponent),
    })?;
    Ok(slf)
}

/// `min=` and `max=` of `clamp`: numbers, or else both as tensors.
enum Limits {
    Scalars(Option<Scalar>, Option<Scalar>),
    Tensors(Option<Tensor>, Option<Tensor>),
}

impl Limits {
    fn new(x: &Tensor, min: Option<Operand>, max: Option<Operand>) -> firesteel::Result<Self> {
        let scalar = |limit: &Option<Operand>| match limit {
            Some(Operand::Scalar(scalar)) => Some(*scalar),
            _ => None,
        };
        if !matches!(min, Some(Operand::Tensor(_))) && !matches!(max, Some(Operand::Tensor(_))) {
            return Ok(Self::Scalars(scalar(&min), scalar(&max)));
        }
        let tensor = |limit: Option<Operand>| limit.map(|limit| limit.beside(x)).transpose();
        Ok(Self::Tensors(tensor(min)?, tensor(max)?))
    }

    fn clamp(&self, x: &Tensor) -> firesteel::Result<Tensor> {
        match self {
            Limits::Scalars(min, max) => x.clamp(*min, *max),
            Limits::Tensors(min, max) => x.clamp_tensor(min.as_ref(), max.as_ref()),
        }
    }

    fn clamp_(&self, x: &Tensor) -> firesteel::Result<()> {
        match self {
            Limits::Scalars(min, max) => x.clamp_(*min, *max),
            Limits::Tensors(min, max) => x.clamp_tensor_(min.as_ref(), max.as_ref()),
        }
    }
}

fn limited(py: Python<'_>, x: &PyTensor, min: Option<Operand>, max: Option<Operand>) -> PyResult<Out> {
    let x = &x.tensor();
    enter(py, x.numel(), || Limits::new(x, min, max)?.clamp(x)).map(Out)
}

fn limited_in_place<'py>(
    slf: Bound<'py, PyTensor>,
    min: Option<Operand>,
    max: Option<Operand>,
) -> PyResult<Bound<'py, PyTensor>> {
    let x = &slf.get().tensor();
    enter(slf.py(), x.numel(), || Limits::new(x, min, max)?.clamp_(x))?;
    Ok(slf)
}

#[pymethods]
impl PyTensor {
    /// pow(input, exponent) -> Tensor: input to the power of exponent, element-wise and broadcast.
    fn pow(&self, py: Python<'_>, exponent: Operand) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, x.numel(), || power(x, exponent)).map(Out)
    }

    /// In-place `pow`.
    fn pow_<'py>(slf: Bound<'py, Self>, exponent: Operand) -> PyResult<Bound<'py, Self>> {
        power_in_place(slf, exponent)
    }

    fn __pow__(
        &self,
        py: Python<'_>,
        exponent: Right<'_>,
        modulo: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Out> {
        if modulo.is_some() {
            return Err(PyTypeError::new_err("pow() of a tensor takes no modulus"));
        }
        self.pow(py, exponent.get()?.into())
    }

    fn __rpow__(&self, py: Python<'_>, base: Right<'_>, modulo: Option<Bound<'_, PyAny>>) -> PyResult<Out> {
        if modulo.is_some() {
            return Err(PyTypeError::new_err("pow() of a tensor takes no modulus"));
        }
        let (x, base) = (&self.tensor(), Operand::from(base.get()?));
        enter(py, x.numel(), || match base {
            Operand::Tensor(base) => base.pow(x),
            Operand::Scalar(base) => Tensor::scalar_pow(base, x),
        })
        .map(Out)
    }

    fn __ipow__(
        slf: Bound<'_, Self>,
        exponent: Right<'_>,
        _modulo: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        power_in_place(slf, exponent.get()?.into()).map(|_| ())
    }

    fn __invert__(&self, py: Python<'_>) -> PyResult<Out> {
        let x = &self.tensor();
        if x.dtype().is_float() {
            return Err(PyTypeError::new_err(
                "~ (operator.invert) is only implemented on integer and Boolean-type tensors",
            ));
        }
        enter(py, x.numel(), || x.bitwise_not()).map(Out)
    }

    /// In-place `logical_not`.
    fn logical_not_<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let x = &slf.get().tensor();
        enter(slf.py(), x.numel(), || x.logical_not_())?;
        Ok(slf)
    }

    /// In-place `bitwise_not`.
    fn bitwise_not_<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let x = &slf.get().tensor();
        enter(slf.py(), x.numel(), || x.bitwise_not_())?;
        Ok(slf)
    }

    /// clamp(input, min=None, max=None) -> Tensor: values limited to a range of numbers or tensors.
    #[pyo3(signature = (min=None, max=None))]
    fn clamp(&self, py: Python<'_>, min: Option<Operand>, max: Option<Operand>) -> PyResult<Out> {
        limited(py, self, min, max)
    }

    /// In-place `clamp`.
    #[pyo3(signature = (min=None, max=None))]
    fn clamp_<'py>(
        slf: Bound<'py, Self>,
        min: Option<Operand>,
        max: Option<Operand>,
    ) -> PyResult<Bound<'py, Self>> {
        limited_in_place(slf, min, max)
    }

    /// clip(input, min=None, max=None) -> Tensor: alias of `clamp`.
    #[pyo3(signature = (min=None, max=None))]
    fn clip(&self, py: Python<'_>, min: Option<Operand>, max: Option<Operand>) -> PyResult<Out> {
        limited(py, self, min, max)
    }

    /// In-place `clip`.
    #[pyo3(signature = (min=None, max=None))]
    fn clip_<'py>(
        slf: Bound<'py, Self>,
        min: Option<Operand>,
        max: Option<Operand>,
    ) -> PyResult<Bound<'py, Self>> {
        limited_in_place(slf, min, max)
    }

    /// clamp_min(input, min) -> Tensor: values limited from below.
    fn clamp_min(&self, py: Python<'_>, min: Operand) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, x.numel(), || match min {
            Operand::Scalar(min) => x.clamp_min(min),
            Operand::Tensor(min) => x.clamp_min_tensor(&min),
        })
        .map(Out)
    }

    /// In-place `clamp_min`.
    fn clamp_min_<'py>(slf: Bound<'py, Self>, min: Operand) -> PyResult<Bound<'py, Self>> {
        limited_in_place(slf, Some(min), None)
    }

    /// clamp_max(input, max) -> Tensor: values limited from above.
    fn clamp_max(&self, py: Python<'_>, max: Operand) -> PyResult<Out> {
        let x = &self.tensor();
        enter(py, x.numel(), || match max {
            Operand::Scalar(max) => x.clamp_max(max),
            Operand::Tensor(max) => x.clamp_max_tensor(&max),
        })
        .map(Out)
    }

    /// In-place `clamp_max`.
    fn clamp_max_<'py>(slf: Bound<'py, Self>, max: Operand) -> PyResult<Bound<'py, Self>> {
        limited_in_place(slf, None, Some(max))
    }

    /// Where `condition` holds this tensor, else `other`.
    #[pyo3(name = "where")]
    fn where_method(&self, py: Python<'_>, condition: &Bound<'_, PyTensor>, other: Operand) -> PyResult<Out> {
        let (x, condition) = (&self.tensor(), &condition.get().tensor());
        enter(py, x.numel(), || Tensor::where_self(condition, x, &choice(other, x)?)).map(Out)
    }

    /// masked_fill(input, mask, value) -> Tensor: a copy with value wherever the bool tensor mask holds.
    fn masked_fill(&self, py: Python<'_>, mask: &Bound<'_, PyTensor>, value: Operand) -> PyResult<Out> {
        let (x, mask) = (&self.tensor(), &mask.get().tensor());
        enter(py, x.numel(), || match value {
            Operand::Scalar(value) => x.masked_fill(mask, value),
            Operand::Tensor(value) => x.masked_fill_tensor(mask, &value),
        })
        .map(Out)
    }

    /// In-place `masked_fill`.
    fn masked_fill_<'py>(
        slf: Bound<'py, Self>,
        mask: &Bound<'py, PyTensor>,
        value: Operand,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, mask) = (&slf.get().tensor(), &mask.get().tensor());
        enter(slf.py(), x.numel(), || match value {
            Operand::Scalar(value) => x.masked_fill_(mask, value),
            Operand::Tensor(value) => x.masked_fill_tensor_(mask, &value),
        })?;
        Ok(slf)
    }

    /// lerp(input, end, weight) -> Tensor: `input + weight * (end - input)`, element-wise and broadcast.
    fn lerp(&self, py: Python<'_>, end: &Bound<'_, PyTensor>, weight: Operand) -> PyResult<Out> {
        let (x, end) = (&self.tensor(), &end.get().tensor());
        enter(py, x.numel(), || match weight {
            Operand::Scalar(weight) => x.lerp(end, weight.to_f64()),
            Operand::Tensor(weight) => x.lerp_tensor(end, &weight),
        })
        .map(Out)
    }

    /// In-place `lerp`.
    fn lerp_<'py>(
        slf: Bound<'py, Self>,
        end: &Bound<'py, PyTensor>,
        weight: Operand,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, end) = (&slf.get().tensor(), &end.get().tensor());
        enter(slf.py(), x.numel(), || match weight {
            Operand::Scalar(weight) => x.lerp_(end, weight.to_f64()),
            Operand::Tensor(weight) => x.lerp_tensor_(end, &weight),
        })?;
        Ok(slf)
    }

    /// addcmul(input, tensor1, tensor2, *, value=1) -> Tensor: `input + value * tensor1 * tensor2`.
    #[pyo3(signature = (tensor1, tensor2, *, value=None))]
    fn addcmul(
        &self,
        py: Python<'_>,
        tensor1: &Bound<'_, PyTensor>,
        tensor2: &Bound<'_, PyTensor>,
        value: Option<Number>,
    ) -> PyResult<Out> {
        let (x, a, b) = (&self.tensor(), &tensor1.get().tensor(), &tensor2.get().tensor());
        enter(py, x.numel(), || x.add_exactly_scaled(&a.mul(b)?, scale(value))).map(Out)
    }

    /// In-place `addcmul`.
    #[pyo3(signature = (tensor1, tensor2, *, value=None))]
    fn addcmul_<'py>(
        slf: Bound<'py, Self>,
        tensor1: &Bound<'py, PyTensor>,
        tensor2: &Bound<'py, PyTensor>,
        value: Option<Number>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, a, b) = (&slf.get().tensor(), &tensor1.get().tensor(), &tensor2.get().tensor());
        enter(slf.py(), x.numel(), || x.add_exactly_scaled_(&a.mul(b)?, scale(value)))?;
        Ok(slf)
    }

    /// addcdiv(input, tensor1, tensor2, *, value=1) -> Tensor: `input + value * tensor1 / tensor2`.
    #[pyo3(signature = (tensor1, tensor2, *, value=None))]
    fn addcdiv(
        &self,
        py: Python<'_>,
        tensor1: &Bound<'_, PyTensor>,
        tensor2: &Bound<'_, PyTensor>,
        value: Option<Number>,
    ) -> PyResult<Out> {
        let (x, a, b) = (&self.tensor(), &tensor1.get().tensor(), &tensor2.get().tensor());
        enter(py, x.numel(), || x.add_exactly_scaled(&a.div(b)?, scale(value))).map(Out)
    }

    /// In-place `addcdiv`.
    #[pyo3(signature = (tensor1, tensor2, *, value=None))]
    fn addcdiv_<'py>(
        slf: Bound<'py, Self>,
        tensor1: &Bound<'py, PyTensor>,
        tensor2: &Bound<'py, PyTensor>,
        value: Option<Number>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, a, b) = (&slf.get().tensor(), &tensor1.get().tensor(), &tensor2.get().tensor());
        enter(slf.py(), x.numel(), || x.add_exactly_scaled_(&a.div(b)?, scale(value)))?;
        Ok(slf)
    }
}

fn scale(value: Option<Number>) -> Scalar {
    value.map_or(Scalar::Int(1), |value| value.0)
}

/// What `where` may choose instead of an element of `other`: a float32 result has to hold it.
fn choice(operand: Operand, other: &Tensor) -> firesteel::Result<Tensor> {
    if let Operand::Scalar(scalar) = operand {
        let dtype = scalar.dtype_beside(other.dtype());
        if dtype == DType::F32 {
            scalar.check_fits("where", dtype)?;
        }
    }
    operand.beside(other)
}

/// An operand as a tensor of its own dtype.
fn alone(operand: Operand) -> firesteel::Result<Tensor> {
    match operand {
        Operand::Tensor(tensor) => Ok(tensor),
        Operand::Scalar(scalar) => Ok(Tensor::constant(scalar.to_array(scalar.default_dtype())?)),
    }
}

/// pow(base, exponent) -> Tensor: base to the power of exponent; one of them may be a number.
#[pyfunction]
#[pyo3(signature = (input, exponent, *, out=None))]
fn pow<'py>(
    py: Python<'py>,
    input: Operand,
    exponent: Operand,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let result = enter(py, 0, || match (input, exponent) {
        (Operand::Tensor(base), exponent) => power(&base, exponent),
        (Operand::Scalar(base), Operand::Tensor(exponent)) => Tensor::scalar_pow(base, &exponent),
        (base, exponent) => power(&alone(base)?, exponent),
    })?;
    delivered(py, "pow", Out(result), out)
}

/// where(condition, input, other) -> Tensor: input where condition holds, else other; with a condition
/// alone, the indices at which it holds, one tensor per dim.
#[pyfunction]
#[pyo3(name = "where", signature = (condition, input=None, other=None, *, out=None))]
fn where_function<'py>(
    py: Python<'py>,
    condition: &Bound<'py, PyTensor>,
    input: Option<Operand>,
    other: Option<Operand>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let condition = &condition.get().tensor();
    let (input, other) = match (input, other) {
        (Some(input), Some(other)) => (input, other),
        (None, None) => {
            let indices = enter(py, condition.numel(), || condition.nonzero_by_dim())?;
            return Ok(pyo3::types::PyTuple::new(py, indices.into_iter().map(Out))?.into_any());
        }
        _ => {
            return Err(PyTypeError::new_err("where() takes condition alone, or condition, input and other"))
        }
    };
    let result = enter(py, condition.numel(), || {
        let (a, b) = match (input, other) {
            (Operand::Tensor(a), b) => {
                let b = choice(b, &a)?;
                (a, b)
            }
            (a, Operand::Tensor(b)) => (choice(a, &b)?, b),
            (a, b) => (alone(a)?, alone(b)?),
        };
        Tensor::where_self(condition, &a, &b)
    })?;
    delivered(py, "where", Out(result), out)
}

/// Adds the functions that take their tensors in another order than the methods do.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(pow, m)?)?;
    m.add_function(wrap_pyfunction!(where_function, m)?)
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &[
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "isnan",
    "isinf",
    "isfinite",
    "clamp",
    "clip",
    "clamp_",
    "clip_",
    "clamp_min",
    "clamp_max",
    "clamp_min_",
    "clamp_max_",
    "masked_fill",
    "lerp",
    "addcmul",
    "addcdiv",
];
