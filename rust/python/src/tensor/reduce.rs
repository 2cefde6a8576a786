//! Reductions over dims, scans along them, and sorting.

use super::PyTensor;
use crate::convert::{dim_of, DTypeArg, DimArg, Ints, Number, Operand};
use crate::enter::enter;
use crate::flag;
use crate::tensor::Out;
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString};

/// The dims of a reduction and whether they stay: PyTorch's names or NumPy's.
fn over(dim: DimArg, axis: DimArg, keepdim: bool, keepdims: Option<bool>) -> (Ints, bool) {
    (dim.0.or(axis.0).unwrap_or_default(), keepdims.unwrap_or(keepdim))
}

/// One dim or none, by PyTorch's name or NumPy's.
fn one_dim(op: &str, dim: DimArg, axis: DimArg) -> PyResult<Option<isize>> {
    match dim.0.or(axis.0).as_deref() {
        None => Ok(None),
        Some(&[dim]) => Ok(Some(dim)),
        Some(dims) => Err(PyTypeError::new_err(format!("{op}(): dim must be one int, not {dims:?}"))),
    }
}

/// What `reduce` makes of `x` as `dtype`, in that dtype: sums of integers are computed in int64.
fn in_dtype(
    x: &Tensor,
    dtype: Option<DTypeArg>,
    reduce: impl FnOnce(&Tensor) -> firesteel::Result<Tensor>,
) -> firesteel::Result<Tensor> {
    match dtype {
        None => reduce(x),
        Some(DTypeArg(dtype)) => reduce(&x.to_dtype(dtype)?)?.to_dtype(dtype),
    }
}

/// Several results under the names that PyTorch gives them.
fn named<'py>(py: Python<'py>, name: &str, results: [Tensor; 2]) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let [first, second] = results.map(Out);
    let import = || py.import("firesteel.return_types").map(Bound::unbind);
    MODULE.get_or_try_init(py, import)?.bind(py).getattr(name)?.call1((first, second))
}

/// `sum` and its like: dims, keepdim, dtype.
macro_rules! sums {
    ($($doc:literal $name:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(
                    stringify!($name), "(input, dim=None, keepdim=False, *, dtype=None) -> Tensor: ", $doc
                )]
                #[pyo3(signature = (
                    dim=DimArg(None), keepdim=false, *, dtype=None, axis=DimArg(None), keepdims=None
                ))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    dim: DimArg,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    dtype: Option<DTypeArg>,
                    axis: DimArg,
                    #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
                ) -> PyResult<Out> {
                    let x = &self.tensor();
                    let (dims, keepdim) = over(dim, axis, keepdim, keepdims);
                    enter(py, x.numel(), || in_dtype(x, dtype, |x| x.$name(&dims, keepdim))).map(Out)
                }
            )*
        }
    };
}

sums! {
    "sum over dims, or of all elements." sum;
    "sum over dims, or of all elements, with nan as 0." nansum;
    "arithmetic mean over dims, or of all elements." mean;
}

/// `amax` and its like: dims and keepdim.
macro_rules! folds {
    ($($doc:literal $name:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input, dim=None, keepdim=False) -> Tensor: ", $doc)]
                #[pyo3(signature = (dim=DimArg(None), keepdim=false, *, axis=DimArg(None), keepdims=None))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    dim: DimArg,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    axis: DimArg,
                    #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
                ) -> PyResult<Out> {
                    let x = &self.tensor();
                    let (dims, keepdim) = over(dim, axis, keepdim, keepdims);
                    enter(py, x.numel(), || x.$name(&dims, keepdim)).map(Out)
                }
            )*
        }
    };
}

folds! {
    "the largest elements over dims; ties share the gradient." amax;
    "the smallest elements over dims; ties share the gradient." amin;
    "log(sum(exp(input))) over dims, without overflow." logsumexp;
}

/// `any` and `all`: as `amax`, but an empty list of dims leaves every element for itself.
macro_rules! truths {
    ($($doc:literal $name:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input, dim=None, keepdim=False) -> Tensor: ", $doc)]
                #[pyo3(signature = (dim=DimArg(None), keepdim=false, *, axis=DimArg(None), keepdims=None))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    dim: DimArg,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    axis: DimArg,
                    #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
                ) -> PyResult<Out> {
                    let x = &self.tensor();
                    let is_none = dim.0.is_none() && axis.0.is_none();
                    let (dims, keepdim) = over(dim, axis, keepdim, keepdims);
                    enter(py, x.numel(), || {
                        if dims.is_empty() && !is_none {
                            return x.unsqueeze(0)?.$name(&[0], false);
                        }
                        x.$name(&dims, keepdim)
                    })
                    .map(Out)
                }
            )*
        }
    };
}

truths! {
    "whether any element over dims is not 0." any;
    "whether all elements over dims are not 0." all;
}

/// `argmax` and `argmin`: one dim, or the index in row-major order.
macro_rules! positions {
    ($($doc:literal $name:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input, dim=None, keepdim=False) -> Tensor: ", $doc)]
                #[pyo3(signature = (dim=DimArg(None), keepdim=false, *, axis=DimArg(None), keepdims=None))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    dim: DimArg,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    axis: DimArg,
                    #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
                ) -> PyResult<Out> {
                    let x = &self.tensor();
                    let dim = one_dim(stringify!($name), dim, axis)?;
                    let keepdim = keepdims.unwrap_or(keepdim);
                    enter(py, x.numel(), || x.$name(dim, keepdim)).map(Out)
                }
            )*
        }
    };
}

positions! {
    "index of the first largest element along dim, or of all elements." argmax;
    "index of the first smallest element along dim, or of all elements." argmin;
}

/// `max` and `min`: of all elements, along a dim with indices, or of two tensors.
macro_rules! extrema {
    ($($name:ident $along:ident $pair:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(
                    stringify!($name), "(input), ", stringify!($name), "(input, dim, keepdim=False) or ",
                    stringify!($name), "(input, other): the extremum of all elements, along dim with indices, ",
                    "or of two tensors element-wise."
                )]
                #[pyo3(signature = (dim=None, keepdim=false, *, other=None, axis=None, keepdims=None))]
                fn $name<'py>(
                    &self,
                    py: Python<'py>,
                    dim: Option<Bound<'py, PyAny>>,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    other: Option<Bound<'py, PyTensor>>,
                    axis: Option<Bound<'py, PyAny>>,
                    #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
                ) -> PyResult<Bound<'py, PyAny>> {
                    let x = &self.tensor();
                    let Some(dim) = dim.or(axis).or(other.map(Bound::into_any)) else {
                        let out = enter(py, x.numel(), || x.$name())?;
                        return Ok(Out(out).into_pyobject(py)?.into_any());
                    };
                    if let Ok(other) = dim.cast::<PyTensor>() {
                        let other = &other.get().tensor();
                        let out = enter(py, x.numel(), || x.$pair(other))?;
                        return Ok(Out(out).into_pyobject(py)?.into_any());
                    }
                    let (dim, keepdim) = (dim_of(&dim)?, keepdims.unwrap_or(keepdim));
                    let (values, indices) = enter(py, x.numel(), || x.$along(dim, keepdim))?;
                    named(py, stringify!($name), [values, indices])
                }
            )*
        }
    };
}

extrema! {
    max max_dim maximum;
    min min_dim minimum;
}

/// Arguments of `var` and `std`: `(dim, unbiased, keepdim)`, `(unbiased)`, or `correction=` by name.
struct Spread {
    dims: Ints,
    correction: f64,
    keepdim: bool,
}

impl Spread {
    fn new(
        dim: Option<Bound<'_, PyAny>>,
        unbiased: Option<bool>,
        keepdim: bool,
        correction: Option<Number>,
    ) -> PyResult<Self> {
        let (dim, unbiased) = match dim {
            Some(flag) if flag.is_instance_of::<PyBool>() && unbiased.is_none() => {
                (None, Some(flag.extract()?))
            }
            dim => (dim, unbiased),
        };
        let dims = match dim {
            None => Ints::new(),
            Some(dim) => dim.extract::<DimArg>()?.0.unwrap_or_default(),
        };
        let correction = match (unbiased, correction) {
            (Some(_), Some(_)) => {
                return Err(PyTypeError::new_err("var and std take either unbiased or correction, not both"))
            }
            (Some(unbiased), None) => f64::from(u8::from(unbiased)),
            (None, correction) => correction.map_or(1.0, |correction| correction.0.to_f64()),
        };
        Ok(Self { dims, correction, keepdim })
    }
}

macro_rules! spreads {
    ($($doc:literal $name:ident $with_mean:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(
                    stringify!($name), "(input, dim=None, unbiased=True, keepdim=False, *, correction=1) -> Tensor: ",
                    $doc
                )]
                #[pyo3(signature = (
                    dim=None, unbiased=None, keepdim=false, *, correction=None, axis=None, keepdims=None
                ))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    dim: Option<Bound<'_, PyAny>>,
                    #[pyo3(from_py_with = flag::unbiased)] unbiased: Option<bool>,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    correction: Option<Number>,
                    axis: Option<Bound<'_, PyAny>>,
                    #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
                ) -> PyResult<Out> {
                    let x = &self.tensor();
                    let spread =
                        Spread::new(dim.or(axis), unbiased, keepdims.unwrap_or(keepdim), correction)?;
                    enter(py, x.numel(), || x.$name(&spread.dims, spread.correction, spread.keepdim))
                        .map(Out)
                }
                #[doc = concat!("`", stringify!($name), "` and `mean` of the same dims.")]
                #[pyo3(signature = (dim=None, unbiased=None, keepdim=false, *, correction=None))]
                fn $with_mean(
                    &self,
                    py: Python<'_>,
                    dim: Option<Bound<'_, PyAny>>,
                    #[pyo3(from_py_with = flag::unbiased)] unbiased: Option<bool>,
                    #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
                    correction: Option<Number>,
                ) -> PyResult<(Out, Out)> {
                    let x = &self.tensor();
                    let spread = Spread::new(dim, unbiased, keepdim, correction)?;
                    let (spread, mean) = enter(py, x.numel(), || {
                        let out = x.$name(&spread.dims, spread.correction, spread.keepdim)?;
                        Ok((out, x.mean(&spread.dims, spread.keepdim)?))
                    })?;
                    Ok((Out(spread), Out(mean)))
                }
            )*
        }
    };
}

spreads! {
    "variance over dims: squared deviations over the number of elements less correction." var var_mean;
    "standard deviation over dims, the root of var." std std_mean;
}

/// Running results along a dim, with in-place twins.
macro_rules! scans {
    ($($doc:literal $name:ident $inplace:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!(stringify!($name), "(input, dim, *, dtype=None) -> Tensor: ", $doc)]
                #[pyo3(signature = (dim=DimArg(None), *, dtype=None, axis=DimArg(None)))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    dim: DimArg,
                    dtype: Option<DTypeArg>,
                    axis: DimArg,
                ) -> PyResult<Out> {
                    let x = &self.tensor();
                    let dim = required(stringify!($name), one_dim(stringify!($name), dim, axis)?)?;
                    enter(py, x.numel(), || in_dtype(x, dtype, |x| x.$name(dim))).map(Out)
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                #[pyo3(signature = (dim=DimArg(None), *, dtype=None, axis=DimArg(None)))]
                fn $inplace<'py>(
                    slf: Bound<'py, Self>,
                    dim: DimArg,
                    dtype: Option<DTypeArg>,
                    axis: DimArg,
                ) -> PyResult<Bound<'py, Self>> {
                    let x = &slf.get().tensor();
                    let dim = required(stringify!($inplace), one_dim(stringify!($inplace), dim, axis)?)?;
                    if let Some(dtype) = dtype.filter(|dtype| dtype.0 != x.dtype()) {
                        return Err(PyRuntimeError::new_err(format!(
                            "{}: dtype {} must be that of the tensor, {}; use the method without _",
                            stringify!($inplace),
                            dtype.0,
                            x.dtype()
                        )));
                    }
                    enter(slf.py(), x.numel(), || x.$inplace(dim))?;
                    Ok(slf)
                }
            )*
        }
    };
}

fn required(op: &str, dim: Option<isize>) -> PyResult<isize> {
    dim.ok_or_else(|| PyTypeError::new_err(format!("{op}() missing 1 required argument: 'dim'")))
}

scans! {
    "running sum along dim." cumsum cumsum_;
    "running product along dim." cumprod cumprod_;
}

/// The order of a vector norm: a number, or "fro" for 2.
fn order_of(p: Option<Bound<'_, PyAny>>) -> PyResult<f64> {
    let Some(p) = p else { return Ok(2.0) };
    if let Ok(name) = p.cast::<PyString>() {
        return match name.to_string().as_str() {
            "fro" => Ok(2.0),
            name => Err(PyRuntimeError::new_err(format!("norm: order '{name}' is not supported; use 'fro'"))),
        };
    }
    Ok(p.extract::<Number>()?.0.to_f64())
}

#[pymethods]
impl PyTensor {
    /// prod(input, dim=None, keepdim=False, *, dtype=None) -> Tensor: product along dim, or of all elements.
    #[pyo3(signature = (dim=DimArg(None), keepdim=false, *, dtype=None, axis=DimArg(None), keepdims=None))]
    fn prod(
        &self,
        py: Python<'_>,
        dim: DimArg,
        #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
        dtype: Option<DTypeArg>,
        axis: DimArg,
        #[pyo3(from_py_with = flag::keepdims)] keepdims: Option<bool>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let dim = one_dim("prod", dim, axis)?;
        let keepdim = keepdims.unwrap_or(keepdim);
        enter(py, x.numel(), || in_dtype(x, dtype, |x| x.prod(dim, keepdim))).map(Out)
    }

    /// count_nonzero(input, dim=None) -> Tensor: number of elements over dims that are not 0.
    #[pyo3(signature = (dim=DimArg(None)))]
    fn count_nonzero(&self, py: Python<'_>, dim: DimArg) -> PyResult<Out> {
        let x = &self.tensor();
        let dims = dim.0.unwrap_or_default();
        enter(py, x.numel(), || x.count_nonzero(&dims)).map(Out)
    }

    /// norm(input, p='fro', dim=None, keepdim=False, dtype=None) -> Tensor: vector norm of order p over dims.
    #[pyo3(signature = (p=None, dim=DimArg(None), keepdim=false, dtype=None))]
    fn norm(
        &self,
        py: Python<'_>,
        p: Option<Bound<'_, PyAny>>,
        dim: DimArg,
        #[pyo3(from_py_with = flag::keepdim)] keepdim: bool,
        dtype: Option<DTypeArg>,
    ) -> PyResult<Out> {
        let x = &self.tensor();
        let (p, dims) = (order_of(p)?, dim.0.unwrap_or_default());
        enter(py, x.numel(), || in_dtype(x, dtype, |x| x.norm(p, &dims, keepdim))).map(Out)
    }

    /// sort(input, dim=-1, descending=False, stable=False): elements in order along dim, and their indices.
    #[pyo3(signature = (dim=-1, descending=false, stable=None))]
    fn sort<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = dim_of)] dim: isize,
        #[pyo3(from_py_with = flag::descending)] descending: bool,
        #[pyo3(from_py_with = flag::stable)] stable: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = stable; // every sort here is stable
        let x = &self.tensor();
        let (values, indices) = enter(py, x.numel(), || x.sort(dim, descending))?;
        named(py, "sort", [values, indices])
    }

    /// argsort(input, dim=-1, descending=False, stable=False) -> Tensor: the indices that sort along dim.
    #[pyo3(signature = (dim=-1, descending=false, stable=None))]
    fn argsort(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = dim_of)] dim: isize,
        #[pyo3(from_py_with = flag::descending)] descending: bool,
        #[pyo3(from_py_with = flag::stable)] stable: Option<bool>,
    ) -> PyResult<Out> {
        let _ = stable;
        let x = &self.tensor();
        enter(py, x.numel(), || x.argsort(dim, descending)).map(Out)
    }

    /// topk(input, k, dim=-1, largest=True, sorted=True): the k largest elements along dim, and their indices.
    #[pyo3(signature = (k, dim=-1, largest=true, sorted=true))]
    fn topk<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = dim_of)] k: isize,
        #[pyo3(from_py_with = dim_of)] dim: isize,
        #[pyo3(from_py_with = flag::largest)] largest: bool,
        #[pyo3(from_py_with = flag::sorted)] sorted: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = sorted; // always sorted
        let x = &self.tensor();
        let k = usize::try_from(k).map_err(|_| {
            PyRuntimeError::new_err(format!("topk: selected index k out of range: k is {k}; use 0 or more"))
        })?;
        let (values, indices) = enter(py, x.numel(), || x.topk(k, dim, largest))?;
        named(py, "topk", [values, indices])
    }

    /// equal(input, other) -> bool: whether shapes and all elements are equal.
    fn equal(&self, py: Python<'_>, other: Operand) -> PyResult<bool> {
        let x = &self.tensor();
        enter(py, x.numel(), || {
            let other = other.beside(x)?;
            if x.shape() != other.shape() {
                return Ok(false);
            }
            Ok(x.eq(&other)?.all(&[], false)?.array().item_i64()? != 0)
        })
    }
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &[
    "sum",
    "nansum",
    "mean",
    "prod",
    "count_nonzero",
    "amax",
    "amin",
    "any",
    "all",
    "logsumexp",
    "argmax",
    "argmin",
    "max",
    "min",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "cumsum",
    "cumprod",
    "norm",
    "sort",
    "argsort",
    "topk",
    "equal",
];
