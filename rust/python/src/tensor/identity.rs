//! One Python object per tensor: a result that has an object already comes back as that object.
//!
//! A tensor of the core has a word for us. It names the tensor's object without keeping it alive: an exact
//! `Tensor` by its address, an object of a subclass by a weak reference, marked by the lowest bit. A
//! subclass runs Python code while it is freed, with no references left; its address must not be used then,
//! and the weak reference knows. An exact `Tensor` is soon at our `Drop`, which clears the word; other objects'
//! finalizers may run before that, and then its count of references, 0, tells.

use super::PyTensor;
use firesteel::Tensor;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::PyTypeInfo;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A tensor on its way to Python: every method and function returns this.
#[derive(Debug)]
pub struct Out(pub Tensor);

impl<'py> IntoPyObject<'py> for Out {
    type Target = PyTensor;
    type Output = Bound<'py, PyTensor>;
    type Error = PyErr;

    #[inline]
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyTensor>> {
        if let Some(object) = find(py, &self.0) {
            return Ok(object);
        }
        new_object(py, self.0)
    }
}

/// The object of a tensor that has none. (`Bound::new` asks `object.__new__`, by which Python 3.11 and 3.12 make a dict
/// with every object: a tenth of the time of an operation on one element. Here a tensor gets one with its first attribute.)
#[inline]
fn new_object(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyTensor>> {
    let class = PyTensor::type_object_raw(py);
    static ALLOC: PyOnceLock<ffi::allocfunc> = PyOnceLock::new();
    let alloc = ALLOC.get_or_init(py, || {
        // SAFETY: every class has this slot, which has this type.
        unsafe { std::mem::transmute(ffi::PyType_GetSlot(class, ffi::Py_tp_alloc)) }
    });
    // SAFETY: an object of the class, or null and an exception. Its fields are zeros: right for those of PyO3 in a
    // frozen class (no dict, no weak references), and `__traverse__` knows them.
    let object =
        unsafe { Bound::from_owned_ptr_or_err(py, alloc(class, 0))?.cast_into_unchecked::<PyTensor>() };
    let word = object.as_ptr().cast::<()>();
    tensor.object().store(word, Release);
    let mut this = PyTensor::bare(tensor);
    *this.word.get_mut() = word;
    // SAFETY: nobody else has the object yet; zeros need not be dropped.
    unsafe { std::ptr::from_ref(object.get()).cast_mut().write(this) };
    Ok(object)
}

/// Marks a word that is a weak reference.
const WEAK: usize = 1;

/// The object of `tensor`, if it has one.
#[inline]
fn find<'py>(py: Python<'py>, tensor: &Tensor) -> Option<Bound<'py, PyTensor>> {
    let word = tensor.object().load(Acquire);
    if word.is_null() {
        return None;
    }
    find_object(py, word)
}

fn find_object(py: Python<'_>, word: *mut ()) -> Option<Bound<'_, PyTensor>> {
    let address = word.map_addr(|address| address & !WEAK).cast::<ffi::PyObject>();
    // SAFETY: we are attached, and `forget` clears the word before the memory of the object (or of the weak
    // reference, which the word owns) is given back.
    let count = unsafe { ffi::Py_REFCNT(address) };
    // The lower half alone: later Pythons keep flags in the upper one.
    if count as u32 == 0 {
        return None;
    }
    // SAFETY: as above, and the object is not being freed: it has references, and we are attached.
    let object = unsafe { Bound::from_borrowed_ptr(py, address) };
    if word.addr() & WEAK == 0 {
        return object.cast_into_exact().ok();
    }
    object.cast::<PyWeakrefReference>().ok()?.upgrade()?.cast_into().ok()
}

/// Makes `object` the one that its tensor is known by, unless there is another.
pub fn register(object: &Bound<'_, PyTensor>) -> PyResult<()> {
    let this = object.get();
    if !this.borrowed().object().load(Acquire).is_null() {
        return Ok(());
    }
    let word = if object.cast_exact::<PyTensor>().is_ok() {
        object.as_ptr().cast::<()>()
    } else {
        let weak = PyWeakrefReference::new(object.as_any())?;
        weak.into_ptr().cast::<()>().map_addr(|address| address | WEAK)
    };
    this.borrowed().object().store(word, Release);
    this.word.store(word, Release);
    Ok(())
}

/// Ends what `register` began: `tensor` has no object from now on.
pub fn forget(this: &PyTensor, tensor: &Tensor) {
    // Read and written in two steps, each: only attached threads do so, one at a time.
    let word = this.word.load(Acquire);
    if word.is_null() {
        return;
    }
    this.word.store(std::ptr::null_mut(), Release);
    if tensor.object().load(Acquire) == word {
        tensor.object().store(std::ptr::null_mut(), Release);
    }
    if word.addr() & WEAK != 0 {
        let weak = word.map_addr(|address| address & !WEAK).cast::<ffi::PyObject>();
        Python::attach(|py| {
            // SAFETY: `register` left this reference to the word, which is gone.
            drop(unsafe { Bound::<PyAny>::from_owned_ptr(py, weak) });
        });
    }
}
