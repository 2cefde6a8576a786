//! Arguments that are True or False: a reader for each name, so that errors name the argument as PyTorch's do.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};

/// True or False, and for `Option` None, too.
pub trait Flag: Sized {
    /// The value of the argument `name`.
    fn read(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Self>;
}

impl Flag for bool {
    #[inline]
    fn read(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        match value.cast::<PyBool>() {
            Ok(flag) => Ok(flag.is_true()),
            Err(_) => otherwise(value, name),
        }
    }
}

impl Flag for Option<bool> {
    #[inline]
    fn read(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        if value.is_none() {
            return Ok(None);
        }
        bool::read(value, name).map(Some)
    }
}

/// NumPy's bools are flags, too.
#[cold]
fn otherwise(value: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    match value.extract() {
        Ok(flag) => Ok(flag),
        Err(_) => Err(PyTypeError::new_err(format!(
            "argument '{name}' must be bool, not {}; use True or False",
            value.get_type().name()?
        ))),
    }
}

/// True, False or a number, which is true unless it is 0.
fn truth<T: Flag>(value: &Bound<'_, PyAny>, name: &str) -> PyResult<T> {
    match value.cast::<PyInt>() {
        Ok(_) => T::read(&PyBool::new(value.py(), value.is_truthy()?).to_owned().into_any(), name),
        Err(_) => T::read(value, name),
    }
}

/// The argument `requires_grad` of functions that make tensors: None is False.
pub fn wants_grad(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(Option::<bool>::read(value, "requires_grad")?.unwrap_or(false))
}

macro_rules! readers {
    ($read:expr; $($name:ident)*) => {
        $(
            #[doc = concat!("The argument `", stringify!($name), "`.")]
            #[inline]
            pub fn $name<T: Flag>(value: &Bound<'_, PyAny>) -> PyResult<T> {
                $read(value, stringify!($name))
            }
        )*
    };
}

readers! { T::read;
    accumulate as_tuple ceil_mode copy count_include_pad descending enable_gqa force inplace is_causal keepdim keepdims largest
    non_blocking pin_memory reduce replacement requires_grad return_indices scale_grad_by_freq size_average sorted sparse stable
    training
    unbiased
}

// PyTorch takes numbers for these.
readers! { truth; amsgrad create_graph decoupled maximize nesterov retain_graph }
