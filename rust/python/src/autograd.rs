//! Hooks, grad mode, and `autograd.grad`.

use crate::enter::{enter_long, from_py};
use crate::error::IntoPy;
use crate::flag;
use crate::function::ContextRef;
use crate::pass::Pass;
use crate::saved_hooks::PyPacked;
use crate::tensor::{Out, PyTensor};
use firesteel::autograd::hooks::no_gradient;
use firesteel::autograd::{mode, GradHook, HookHandle, NodeHook, Options};
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::any::Any;
use std::sync::Arc;

/// A Python function as a hook. The garbage collector sees the function where it sees that nothing else keeps
/// the hook: then a function that names its own tensor does not keep that alive for good.
pub struct PyHook(pub Py<PyAny>);

impl PyHook {
    /// `hook 'clip'`, by the function's name.
    fn described(&self) -> String {
        Python::attach(|py| {
            let function = self.0.bind(py);
            let name = function.getattr("__name__").or_else(|_| function.get_type().getattr("__name__"));
            name.map_or_else(|_| "hook".into(), |name| format!("hook '{name}'"))
        })
    }
}

impl GradHook for PyHook {
    fn name(&self) -> String {
        self.described()
    }

    fn call(&self, grad: &Tensor) -> firesteel::Result<Option<Tensor>> {
        Python::attach(|py| {
            let result = self.0.bind(py).call1((Out(grad.clone()),))?;
            match result.cast::<PyTensor>() {
                Ok(replaced) => Ok(Some(replaced.get().tensor())),
                Err(_) if result.is_none() => Ok(None),
                Err(_) => Err(PyTypeError::new_err(format!(
                    "{}: expected the hook of register_hook to return a Tensor or None, but got {}; return a \
                     gradient of shape {:?}, or None to change nothing",
                    self.described(),
                    result.get_type().name()?,
                    grad.shape()
                ))),
            }
        })
        .map_err(from_py)
    }

    fn call_without(&self) -> firesteel::Result<()> {
        Python::attach(|py| {
            let result = self.0.bind(py).call1((py.None(),))?;
            if result.is_none() {
                return Ok(());
            }
            let given = result.cast::<PyTensor>().map(|x| x.get().tensor().shape().to_vec());
            Err(no_gradient(&self.described(), &given.unwrap_or_default())).py(py)
        })
        .map_err(from_py)
    }

    fn tell(&self, leaf: &Tensor) -> firesteel::Result<()> {
        Python::attach(|py| {
            let result = self.0.bind(py).call1((Out(leaf.clone()),))?;
            if result.is_none() {
                return Ok(());
            }
            Err(PyRuntimeError::new_err(format!(
                "register_post_accumulate_grad_hook: Tensor post accumulate grad hooks should return None, not \
                 {}; set .grad of the leaf that they are given",
                result.get_type().name()?
            )))
        })
        .map_err(from_py)
    }
}

/// Gradients as a hook of a node sees them, and gives them back.
type NodeGrads = Vec<Option<Tensor>>;

fn grads_tuple<'py>(py: Python<'py>, grads: &[Option<Tensor>]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, grads.iter().map(|grad| grad.clone().map(Out)))
}

/// What a hook of a node returned: nothing, or a tuple with a gradient for each.
fn replaced_grads(hook: &PyHook, result: &Bound<'_, PyAny>) -> PyResult<Option<NodeGrads>> {
    if result.is_none() {
        return Ok(None);
    }
    let grad = |item: &Bound<'_, PyAny>| match item.cast::<PyTensor>() {
        Ok(tensor) => Ok(Some(tensor.get().tensor())),
        Err(_) if item.is_none() => Ok(None),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{}: expected a Tensor or None for each gradient, but got {}; return a tuple of them, or None to \
             change nothing",
            hook.described(),
            item.get_type().name()?
        ))),
    };
    let Ok(grads) = result.cast::<PyTuple>() else {
        return Err(PyTypeError::new_err(format!(
            "{}: expected tuple, but hook returned '{}'; return a tuple with a Tensor or None for each gradient, \
             or None to change nothing",
            hook.described(),
            result.get_type().name()?
        )));
    };
    grads.iter().map(|item| grad(&item)).collect::<PyResult<NodeGrads>>().map(Some)
}

impl NodeHook for PyHook {
    fn name(&self) -> String {
        self.described()
    }

    fn before(&self, outputs: &[Option<Tensor>]) -> firesteel::Result<Option<NodeGrads>> {
        Python::attach(|py| {
            replaced_grads(self, self.0.bind(py).call1((grads_tuple(py, outputs)?,))?.as_ref())
        })
        .map_err(from_py)
    }

    fn after(
        &self,
        inputs: &[Option<Tensor>],
        outputs: &[Option<Tensor>],
    ) -> firesteel::Result<Option<NodeGrads>> {
        Python::attach(|py| {
            let given = (grads_tuple(py, inputs)?, grads_tuple(py, outputs)?);
            replaced_grads(self, self.0.bind(py).call1(given)?.as_ref())
        })
        .map_err(from_py)
    }
}

/// What `Node.metadata` is.
pub struct Metadata(pub Py<PyDict>);

/// What `__traverse__` calls with an object's own hooks; the first error ends it.
pub fn visit_hooks(
    visit: &PyVisit<'_>,
    hooks: impl FnOnce(&mut dyn FnMut(&dyn Any)),
) -> Result<(), PyTraverseError> {
    let mut result = Ok(());
    hooks(&mut |held| {
        if result.is_err() {
        } else if let Some(PyHook(function)) = held.downcast_ref() {
            result = visit.call(function);
        } else if let Some(Metadata(dict)) = held.downcast_ref() {
            result = visit.call(dict);
        } else if let Some(ContextRef(context)) = held.downcast_ref() {
            result = visit.call(context);
        } else if let Some(packed) = held.downcast_ref::<PyPacked>() {
            result = packed.traverse(visit);
        }
    });
    result
}

/// A hook that can be called.
pub fn hook_of(op: &str, hook: &Bound<'_, PyAny>) -> PyResult<Arc<PyHook>> {
    if !hook.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "{op}: the hook must be callable, not {}; pass a function",
            hook.get_type().name()?
        )));
    }
    Ok(Arc::new(PyHook(hook.clone().unbind())))
}

/// Removes a hook.
#[pyclass(frozen, name = "RemovableHandle", module = "firesteel.utils.hooks")]
pub struct PyHookHandle(HookHandle);

impl PyHookHandle {
    /// The Python object of a handle.
    pub fn new(handle: HookHandle) -> Self {
        Self(handle)
    }
}

#[pymethods]
impl PyHookHandle {
    /// Stops the hook from being called.
    fn remove(&self) {
        self.0.remove();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) {
        self.0.remove();
    }
}

/// Whether operations of this thread are recorded.
#[pyfunction]
fn is_grad_enabled() -> bool {
    mode::is_grad_enabled()
}

/// Sets the mode of this thread and returns the previous one.
#[pyfunction]
fn _swap_grad_enabled(enabled: bool) -> bool {
    let previous = mode::is_grad_enabled();
    mode::set_grad_enabled(enabled);
    previous
}

/// Whether this thread is in inference mode.
#[pyfunction]
fn is_inference_mode_enabled() -> bool {
    mode::is_inference()
}

/// Sets grad mode and inference mode of this thread and returns the previous ones.
#[pyfunction]
fn _swap_modes(grad: bool, inference: bool) -> (bool, bool) {
    let previous = (mode::is_grad_enabled(), mode::is_inference());
    mode::set_grad_enabled(grad);
    mode::set_inference(inference);
    previous
}

fn optional_tensors(
    op: &str,
    value: Option<&Bound<'_, PyAny>>,
    count: usize,
) -> PyResult<Vec<Option<Tensor>>> {
    let Some(value) = value else { return Ok(vec![None; count]) };
    let items = crate::tensor::sequence_of(value);
    if items.len() != count {
        return Err(PyRuntimeError::new_err(format!(
            "{op}: got {count} tensors and {} gradients; there must be one gradient per output",
            items.len()
        )));
    }
    items
        .iter()
        .map(|item| if item.is_none() { Ok(None) } else { Ok(Some(item.cast::<PyTensor>()?.get().tensor())) })
        .collect()
}

/// Gradients of `outputs` with respect to `inputs`, None where unused.
#[pyfunction]
#[pyo3(signature = (outputs, inputs, grad_outputs, retain_graph, create_graph))]
fn _grad<'py>(
    py: Python<'py>,
    outputs: &Bound<'py, PyAny>,
    inputs: &Bound<'py, PyAny>,
    grad_outputs: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::retain_graph)] retain_graph: bool,
    #[pyo3(from_py_with = flag::create_graph)] create_graph: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    let outputs = crate::tensor::tensors_of("grad", outputs)?;
    let inputs = crate::tensor::tensors_of("grad", inputs)?;
    let grad_outputs = optional_tensors("grad", grad_outputs, outputs.len())?;
    let options = Options { retain_graph, create_graph };
    let _pass = Pass::begin(&outputs, Some(&inputs));
    let grads = enter_long(py, || firesteel::autograd::grad(&outputs, &grad_outputs, &inputs, options))?;
    PyTuple::new(py, grads.into_iter().map(|grad| grad.map(Out)))
}

/// Whether the backward pass that runs looks for the gradients of some tensors alone.
#[pyfunction]
fn _looks_for_inputs() -> bool {
    firesteel::autograd::looks_for_inputs()
}

/// Counts a write to a tensor's memory that nobody has seen; tensors of inference mode have no count.
#[pyfunction]
fn _increment_version(tensor: &PyTensor) {
    let tensor = tensor.tensor();
    if !tensor.is_inference() {
        tensor.array().storage().bump_version();
    }
}

/// Warns that gradients with a history, in `.grad` of the leaves that it leads to, keep each other alive.
pub fn warn_of_cycles(py: Python<'_>, recorded: bool) -> PyResult<()> {
    if !recorded {
        return Ok(());
    }
    crate::nn::warn(
        py,
        "Using backward() with create_graph=True will create a reference cycle between the parameter and its \
         gradient which can cause a memory leak. Use autograd.grad when creating the graph, or reset the .grad \
         fields of the parameters to None after use.",
    )
}

/// Adds gradients of several roots to their leaves.
#[pyfunction]
#[pyo3(signature = (tensors, grad_tensors, retain_graph, create_graph, inputs))]
fn _backward(
    py: Python<'_>,
    tensors: &Bound<'_, PyAny>,
    grad_tensors: Option<&Bound<'_, PyAny>>,
    #[pyo3(from_py_with = flag::retain_graph)] retain_graph: bool,
    #[pyo3(from_py_with = flag::create_graph)] create_graph: bool,
    inputs: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    warn_of_cycles(py, create_graph && inputs.is_none())?;
    let roots = crate::tensor::tensors_of("backward", tensors)?;
    let grads = optional_tensors("backward", grad_tensors, roots.len())?;
    let inputs = inputs.map(|inputs| crate::tensor::tensors_of("backward", inputs)).transpose()?;
    let options = Options { retain_graph, create_graph };
    let _pass = Pass::begin(&roots, inputs.as_deref());
    enter_long(py, || firesteel::autograd::backward(&roots, &grads, inputs.as_deref(), options))
}

/// Adds the functions and classes.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyHookHandle>()?;
    m.add_function(wrap_pyfunction!(is_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_swap_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(is_inference_mode_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_swap_modes, m)?)?;
    m.add_function(wrap_pyfunction!(_looks_for_inputs, m)?)?;
    m.add_function(wrap_pyfunction!(_increment_version, m)?)?;
    m.add_function(wrap_pyfunction!(_grad, m)?)?;
    m.add_function(wrap_pyfunction!(_backward, m)?)
}
