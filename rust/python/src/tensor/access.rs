//! A tensor's place in the graph: gradients, history, hooks.

use super::PyTensor;
use crate::autograd::{hook_of, warn_of_cycles, PyHookHandle};
use crate::enter::enter_long;
use crate::error::IntoPy;
use crate::flag;
use crate::node::PyNode;
use crate::pass::Pass;
use crate::tensor::Out;
use firesteel::autograd::Options;
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};

/// A tensor or a sequence of tensors; `op` is who takes them.
pub fn tensors_of(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Tensor>> {
    if let Ok(tensor) = value.cast::<PyTensor>() {
        return Ok(vec![tensor.get().tensor()]);
    }
    let kind = |value: &Bound<'_, PyAny>| value.get_type().name().map(|name| name.to_string());
    let tensor_at = |i: usize, item: &Bound<'_, PyAny>| match item.cast::<PyTensor>() {
        Ok(tensor) => Ok(tensor.get().tensor()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{op}: expected a list of Tensors, but item {i} is {}; make it a tensor",
            kind(item)?
        ))),
    };
    // Lists and tuples without Python's iterators, which take as long as the rest of this.
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return tuple.iter_borrowed().enumerate().map(|(i, item)| tensor_at(i, &item)).collect();
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().enumerate().map(|(i, item)| tensor_at(i, &item)).collect();
    }
    let Ok(items) = value.try_iter() else {
        let found = kind(value)?;
        return Err(PyTypeError::new_err(format!(
            "{op}: expected a Tensor or a list of Tensors, not {found}; make it a tensor"
        )));
    };
    items.enumerate().map(|(i, item)| tensor_at(i, &item?)).collect()
}

/// The gradient that the backward pass of `root` starts from.
fn gradient(value: &Bound<'_, PyAny>, root: &Tensor) -> PyResult<Tensor> {
    match value.cast::<PyTensor>() {
        Ok(tensor) => Ok(tensor.get().tensor()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "backward: gradient must be a Tensor or None, not {}; make it a tensor of shape {:?}",
            value.get_type().name()?,
            root.shape()
        ))),
    }
}

/// What is at one end of a backward pass: a tensor, or for a `GradientEdge` one that stands there.
fn end_of(item: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    if let Ok(tensor) = item.cast::<PyTensor>() {
        return Ok(Some(tensor.get().tensor()));
    }
    let Ok(edge) = item.cast::<PyTuple>() else { return Ok(None) };
    match edge.get_item(0).and_then(|node| Ok(node.cast_into::<PyNode>()?)) {
        Ok(node) => node.get().stand_in(item.py(), edge.get_item(1)?.extract()?).map(Some),
        Err(_) => Ok(None),
    }
}

/// The tensors whose `.grad` a backward pass is asked for. PyTorch has an error of its own for items.
fn inputs_of_backward(value: &Bound<'_, PyAny>) -> PyResult<Vec<Tensor>> {
    if let Some(tensor) = end_of(value)? {
        return Ok(vec![tensor]);
    }
    let items: Vec<_> = match value.cast::<PyDict>() {
        Ok(dict) => dict.values().iter().collect(),
        Err(_) if value.try_iter().is_err() => return tensors_of("backward", value), // says what it is
        Err(_) => value.try_iter()?.collect::<PyResult<_>>()?,
    };
    let tensor = |(i, item): (usize, &Bound<'_, PyAny>)| {
        end_of(item)?.ok_or_else(|| {
            let kind = item.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
            PyRuntimeError::new_err(format!(
                "backward: all inputs have to be Tensors, but got {kind} at position {i}; pass the leaves themselves"
            ))
        })
    };
    items.iter().enumerate().map(tensor).collect()
}

/// What reading `.grad` of a result says, where nothing was kept.
const NO_LEAF: &str = "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad \
    attribute won't be populated during autograd.backward(). Call .retain_grad() on it before the backward pass, \
    or read .grad of the leaf that it was computed from.";

#[pymethods]
impl PyTensor {
    /// Whether a gradient for it will be computed.
    #[getter]
    fn requires_grad(&self) -> bool {
        self.tensor().requires_grad()
    }

    #[setter]
    fn set_requires_grad(slf: &Bound<'_, Self>, requires_grad: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(requires_grad) = requires_grad.cast::<PyBool>() else {
            return Err(PyRuntimeError::new_err(format!(
                "requires_grad must be a bool, not {}; use True or False",
                requires_grad.get_type().name()?
            )));
        };
        Self::ask_for_grad(slf, requires_grad.is_true())
    }

    /// requires_grad_(requires_grad=True) -> Tensor: asks for a gradient, or no longer does.
    #[pyo3(signature = (requires_grad=true))]
    fn requires_grad_(
        slf: Bound<'_, Self>,
        #[pyo3(from_py_with = flag::requires_grad)] requires_grad: bool,
    ) -> PyResult<Bound<'_, Self>> {
        Self::ask_for_grad(&slf, requires_grad)?;
        Ok(slf)
    }

    /// Whether it has no history: made by the user, or detached.
    #[getter]
    fn is_leaf(&self) -> bool {
        self.tensor().is_leaf()
    }

    /// The node of the graph that made it.
    #[getter]
    fn grad_fn<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyNode>>> {
        let tensor = self.tensor();
        tensor.check_history().py(py)?;
        tensor.grad_fn().map(|edge| PyNode::of(py, edge.node)).transpose()
    }

    /// Which output of its node it is.
    #[getter]
    fn output_nr(&self) -> usize {
        self.tensor().grad_fn().map_or(0, |edge| edge.output)
    }

    /// The gradient that backward passes have summed up.
    #[getter]
    fn grad<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyTensor>>> {
        let (py, this) = (slf.py(), slf.get());
        let tensor = this.tensor();
        let Some(grad) = tensor.grad() else {
            this.keep_grad(None);
            if !tensor.is_leaf() && !tensor.retains_grad() {
                crate::nn::warn(py, NO_LEAF)?;
            }
            return Ok(None);
        };
        let object = Out(grad).into_pyobject(py)?;
        this.keep_grad(Some(&object));
        Ok(Some(object))
    }

    #[setter]
    fn set_grad(&self, py: Python<'_>, grad: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let grad = match grad {
            None => None,
            Some(value) => match value.cast::<PyTensor>() {
                Ok(grad) => Some(grad),
                Err(_) => {
                    return Err(PyTypeError::new_err(format!(
                        "grad: assigned grad expected to be a Tensor or None, but got grad of type {}; make it a \
                         tensor of shape {:?}",
                        value.get_type().name()?,
                        self.tensor().shape()
                    )))
                }
            },
        };
        self.tensor().set_grad(grad.map(|grad| grad.get().tensor())).py(py)?;
        if let Some(grad) = grad {
            super::register_object(grad)?;
        }
        self.keep_grad(grad);
        Ok(())
    }

    #[deleter]
    fn delete_data(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("data: Deleting tensor data is not allowed. Delete the tensor instead"))
    }

    #[deleter]
    fn delete_grad(&self, py: Python<'_>) -> PyResult<()> {
        self.set_grad(py, None)
    }

    /// The same memory without history, and with versions of its own: writes to it are not noticed by the
    /// backward pass. Assigning gives the tensor the memory, the shape and the dtype of another; what was
    /// recorded before keeps the old values.
    #[getter]
    fn data(&self) -> Out {
        Out(Tensor::constant(self.tensor().array().with_own_versions()))
    }

    #[setter]
    fn set_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyTensor>() else {
            return Err(PyTypeError::new_err(format!(
                "data: Variable data has to be a tensor, but got {}; make it one, or write into the memory that \
                 there is: x.data.fill_(..), x.data.copy_(..)",
                data.get_type().name()?
            )));
        };
        let next = slf.get().tensor().replace_data(data.get().tensor().array()).py(slf.py())?;
        Self::become_tensor(slf, next)
    }

    /// detach(input) -> Tensor: the same memory without history.
    fn detach(&self) -> Out {
        Out(self.tensor().detach())
    }

    /// detach_(input) -> Tensor: forgets the history of this tensor, which must not be a view.
    fn detach_(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().tensor().detach_().py(slf.py())?;
        Ok(slf)
    }

    /// backward(gradient=None, retain_graph=None, create_graph=False, inputs=None)
    ///
    /// Adds the gradient of this tensor to `.grad` of the leaves that it depends on, by the chain rule
    /// from the newest operation to the oldest. `gradient` may be left out for a tensor of one element.
    #[pyo3(signature = (gradient=None, retain_graph=None, create_graph=false, inputs=None))]
    fn backward(
        &self,
        py: Python<'_>,
        gradient: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = flag::retain_graph)] retain_graph: Option<bool>,
        #[pyo3(from_py_with = flag::create_graph)] create_graph: bool,
        inputs: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let options = Options { retain_graph: retain_graph.unwrap_or(create_graph), create_graph };
        warn_of_cycles(py, create_graph && inputs.is_none())?;
        let root = &self.tensor();
        let gradient = gradient.map(|gradient| self::gradient(gradient, root)).transpose()?;
        let inputs = inputs.map(inputs_of_backward).transpose()?;
        let _pass = Pass::begin(std::slice::from_ref(root), inputs.as_deref());
        enter_long(py, || {
            firesteel::autograd::backward(std::slice::from_ref(root), &[gradient], inputs.as_deref(), options)
        })
    }

    /// register_hook(hook) -> handle
    ///
    /// Calls `hook(grad)` with this tensor's gradient in every backward pass; what it returns, unless
    /// None, replaces the gradient. `grad` is None where rules gave none. `handle.remove()` ends it.
    fn register_hook(&self, py: Python<'_>, hook: &Bound<'_, PyAny>) -> PyResult<PyHookHandle> {
        self.tensor().register_hook(hook_of("register_hook", hook)?).py(py).map(PyHookHandle::new)
    }

    /// register_post_accumulate_grad_hook(hook) -> handle
    ///
    /// Calls `hook(self)` whenever a backward pass has added to `.grad` of this leaf. `handle.remove()` ends
    /// it.
    fn register_post_accumulate_grad_hook(
        &self,
        py: Python<'_>,
        hook: &Bound<'_, PyAny>,
    ) -> PyResult<PyHookHandle> {
        let hook = hook_of("register_post_accumulate_grad_hook", hook)?;
        self.tensor().register_post_accumulate_grad_hook(hook).py(py).map(PyHookHandle::new)
    }

    /// Keeps the gradient of a tensor that is not a leaf in `.grad`.
    fn retain_grad(&self, py: Python<'_>) -> PyResult<()> {
        self.tensor().retain_grad().py(py)
    }

    /// Whether `retain_grad()` was called.
    #[getter]
    fn retains_grad(&self) -> bool {
        self.tensor().retains_grad()
    }
}

impl PyTensor {
    fn ask_for_grad(slf: &Bound<'_, Self>, requires_grad: bool) -> PyResult<()> {
        slf.get().tensor().set_requires_grad(requires_grad).py(slf.py())?;
        super::register_object(slf)
    }

    /// Keeps the object of the gradient, so that `x.grad` is one object while there is one gradient.
    fn keep_grad(&self, grad: Option<&Bound<'_, PyTensor>>) {
        let grad = grad.map(|grad| grad.clone().unbind());
        let old = self.grad.lock().map(|mut kept| std::mem::replace(&mut *kept, grad));
        drop(old); // without the lock: its end may run Python code
    }
}

/// `(a, b)` or `[a, b]`, or one item.
pub fn sequence_of<'py>(value: &Bound<'py, PyAny>) -> Vec<Bound<'py, PyAny>> {
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return tuple.iter().collect();
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().collect();
    }
    vec![value.clone()]
}
