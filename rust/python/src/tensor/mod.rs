//! The class `Tensor`: what it is here, what can be done with it in the files of this folder.

mod access;
mod activation;
mod arithmetic;
mod convert;
mod index;
mod join;
mod matmul;
mod pointwise;
mod reduce;
mod select;
mod view;

pub use access::{sequence_of, tensors_of};

use crate::dtype::{self, PyDType};
use crate::error::IntoPy;
use firesteel::Tensor;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// A multi-dimensional array whose operations are recorded for gradients.
#[pyclass(frozen, subclass, weakref, dict, name = "Tensor", module = "firesteel")]
#[derive(Debug)]
pub struct PyTensor(Tensor);

impl PyTensor {
    /// The Python object for a tensor of the core.
    #[inline]
    pub fn new(tensor: Tensor) -> Self {
        Self(tensor)
    }

    /// The tensor of the core.
    #[inline]
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }
}

/// `torch.Size` of `extents`.
pub fn size<'py>(py: Python<'py>, extents: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    static SIZE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    SIZE.import(py, "firesteel._types", "Size")?.call1((PyTuple::new(py, extents)?,))
}

#[pymethods]
impl PyTensor {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn py_new(
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        crate::create::legacy_tensor(py, args, kwargs)
    }

    /// A leaf of class `cls` that shares `data`'s memory.
    #[staticmethod]
    #[pyo3(signature = (cls, data, requires_grad=false))]
    fn _make_subclass<'py>(
        cls: &Bound<'py, PyType>,
        data: &Bound<'py, PyTensor>,
        requires_grad: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tensor = data.get().tensor().detach();
        tensor.set_requires_grad(requires_grad).py(cls.py())?;
        crate::create::with_class(cls, tensor)
    }

    /// Extents, as a `Size`.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        size(py, self.0.shape())
    }

    /// Extents, or the extent of one dim.
    #[pyo3(signature = (dim=None))]
    fn size<'py>(&self, py: Python<'py>, dim: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        match dim {
            None => size(py, self.0.shape()),
            Some(dim) => {
                let d = firesteel::layout::normalize_dim("size", dim, self.0.rank()).py(py)?;
                let extent = self.0.shape().get(d).copied();
                let extent = extent.ok_or_else(|| {
                    pyo3::exceptions::PyIndexError::new_err(
                        "Dimension specified as 0 but tensor has no dimensions",
                    )
                })?;
                Ok(extent.into_pyobject(py)?.into_any())
            }
        }
    }

    /// Steps between neighbours in elements, of all dims or one.
    #[pyo3(signature = (dim=None))]
    fn stride<'py>(&self, py: Python<'py>, dim: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        let strides = self.0.array().strides();
        match dim {
            None => Ok(PyTuple::new(py, strides)?.into_any()),
            Some(dim) => {
                let d = firesteel::layout::normalize_dim("stride", dim, self.0.rank()).py(py)?;
                Ok(strides.get(d).copied().unwrap_or(1).into_pyobject(py)?.into_any())
            }
        }
    }

    /// First element's position in the storage.
    fn storage_offset(&self) -> usize {
        self.0.array().layout().offset()
    }

    /// Address of the first element.
    fn data_ptr(&self) -> usize {
        let array = self.0.array();
        array.storage().as_ptr() as usize + array.layout().offset() * array.dtype().size()
    }

    /// Number of dims.
    #[getter]
    fn ndim(&self) -> usize {
        self.0.rank()
    }

    /// Number of dims.
    fn dim(&self) -> usize {
        self.0.rank()
    }

    /// Number of elements.
    fn numel(&self) -> usize {
        self.0.numel()
    }

    /// Number of elements.
    fn nelement(&self) -> usize {
        self.0.numel()
    }

    /// Bytes of one element.
    fn element_size(&self) -> usize {
        self.0.dtype().size()
    }

    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.dtype().size()
    }

    /// Bytes of all elements.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.dtype().size() * self.0.numel()
    }

    /// Type of the elements.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<PyDType> {
        dtype::object(py, self.0.dtype())
    }

    /// Where the data lies: always the CPU.
    #[getter]
    fn device<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CPU: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let cpu = CPU.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("firesteel._types")?.getattr("cpu")?.unbind())
        })?;
        Ok(cpu.bind(py).clone())
    }

    /// False: there are no CUDA tensors here.
    #[getter]
    fn is_cuda(&self) -> bool {
        false
    }

    /// False: there are no sparse tensors here.
    #[getter]
    fn is_sparse(&self) -> bool {
        false
    }

    /// Whether elements are floating-point numbers.
    fn is_floating_point(&self) -> bool {
        self.0.dtype().is_float()
    }

    /// Whether elements are complex numbers: never.
    fn is_complex(&self) -> bool {
        false
    }

    /// Whether the elements lie in row-major order without gaps.
    #[pyo3(signature = (memory_format=None))]
    fn is_contiguous(&self, memory_format: Option<&Bound<'_, PyAny>>) -> bool {
        let _ = memory_format;
        self.0.array().is_contiguous()
    }

    /// How often the memory was written in place.
    #[getter]
    fn _version(&self) -> u32 {
        self.0.version()
    }

    /// The tensor that this is a view of.
    #[getter]
    fn _base(&self) -> Option<PyTensor> {
        self.0.view_base().map(PyTensor::new)
    }

    /// Whether this is a view.
    fn _is_view(&self) -> bool {
        self.0.view_base().is_some()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        py.import(intern!(py, "firesteel._tensor_str"))?.call_method1(intern!(py, "tensor_repr"), (slf,))
    }

    fn __format__<'py>(slf: &Bound<'py, Self>, spec: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        py.import(intern!(py, "firesteel._tensor_str"))?
            .call_method1(intern!(py, "tensor_format"), (slf, spec))
    }

    fn __hash__(slf: &Bound<'_, Self>) -> usize {
        slf.as_ptr() as usize
    }

    fn __len__(&self) -> PyResult<usize> {
        match self.0.shape().first() {
            Some(&extent) => Ok(extent),
            None => Err(pyo3::exceptions::PyTypeError::new_err("len() of a 0-d tensor")),
        }
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        if self.0.numel() != 1 {
            return Err(pyo3::exceptions::PyRuntimeError::new_err(format!(
                "Boolean value of Tensor with {} value is ambiguous; use .any() or .all()",
                if self.0.numel() == 0 { "no" } else { "more than one" }
            )));
        }
        Ok(self.0.array().item_f64().py(py)? != 0.0)
    }
}

/// Adds the class, and its methods as functions of the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyTensor>()?;
    let class = m.py().get_type::<PyTensor>();
    let families = [
        arithmetic::FUNCTIONS,
        convert::FUNCTIONS,
        index::FUNCTIONS,
        join::FUNCTIONS,
        matmul::FUNCTIONS,
        pointwise::FUNCTIONS,
        reduce::FUNCTIONS,
        select::FUNCTIONS,
        view::FUNCTIONS,
    ];
    activation::register(m)?;
    select::register(m)?;
    for name in families.into_iter().flatten() {
        m.add(*name, class.getattr(*name)?)?;
    }
    join::register(m)?;
    matmul::register(m)
}
