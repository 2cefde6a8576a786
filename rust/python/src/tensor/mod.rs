//! The class `Tensor`: what it is here, what can be done with it in the files of this folder.

mod access;
mod activation;
mod arithmetic;
mod convert;
mod function;
mod identity;
mod index;
mod inplace_view;
mod join;
mod lent;
mod matmul;
mod out;
mod pointwise;
mod reduce;
mod select;
mod view;

pub use access::{sequence_of, tensors_of};
pub use identity::{register as register_object, Out};
pub use join::tuple;
pub use out::{delivered, dtype_for, expect_no_history};

use crate::dtype::{self, PyDType};
use crate::error::IntoPy;
use crate::format;
use firesteel::format::MemoryFormat;
use firesteel::Tensor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::AtomicPtr;
use std::sync::Mutex;

/// A multi-dimensional array whose operations are recorded for gradients.
#[pyclass(frozen, subclass, weakref, dict, name = "Tensor", module = "firesteel")]
pub struct PyTensor {
    /// The tensor of the core; another one after `x.data = y`. Only `tensor` and `become_tensor` touch it.
    cell: UnsafeCell<Tensor>,
    /// The word by which the tensor knows this object (identity.rs).
    word: AtomicPtr<()>,
    /// The object of the gradient, so that `x.grad` stays one object; the garbage collector sees it.
    grad: Mutex<Option<Py<PyTensor>>>,
    /// True. Python may collect garbage after it has allocated an object and before we have filled it:
    /// `__traverse__` sees zeros then, and here false.
    is_filled: bool,
}

// SAFETY: the cell is read and written only by threads that are attached to the interpreter, which lets one
// of them run at a time: the module does not declare that it runs without the GIL.
unsafe impl Sync for PyTensor {}

impl std::fmt::Debug for PyTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PyTensor")
    }
}

impl PyTensor {
    /// An object that its tensor does not know yet.
    #[inline]
    pub fn bare(tensor: Tensor) -> Self {
        Self {
            cell: UnsafeCell::new(tensor),
            word: AtomicPtr::new(std::ptr::null_mut()),
            grad: Mutex::new(None),
            is_filled: true,
        }
    }

    /// The tensor of the core. To be called while attached; what runs detached gets the result.
    #[inline]
    pub fn tensor(&self) -> Tensor {
        // SAFETY: attached threads run one at a time, and neither this clone nor the exchange in
        // `become_tensor` lets another one run in between.
        unsafe { (*self.cell.get()).clone() }
    }

    /// The same without a handle of its own, for as long as no Python code runs.
    #[inline]
    pub(super) fn borrowed(&self) -> &Tensor {
        // SAFETY: as in `tensor`; callers end the borrow before Python code runs.
        unsafe { &*self.cell.get() }
    }

    /// Makes this the object of another tensor.
    fn become_tensor(this: &Bound<'_, Self>, next: Tensor) -> PyResult<()> {
        let object = this.get();
        identity::forget(object, &object.tensor());
        // SAFETY: as in `tensor`; what was there is dropped after the exchange, when no loan is open.
        let old = unsafe { std::mem::replace(&mut *object.cell.get(), next) };
        lent::give_up(old);
        identity::register(this)
    }
}

impl Drop for PyTensor {
    fn drop(&mut self) {
        if !self.word.get_mut().is_null() {
            identity::forget(self, self.borrowed());
        }
        if let Some(grad) = self.grad.get_mut().ok().and_then(Option::take) {
            drop_in_turn(grad.into_any());
        }
    }
}

thread_local! {
    /// Objects to be dropped by the call of `drop_in_turn` that is at work; none is while this is `None`.
    static TO_DROP: Cell<Option<Vec<Py<PyAny>>>> = const { Cell::new(None) };
}

/// Drops `object` when no other drop of this thread is at work: `a.grad = b; b.grad = c; ...` is freed in a
/// loop and not by recursion.
pub fn drop_in_turn(object: Py<PyAny>) {
    if TO_DROP.try_with(|_| ()).is_err() {
        return drop(object); // this thread is ending
    }
    if let Some(mut waiting) = TO_DROP.take() {
        waiting.push(object);
        TO_DROP.set(Some(waiting));
        return;
    }
    TO_DROP.set(Some(vec![object]));
    loop {
        let mut waiting = TO_DROP.take().unwrap_or_default();
        let Some(next) = waiting.pop() else { return };
        TO_DROP.set(Some(waiting));
        drop(next);
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
        crate::create::legacy_tensor(py, args, kwargs).map(Self::bare)
    }

    /// Makes the new object the one that its tensor is known by: `__new__` has no object yet.
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(
        slf: &Bound<'_, Self>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        identity::register(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.is_filled {
            return Ok(());
        }
        // Nobody runs Python code while holding this lock, so it is never taken here.
        if let Ok(grad) = self.grad.try_lock() {
            if let Some(grad) = &*grad {
                visit.call(grad)?;
            }
        }
        // No clone: the hooks are shown only while the tensor is held by this object alone.
        let tensor = self.borrowed();
        crate::autograd::visit_hooks(&visit, |see| tensor.visit_own_hooks(see))
    }

    fn __clear__(&self) {
        let grad = self.grad.lock().map(|mut grad| grad.take());
        drop(grad);
        let hooks = self.borrowed().take_own_hooks(); // they are dropped when the borrow has ended
        drop(hooks);
    }

    /// A leaf of class `cls` that shares `data`'s memory.
    #[staticmethod]
    #[pyo3(signature = (cls, data, requires_grad=false))]
    fn _make_subclass<'py>(
        cls: &Bound<'py, PyType>,
        data: &Bound<'py, PyTensor>,
        #[pyo3(from_py_with = crate::flag::requires_grad)] requires_grad: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tensor = data.get().tensor().detach();
        tensor.set_requires_grad(requires_grad).py(cls.py())?;
        crate::create::with_class(cls, tensor)
    }

    /// Extents, as a `Size`.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        size(py, self.tensor().shape())
    }

    /// Extents, or the extent of one dim.
    #[pyo3(signature = (dim=None))]
    fn size<'py>(&self, py: Python<'py>, dim: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        match dim {
            None => size(py, self.tensor().shape()),
            Some(dim) => {
                let d = firesteel::layout::normalize_dim("size", dim, self.tensor().rank()).py(py)?;
                let extent = self.tensor().shape().get(d).copied();
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
        let tensor = self.tensor();
        let strides = tensor.array().strides();
        match dim {
            None => Ok(PyTuple::new(py, strides)?.into_any()),
            Some(dim) => {
                let d = firesteel::layout::normalize_dim("stride", dim, self.tensor().rank()).py(py)?;
                Ok(strides.get(d).copied().unwrap_or(1).into_pyobject(py)?.into_any())
            }
        }
    }

    /// First element's position in the storage.
    fn storage_offset(&self) -> usize {
        self.tensor().array().layout().offset()
    }

    /// Address of the first element.
    fn data_ptr(&self) -> usize {
        let tensor = self.tensor();
        let array = tensor.array();
        array.storage().as_ptr() as usize + array.layout().offset() * array.dtype().size()
    }

    /// Number of dims.
    #[getter]
    fn ndim(&self) -> usize {
        self.tensor().rank()
    }

    /// Number of dims.
    fn dim(&self) -> usize {
        self.tensor().rank()
    }

    /// Number of dims.
    fn ndimension(&self) -> usize {
        self.tensor().rank()
    }

    /// Number of elements.
    fn numel(&self) -> usize {
        self.tensor().numel()
    }

    /// Number of elements.
    fn nelement(&self) -> usize {
        self.tensor().numel()
    }

    /// Bytes of one element.
    fn element_size(&self) -> usize {
        self.tensor().dtype().size()
    }

    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.tensor().dtype().size()
    }

    /// Bytes of all elements.
    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor().dtype().size() * self.tensor().numel()
    }

    /// Type of the elements.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<PyDType> {
        dtype::object(py, self.tensor().dtype())
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
        self.tensor().dtype().is_float()
    }

    /// Whether elements are complex numbers: never.
    fn is_complex(&self) -> bool {
        false
    }

    /// Whether the elements lie in row-major order, or that of the memory format, without gaps.
    #[pyo3(signature = (*, memory_format=None))]
    fn is_contiguous(
        &self,
        #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
    ) -> bool {
        memory_format.unwrap_or(MemoryFormat::Contiguous).is_kept_by(self.tensor().array().layout())
    }

    /// How often the memory was written in place.
    #[getter]
    fn _version(&self) -> PyResult<u32> {
        let tensor = self.tensor();
        if tensor.is_inference() {
            return Err(PyRuntimeError::new_err(format!(
                "_version: Inference tensors do not track version counter (shape {:?}); clone() it to get a normal \
                 tensor",
                tensor.shape()
            )));
        }
        Ok(tensor.version())
    }

    /// is_inference(input) -> bool: whether its memory was made in inference mode.
    fn is_inference(&self) -> bool {
        self.tensor().is_inference()
    }

    /// The tensor that this is a view of.
    #[getter]
    fn _base(&self) -> Option<Out> {
        let base = self.tensor().view_base()?;
        // After `base.data = ...` its object is that of another tensor.
        Some(Out(base.successor().unwrap_or(base)))
    }

    /// Whether this is a view.
    fn _is_view(&self) -> bool {
        self.tensor().view_base().is_some()
    }

    /// NumPy's scalars leave operators to tensors.
    #[classattr]
    fn __array_priority__() -> i32 {
        1000
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
        match self.tensor().shape().first() {
            Some(&extent) => Ok(extent),
            None => Err(pyo3::exceptions::PyTypeError::new_err("len() of a 0-d tensor; use .numel()")),
        }
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        if self.tensor().numel() != 1 {
            return Err(pyo3::exceptions::PyRuntimeError::new_err(format!(
                "Boolean value of Tensor with {} is ambiguous; use .any() or .all()",
                if self.tensor().numel() == 0 { "no values" } else { "more than one value" }
            )));
        }
        Ok(self.tensor().array().item_f64().py(py)? != 0.0)
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
    out::register(m)?;
    select::register(m)?;
    for name in families.into_iter().flatten() {
        m.add(*name, function::Function::new(name, class.getattr(*name)?.unbind()))?;
    }
    join::register(m)?;
    matmul::register(m)
}
