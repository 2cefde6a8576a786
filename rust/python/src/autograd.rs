//! Nodes of the graph, grad mode, and `autograd.grad`.

use crate::dtype::{self, PyDType};
use crate::enter::{enter_long, from_py};
use crate::flag;
use crate::function::{Context, ContextRef};
use crate::graph::{saved_in, SavedInfo};
use crate::tensor::{drop_in_turn, Out, PyTensor};
use firesteel::autograd::saved::SavedArray;
use firesteel::autograd::{
    hooks, mode, node, pop_saved_hooks, push_saved_hooks, GradHook, HookHandle, NodeHook, NodeRef, Options,
    Packed, SavedHooks,
};
use firesteel::{Array, Tensor};
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
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

/// What a hook of a node returned: nothing, a gradient or a sequence of them.
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
    crate::tensor::sequence_of(result).iter().map(grad).collect::<PyResult<NodeGrads>>().map(Some)
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

/// Two Python functions that pack and unpack what operations save.
struct PySavedHooks {
    pack: Py<PyAny>,
    unpack: Py<PyAny>,
}

/// What the first made, and the second.
struct PyPacked {
    /// The former, until this is dropped.
    object: Option<Py<PyAny>>,
    unpack: Py<PyAny>,
}

impl Drop for PyPacked {
    fn drop(&mut self) {
        // It may hold a tensor, and that the next such graph.
        let object = self.object.take();
        Python::try_attach(|_| object.map(drop_in_turn));
    }
}

impl SavedHooks for PySavedHooks {
    fn pack(&self, tensor: &Tensor) -> firesteel::Result<Box<dyn Packed>> {
        Python::attach(|py| {
            let object = self.pack.call1(py, (Out(tensor.clone()),))?;
            let packed: Box<dyn Packed> =
                Box::new(PyPacked { object: Some(object), unpack: self.unpack.clone_ref(py) });
            Ok(packed)
        })
        .map_err(from_py)
    }
}

impl Packed for PyPacked {
    fn unpack(&self) -> firesteel::Result<Tensor> {
        Python::attach(|py| {
            let result = self.unpack.bind(py).call1((&self.object,))?;
            match result.cast::<PyTensor>() {
                Ok(tensor) => Ok(tensor.get().tensor()),
                Err(_) => Err(PyTypeError::new_err(format!(
                    "Output of saved tensor unpack_hook expected to be a Tensor but got result of type {}; return \
                     the tensor that pack_hook was given",
                    result.get_type().name()?
                ))),
            }
        })
        .map_err(from_py)
    }

    fn arrays(&self) -> Vec<Array> {
        Python::attach(|py| {
            let Some(object) = &self.object else { return Vec::new() };
            let object = object.bind(py);
            let items = match object.cast::<PyTensor>() {
                Ok(_) => vec![object.clone()],
                Err(_) if object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyList>() => {
                    crate::tensor::sequence_of(object)
                }
                Err(_) => Vec::new(),
            };
            let tensors = items.iter().filter_map(|item| item.cast::<PyTensor>().ok());
            tensors.map(|tensor| tensor.get().tensor().array().clone()).collect()
        })
    }
}

/// Hands what operations of this thread save to two functions.
#[pyfunction]
fn _push_saved_tensors_hooks(pack_hook: Py<PyAny>, unpack_hook: Py<PyAny>) {
    push_saved_hooks(Arc::new(PySavedHooks { pack: pack_hook, unpack: unpack_hook }));
}

/// Ends what was pushed last.
#[pyfunction]
fn _pop_saved_tensors_hooks() {
    drop(pop_saved_hooks());
}

/// What `Node.metadata` is.
struct Metadata(Py<PyDict>);

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
        } else if let Some(PyPacked { object, unpack }) = held.downcast_ref() {
            result = visit.call(object).and_then(|()| visit.call(unpack));
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

/// A recorded operation.
#[pyclass(frozen, name = "Node", module = "firesteel.autograd.graph")]
pub struct PyNode(pub NodeRef);

impl PyNode {
    /// The Python object of a node.
    pub fn new(node: NodeRef) -> Self {
        Self(node)
    }

    /// The `ctx` of a custom function, which is asked for the attribute `name`.
    fn context<'a, 'py: 'a>(&'a self, py: Python<'py>, name: &str) -> PyResult<&'a Bound<'py, Context>> {
        match self.0.op().payload().and_then(|held| held.downcast_ref()) {
            Some(ContextRef(context)) => Ok(context.bind(py)),
            None => Err(PyAttributeError::new_err(format!(
                "'{}' object has no attribute '{name}'; only nodes of a custom Function take others, keep notes in \
                 its .metadata",
                self.0.name()
            ))),
        }
    }

    /// Refuses to set what all nodes have.
    fn expect_writable(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        if py.get_type::<Self>().hasattr(name)? {
            return Err(PyAttributeError::new_err(format!(
                "attribute '{name}' of '{}' objects is not writable; choose another name",
                self.0.name()
            )));
        }
        Ok(())
    }
}

#[pymethods]
impl PyNode {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_hooks(&visit, |see| hooks::visit_own_hooks(&self.0, see))
    }

    fn __clear__(&self) {
        drop(hooks::take_own_hooks(&self.0));
    }

    /// PyTorch's name of the operation: `MulBackward0`.
    fn name(&self) -> String {
        self.0.name()
    }

    /// The nodes that gradients of the inputs go to, each with the index of its output.
    #[getter]
    fn next_functions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let edges = self.0.edges().iter().map(|edge| match edge {
            Some(edge) => (Some(PyNode::new(edge.node.clone())), edge.output),
            None => (None, 0),
        });
        PyTuple::new(py, edges.collect::<Vec<_>>())
    }

    /// The leaf whose gradient this node collects; only `AccumulateGrad` has one.
    #[getter]
    fn variable(&self) -> PyResult<Out> {
        match self.0.op().leaf(&self.0) {
            Some(leaf) => Ok(Out(leaf)),
            None => Err(PyAttributeError::new_err(format!(
                "'{}' object has no attribute 'variable'; only AccumulateGrad has one",
                self.0.name()
            ))),
        }
    }

    /// register_prehook(fn) -> handle
    ///
    /// Calls `fn(grad_outputs)` with a tuple of the gradients of the node's outputs before its rule runs; a
    /// tuple that it returns takes their place.
    fn register_prehook(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<PyHookHandle> {
        Ok(PyHookHandle::new(self.0.register_prehook(hook_of("register_prehook", r#fn)?)))
    }

    /// register_hook(fn) -> handle
    ///
    /// Calls `fn(grad_inputs, grad_outputs)` with two tuples after the node's rule has run; a tuple that it
    /// returns takes the place of `grad_inputs`.
    fn register_hook(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<PyHookHandle> {
        Ok(PyHookHandle::new(self.0.register_hook(hook_of("register_hook", r#fn)?)))
    }

    /// A dict in which anybody may keep notes about this node.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        let dict = || -> node::Metadata { Box::new(Metadata(PyDict::new(py).unbind())) };
        let metadata = self.0.metadata(dict).downcast_ref::<Metadata>()?;
        Some(metadata.0.bind(py).clone())
    }

    /// What a custom function left in its `ctx`.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let context = self.context(py, name)?;
        context.get().with_node(&self.0, || context.getattr(name))
    }

    /// Sets an attribute of a custom function's `ctx`; other nodes have only their own.
    fn __setattr__(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.expect_writable(py, name)?;
        self.context(py, name)?.setattr(name, value)
    }

    fn __delattr__(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.expect_writable(py, name)?;
        self.context(py, name)?.delattr(name)
    }

    /// The node's number: nodes that were made later have larger ones.
    fn _sequence_nr(&self) -> u64 {
        self.0.id()
    }

    /// Shape and dtype of each output.
    #[getter]
    fn _outputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyTuple>, Py<PyDType>)>> {
        let outputs = self.0.outputs().iter();
        outputs.map(|meta| Ok((PyTuple::new(py, &meta.shape)?, dtype::object(py, meta.dtype)))).collect()
    }

    /// What it saved: its part in the operation, shape, dtype, bytes of the memory in which that lies, and a
    /// number that names the memory. What a hook made of it is `packed`.
    #[getter]
    fn _saved<'py>(&self, py: Python<'py>) -> PyResult<Vec<SavedInfo<'py>>> {
        saved_in(&self.0).iter().map(|saved| saved.info(py)).collect()
    }

    /// Whether a backward pass has freed what it saved.
    #[getter]
    fn _is_freed(&self) -> bool {
        self.0.op().is_freed()
    }

    /// What it saved of input `index`, without history, if no hook keeps it.
    fn _saved_input(&self, index: usize) -> Option<Out> {
        let part = format!("input {index}");
        let (_, saved) = self.0.op().saved().into_iter().find(|(name, _)| *name == part)?;
        match saved {
            SavedArray::Plain(array, _) => Some(Out(Tensor::constant(array))),
            SavedArray::Packed(_) => None,
        }
    }

    /// Its hooks in the order of registration: the kind, and the output that it sees.
    #[getter]
    fn _hooks(&self) -> Vec<(&'static str, usize)> {
        self.0.hook_kinds()
    }

    /// Where it was recorded, if anomaly mode was on: file, line, function and module.
    #[getter]
    fn _trace(&self) -> Option<(String, u32, String, Option<String>)> {
        let place = self.0.origin()?.place.clone()?;
        Some((place.file, place.line, place.function, place.module))
    }

    /// The operation with its attributes.
    #[getter]
    fn _operation(&self) -> String {
        self.0.op().describe()
    }

    fn __repr__(&self) -> String {
        format!("<{} object at {:#x}>", self.0.name(), Arc::as_ptr(&self.0).cast::<u8>() as usize)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyNode>().is_ok_and(|other| Arc::ptr_eq(&self.0, &other.get().0))
    }

    fn __hash__(&self) -> u64 {
        self.0.id()
    }
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
    let grads = enter_long(py, || firesteel::autograd::grad(&outputs, &grad_outputs, &inputs, options))?;
    PyTuple::new(py, grads.into_iter().map(|grad| grad.map(Out)))
}

/// Whether the backward pass that runs looks for the gradients of some tensors alone.
#[pyfunction]
fn _looks_for_inputs() -> bool {
    firesteel::autograd::looks_for_inputs()
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
    enter_long(py, || firesteel::autograd::backward(&roots, &grads, inputs.as_deref(), options))
}

/// Adds the functions and classes.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyNode>()?;
    m.add_class::<PyHookHandle>()?;
    m.add_function(wrap_pyfunction!(is_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_swap_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(is_inference_mode_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_swap_modes, m)?)?;
    m.add_function(wrap_pyfunction!(_push_saved_tensors_hooks, m)?)?;
    m.add_function(wrap_pyfunction!(_pop_saved_tensors_hooks, m)?)?;
    m.add_function(wrap_pyfunction!(_looks_for_inputs, m)?)?;
    m.add_function(wrap_pyfunction!(_grad, m)?)?;
    m.add_function(wrap_pyfunction!(_backward, m)?)
}
