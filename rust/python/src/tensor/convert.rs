//! Dtypes, copies, Python numbers and lists, NumPy, pickle.

use super::PyTensor;
use crate::convert::{check_device, DTypeArg, Operand};
use crate::enter::enter;
use crate::error::IntoPy;
use crate::flag;
use crate::format;
use crate::graph::memory_key;
use crate::tensor::Out;
use firesteel::dtype::{Bool, Element};
use firesteel::format::MemoryFormat;
use firesteel::{dispatch_all, Array, DType, Error, Kind, Layout, Tensor};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

macro_rules! dtype_methods {
    ($($name:ident $dtype:ident)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                #[doc = concat!("This tensor as ", stringify!($name), "; itself if it is that already.")]
                fn $name(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
                    to_dtype(slf, DType::$dtype)
                }
            )*
        }
    };
}

dtype_methods! { float F32 double F64 half F16 bfloat16 BF16 int I32 long I64 byte U8 bool Bool }

/// The same object where nothing changes, as PyTorch returns.
fn to_dtype(slf: Bound<'_, PyTensor>, dtype: DType) -> PyResult<Bound<'_, PyTensor>> {
    let x = &slf.get().tensor();
    if x.dtype() == dtype {
        return Ok(slf);
    }
    let out = enter(slf.py(), x.numel(), || x.to_dtype(dtype))?;
    Out(out).into_pyobject(slf.py())
}

/// An error for what `float` and `int` cannot convert.
fn expect_scalar(x: &Tensor) -> firesteel::Result<()> {
    if x.numel() == 1 {
        return Ok(());
    }
    Err(Error::new(
        Kind::Shape,
        format!(
            "only one element tensors can be converted to Python scalars, not one with {} elements (shape {:?}); use \
             .tolist(), or reduce it with .sum() or .mean()",
            x.numel(),
            x.shape()
        ),
    ))
}

/// One element as a Python number.
fn item_object<'py>(py: Python<'py>, x: &Array) -> PyResult<Bound<'py, PyAny>> {
    Ok(match x.dtype().category() {
        firesteel::dtype::Category::Float => x.item_f64().py(py)?.into_pyobject(py)?.into_any(),
        firesteel::dtype::Category::Int => x.item_i64().py(py)?.into_pyobject(py)?.into_any(),
        firesteel::dtype::Category::Bool => {
            (x.item_i64().py(py)? != 0).into_pyobject(py)?.to_owned().into_any()
        }
    })
}

/// Elements of a contiguous array as nested lists.
fn nested_list<'py, T, U>(
    py: Python<'py>,
    shape: &[usize],
    values: &[T],
    to: fn(T) -> U,
) -> PyResult<Bound<'py, PyAny>>
where
    T: Element,
    U: IntoPyObject<'py>,
    PyErr: From<U::Error>,
{
    if shape.len() == 1 {
        let items: Vec<U> = values.iter().map(|&v| to(v)).collect();
        return Ok(PyList::new(py, items)?.into_any());
    }
    let step: usize = shape[1..].iter().product();
    let rows = (0..shape[0]).map(|i| nested_list(py, &shape[1..], &values[i * step..(i + 1) * step], to));
    Ok(PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)?.into_any())
}

#[pymethods]
impl PyTensor {
    /// to(dtype | device | other, ...) -> Tensor: this tensor as another dtype; itself if nothing changes.
    #[pyo3(signature = (*args, dtype=None, device=None, non_blocking=false, copy=false, memory_format=None))]
    fn to<'py>(
        slf: Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        dtype: Option<DTypeArg>,
        device: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = flag::non_blocking)] non_blocking: bool,
        #[pyo3(from_py_with = flag::copy)] copy: bool,
        #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
    ) -> PyResult<Bound<'py, Self>> {
        let _ = non_blocking;
        let py = slf.py();
        let mut target = dtype.map(|d| d.0);
        // Behind what it becomes stand `non_blocking` and `copy`.
        let (mut copy, mut flags) = (copy, 0);
        for arg in args.iter() {
            if let Ok(other) = arg.cast::<PyTensor>() {
                target = Some(other.get().tensor().dtype());
            } else if let Some(dtype) = DTypeArg::of(&arg) {
                target = Some(dtype);
            } else if let Ok(flag) = arg.cast::<pyo3::types::PyBool>() {
                flags += 1;
                copy |= flags == 2 && flag.is_true();
            } else if !arg.is_none() {
                check_device(py, Some(&arg))?;
            }
        }
        check_device(py, device)?;
        let target = target.unwrap_or(slf.get().tensor().dtype());
        let is_copied = target != slf.get().tensor().dtype();
        let out = to_dtype(slf, target)?;
        match memory_format {
            Some(format) if !format.is_of(out.get().tensor().array().layout()) => {
                Self::in_format(out, format)
            }
            _ if copy && !is_copied => Self::copied(&out),
            _ => Ok(out),
        }
    }

    /// type_as(other) -> Tensor: this tensor as `other`'s dtype.
    fn type_as<'py>(slf: Bound<'py, Self>, other: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, Self>> {
        to_dtype(slf, other.get().tensor().dtype())
    }

    /// This tensor: the data is always in the CPU's memory.
    #[pyo3(signature = (*, memory_format=None))]
    fn cpu<'py>(
        slf: Bound<'py, Self>,
        #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
    ) -> PyResult<Bound<'py, Self>> {
        match memory_format {
            Some(format) => Self::in_format(slf, format),
            None => Ok(slf),
        }
    }

    /// clone(input) -> Tensor: a copy with memory of its own, through which gradients flow back.
    #[pyo3(name = "clone", signature = (*, memory_format=None))]
    fn clone_<'py>(
        slf: &Bound<'py, Self>,
        #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
    ) -> PyResult<Bound<'py, Self>> {
        match memory_format {
            Some(format) => {
                let x = &slf.get().tensor();
                let out = enter(slf.py(), x.numel(), || x.copy_in(format))?;
                Out(out).into_pyobject(slf.py())
            }
            None => Self::copied(slf),
        }
    }

    /// contiguous(*, memory_format=contiguous_format) -> Tensor: this tensor if its elements lie in that order, else
    /// a copy in which they do.
    #[pyo3(signature = (*, memory_format=None))]
    fn contiguous<'py>(
        slf: Bound<'py, Self>,
        #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
    ) -> PyResult<Bound<'py, Self>> {
        let format = memory_format.unwrap_or(MemoryFormat::Contiguous);
        let x = &slf.get().tensor();
        if format.is_kept_by(x.array().layout()) {
            return Ok(slf);
        }
        let out = enter(slf.py(), x.numel(), || x.contiguous_in(format))?;
        Out(out).into_pyobject(slf.py())
    }

    /// copy_(src) -> Tensor: overwrites this tensor with `src`, a tensor or a number, broadcast and converted.
    #[pyo3(signature = (src, non_blocking=false))]
    fn copy_<'py>(
        slf: Bound<'py, Self>,
        src: Operand,
        #[pyo3(from_py_with = flag::non_blocking)] non_blocking: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let _ = non_blocking;
        let x = &slf.get().tensor();
        enter(slf.py(), x.numel(), || x.copy_(&src.beside(x)?))?;
        Ok(slf)
    }

    /// fill_(value) -> Tensor: sets every element.
    fn fill_(slf: Bound<'_, Self>, value: Operand) -> PyResult<Bound<'_, Self>> {
        let x = &slf.get().tensor();
        enter(slf.py(), x.numel(), || match value {
            Operand::Scalar(scalar) => {
                if x.dtype().is_half() && x.numel() != 1 {
                    scalar.check_fits("fill_", x.dtype())?;
                }
                x.fill_(scalar)
            }
            Operand::Tensor(tensor) => {
                firesteel::ensure!(
                    tensor.rank() == 0,
                    Shape,
                    "fill_: only supports 0-dimension value tensor but got tensor with {} dimensions; use copy_",
                    tensor.rank()
                );
                x.copy_(&tensor)
            }
        })?;
        Ok(slf)
    }

    /// zero_() -> Tensor: sets every element to 0.
    fn zero_(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let x = &slf.get().tensor();
        enter(slf.py(), x.numel(), || x.zero_())?;
        Ok(slf)
    }

    /// The only element as a Python number.
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        item_object(py, self.tensor().array())
    }

    /// The elements as nested lists of Python numbers.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let array = self.tensor().array().contiguous().py(py)?;
        if array.rank() == 0 {
            return item_object(py, &array);
        }
        let shape = array.shape();
        match array.dtype() {
            DType::Bool => nested_list(py, shape, array.slice::<Bool>(), Bool::get),
            dtype if dtype.is_float() => {
                dispatch_all!(dtype, T => nested_list(py, shape, array.slice::<T>(), T::to_f64))
            }
            dtype => dispatch_all!(dtype, T => nested_list(py, shape, array.slice::<T>(), T::to_i64)),
        }
    }

    /// What tells this tensor's memory from others: its address, 0 if there is none.
    fn _memory_key(&self) -> usize {
        memory_key(self.tensor().array().storage())
    }

    /// Bytes of all memory that this tensor may be a view of, and how many the allocator counts for it.
    fn _memory_bytes(&self) -> (usize, usize) {
        let tensor = self.tensor();
        let storage = tensor.array().storage();
        (storage.len_bytes(), storage.allocated_bytes())
    }

    /// A copy of all memory that this tensor may be a view of, as bytes.
    fn _memory_copy(&self, py: Python<'_>) -> PyResult<Out> {
        let tensor = self.tensor();
        let array = tensor.array();
        let layout = Layout::contiguous(&[array.storage().len_bytes()]);
        let bytes = array.seen_as(layout, DType::U8).py(py)?;
        enter(py, bytes.numel(), || bytes.copied()).map(Tensor::constant).map(Out)
    }

    /// A tensor that lies in the memory of `bytes` as this one lies in its own.
    fn _in_memory_of(&self, py: Python<'_>, bytes: &Bound<'_, PyTensor>) -> PyResult<Out> {
        let (tensor, bytes) = (self.tensor(), bytes.get().tensor());
        let array = tensor.array();
        let placed = bytes.array().seen_as(array.layout().clone(), array.dtype()).py(py)?;
        Ok(Out(Tensor::constant(placed.with_own_versions())))
    }

    /// The bytes of a contiguous tensor.
    fn _bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
        let array = self.tensor().array().contiguous().py(py)?;
        Ok(pyo3::types::PyBytes::new(py, array.bytes()))
    }

    fn __float__(&self, py: Python<'_>) -> PyResult<f64> {
        expect_scalar(&self.tensor()).py(py)?;
        self.tensor().array().item_f64().py(py)
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        expect_scalar(&self.tensor()).py(py)?;
        item_object(py, self.tensor().array())?.call_method0(intern!(py, "__int__"))
    }

    fn __index__(&self, py: Python<'_>) -> PyResult<i64> {
        if self.tensor().dtype().is_float() || self.tensor().numel() != 1 {
            return Err(PyTypeError::new_err(
                "only integer tensors of a single element can be converted to an index",
            ));
        }
        self.tensor().array().item_i64().py(py)
    }

    /// numpy(*, force=False) -> numpy.ndarray: this tensor's memory as a NumPy array.
    #[pyo3(signature = (*, force=false))]
    fn numpy<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = flag::force)] force: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.tensor().requires_grad() && !force {
            return Err(PyRuntimeError::new_err(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.",
            ));
        }
        crate::numpy::to_numpy(py, &self.tensor())
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = flag::copy)] copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = self.numpy(py, false)?;
        let array = match dtype {
            Some(dtype) if !dtype.is_none() => array.call_method1(intern!(py, "astype"), (dtype,))?,
            _ => array,
        };
        if copy == Some(true) {
            return array.call_method0(intern!(py, "copy"));
        }
        Ok(array)
    }
}

impl PyTensor {
    /// The tensor itself if it is of that format, else a copy that is.
    fn in_format<'py>(slf: Bound<'py, Self>, format: MemoryFormat) -> PyResult<Bound<'py, Self>> {
        let x = &slf.get().tensor();
        if format.is_of(x.array().layout()) {
            return Ok(slf);
        }
        let out = enter(slf.py(), x.numel(), || x.in_format(format))?;
        Out(out).into_pyobject(slf.py())
    }

    fn copied<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let x = &slf.get().tensor();
        let out = enter(slf.py(), x.numel(), || x.copy())?;
        Out(out).into_pyobject(slf.py())
    }
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &["clone"];
