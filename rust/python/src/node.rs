//! Nodes of the graph as Python sees them.

use crate::autograd::{hook_of, visit_hooks, Metadata, PyHookHandle};
use crate::dtype::{self, PyDType};
use crate::error::IntoPy;
use crate::function::{Context, ContextRef};
use crate::graph::{saved_in, SavedInfo};
use crate::tensor::Out;
use firesteel::autograd::saved::SavedArray;
use firesteel::autograd::{hooks, node, Edge, NodeRef};
use firesteel::Tensor;
use pyo3::exceptions::{PyAttributeError, PyIndexError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType, PyWeakrefReference};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// A recorded operation.
///
/// While somebody holds a node's object, it is the only one: `y.grad_fn is y.grad_fn`. Its type has the node's
/// name, as in PyTorch, and is made when the first such node is looked at.
#[pyclass(frozen, subclass, weakref, name = "Node", module = "firesteel.autograd.graph")]
pub struct PyNode {
    node: NodeRef,
    /// Which of the objects that its node has had.
    object: u64,
}

/// The objects of nodes, by the nodes' ids: each with its number.
type Objects = HashMap<u64, (u64, Py<PyWeakrefReference>)>;

/// Those that Python holds.
static OBJECTS: LazyLock<Mutex<Objects>> = LazyLock::new(Mutex::default);

static NEXT_OBJECT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The node whose object is being made.
    static MADE: RefCell<Option<PyNode>> = const { RefCell::new(None) };
}

/// Never held while Python code may run: that may drop an object, which locks it, too.
fn objects() -> MutexGuard<'static, Objects> {
    OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for PyNode {
    fn drop(&mut self) {
        let mut objects = objects();
        let is_own = objects.get(&self.node.id()).is_some_and(|(object, _)| *object == self.object);
        let gone = if is_own { objects.remove(&self.node.id()) } else { None };
        drop(objects);
        drop(gone);
    }
}

/// The type of the nodes of a custom function: its context's class keeps it, two functions may have one name.
fn type_of_function<'py>(context: &Bound<'py, Context>) -> PyResult<Bound<'py, PyAny>> {
    let (py, class) = (context.py(), context.get_type());
    if let Ok(known) = class.getattr("__dict__")?.get_item("_node_class") {
        return Ok(known);
    }
    let made = new_type(py, class.name()?.to_str()?)?;
    class.setattr("_node_class", &made)?;
    Ok(made)
}

/// The type of the nodes of a built-in operation of that name.
fn type_of<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static TYPES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let types = TYPES.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(known) = types.get_item(name)? {
        return Ok(known);
    }
    let made = new_type(py, name)?;
    types.set_item(name, &made)?;
    Ok(made)
}

/// A type of nodes.
fn new_type<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let body = PyDict::new(py);
    body.set_item("__slots__", PyTuple::empty(py))?;
    body.set_item("__module__", "builtins")?;
    py.get_type::<PyType>().call1((name, (py.get_type::<PyNode>(),), body))
}

impl PyNode {
    /// The Python object of a node.
    pub fn of(py: Python<'_>, node: NodeRef) -> PyResult<Bound<'_, Self>> {
        let known = objects().get(&node.id()).map(|(_, object)| object.clone_ref(py));
        if let Some(object) = known.and_then(|known| known.bind(py).upgrade()) {
            return Ok(object.cast_into::<Self>()?);
        }
        let class = match node.op().payload().and_then(|held| held.downcast_ref()) {
            Some(ContextRef(context)) => type_of_function(context.bind(py))?,
            None => type_of(py, &node.name())?,
        };
        let (id, number) = (node.id(), NEXT_OBJECT.fetch_add(1, Ordering::Relaxed));
        MADE.set(Some(Self { node, object: number }));
        let object = class.call0()?.cast_into::<Self>()?;
        let weak = PyWeakrefReference::new(&object)?.unbind();
        let previous = objects().insert(id, (number, weak));
        drop(previous);
        Ok(object)
    }

    /// The node itself.
    pub fn node(&self) -> &NodeRef {
        &self.node
    }

    /// The `ctx` of a custom function, which is asked for the attribute `name`.
    fn context<'a, 'py: 'a>(&'a self, py: Python<'py>, name: &str) -> PyResult<&'a Bound<'py, Context>> {
        match self.node.op().payload().and_then(|held| held.downcast_ref()) {
            Some(ContextRef(context)) => Ok(context.bind(py)),
            None => Err(PyAttributeError::new_err(format!(
                "'{}' object has no attribute '{name}'; only nodes of a custom Function take others, keep notes in \
                 its .metadata",
                self.node.name()
            ))),
        }
    }

    /// See `_stand_in`.
    pub fn stand_in(&self, py: Python<'_>, output: usize) -> PyResult<Tensor> {
        let Some(meta) = self.node.outputs().get(output) else {
            return Err(PyIndexError::new_err(format!(
                "GradientEdge: {} has {} outputs, so that there is none of number {output}; take the edge of a \
                 tensor: torch.autograd.graph.get_gradient_edge(tensor)",
                self.node.name(),
                self.node.outputs().len()
            )));
        };
        if let Some(leaf) = self.node.op().leaf(&self.node) {
            return Ok(leaf);
        }
        let zero = Tensor::zeros(&[], meta.dtype).and_then(|zero| zero.expand(&meta.shape)).py(py)?;
        Ok(Tensor::with_edge(zero.array().clone(), Edge { node: self.node.clone(), output }))
    }

    /// Refuses to set what all nodes have.
    fn expect_writable(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        if py.get_type::<Self>().hasattr(name)? {
            return Err(PyAttributeError::new_err(format!(
                "attribute '{name}' of '{}' objects is not writable; choose another name",
                self.node.name()
            )));
        }
        Ok(())
    }
}

#[pymethods]
impl PyNode {
    /// Called for the node whose object is being made; programs make none.
    #[new]
    #[classmethod]
    fn new(class: &Bound<'_, PyType>) -> PyResult<Self> {
        MADE.take().ok_or_else(|| match class.name() {
            Ok(name) => PyTypeError::new_err(format!(
                "cannot create '{name}' instances: operations on tensors that require grad record them"
            )),
            Err(error) => error,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_hooks(&visit, |see| hooks::visit_own_hooks(&self.node, see))
    }

    fn __clear__(&self) {
        drop(hooks::take_own_hooks(&self.node));
    }

    /// PyTorch's name of the operation: `MulBackward0`.
    fn name(&self) -> String {
        self.node.name()
    }

    /// The nodes that gradients of the inputs go to, each with the index of its output.
    #[getter]
    fn next_functions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let edges = self.node.edges().iter().map(|edge| match edge {
            Some(edge) => Ok((Some(PyNode::of(py, edge.node.clone())?), edge.output)),
            None => Ok((None, 0)),
        });
        PyTuple::new(py, edges.collect::<PyResult<Vec<_>>>()?)
    }

    /// The leaf whose gradient this node collects; only `AccumulateGrad` has one.
    #[getter]
    fn variable(&self) -> PyResult<Out> {
        match self.node.op().leaf(&self.node) {
            Some(leaf) => Ok(Out(leaf)),
            None => Err(PyAttributeError::new_err(format!(
                "'{}' object has no attribute 'variable'; only AccumulateGrad has one",
                self.node.name()
            ))),
        }
    }

    /// register_prehook(fn) -> handle
    ///
    /// Calls `fn(grad_outputs)` with a tuple of the gradients of the node's outputs before its rule runs; a
    /// tuple that it returns takes their place.
    fn register_prehook(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<PyHookHandle> {
        Ok(PyHookHandle::new(self.node.register_prehook(hook_of("register_prehook", r#fn)?)))
    }

    /// register_hook(fn) -> handle
    ///
    /// Calls `fn(grad_inputs, grad_outputs)` with two tuples after the node's rule has run; a tuple that it
    /// returns takes the place of `grad_inputs`.
    fn register_hook(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<PyHookHandle> {
        Ok(PyHookHandle::new(self.node.register_hook(hook_of("register_hook", r#fn)?)))
    }

    /// A dict in which anybody may keep notes about this node.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        let dict = || -> node::Metadata { Box::new(Metadata(PyDict::new(py).unbind())) };
        let metadata = self.node.metadata(dict).downcast_ref::<Metadata>()?;
        Some(metadata.0.bind(py).clone())
    }

    /// What a custom function left in its `ctx`, or what another operation saved: `_saved_self`.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        static SAVED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (py, this) = (slf.py(), slf.get());
        if name.starts_with("_saved_") && this.node.op().payload().is_none() {
            return SAVED.import(py, "firesteel.autograd._saved", "saved")?.call1((slf, name));
        }
        let context = this.context(py, name)?;
        context.get().with_node(&this.node, || context.getattr(name))
    }

    /// The attributes, also those that show what it saved.
    fn __dir__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static NAMES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let own = py.get_type::<PyAny>().call_method1("__dir__", (slf,))?;
        let saved = NAMES.import(py, "firesteel.autograd._saved", "names")?.call1((slf,))?;
        own.add(saved)
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
        self.node.id()
    }

    /// Shape and dtype of each output.
    #[getter]
    fn _outputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyTuple>, Py<PyDType>)>> {
        let outputs = self.node.outputs().iter();
        outputs.map(|meta| Ok((PyTuple::new(py, &meta.shape)?, dtype::object(py, meta.dtype)))).collect()
    }

    /// What it saved: its part in the operation, shape, dtype, bytes of the memory in which that lies, and a
    /// number that names the memory. What a hook made of it is `packed`.
    #[getter]
    fn _saved<'py>(&self, py: Python<'py>) -> PyResult<Vec<SavedInfo<'py>>> {
        saved_in(&self.node).iter().map(|saved| saved.info(py)).collect()
    }

    /// Whether a backward pass has freed what it saved.
    #[getter]
    fn _is_freed(&self) -> bool {
        self.node.op().is_freed()
    }

    /// What it saved of input `index`, without history, if no hook keeps it.
    fn _kept_input(&self, index: usize) -> Option<Out> {
        let part = format!("input {index}");
        let (_, saved) = self.node.op().saved().into_iter().find(|(name, _)| *name == part)?;
        match saved {
            SavedArray::Plain(array, _) => Some(Out(Tensor::constant(array))),
            SavedArray::Packed(_) => None,
        }
    }

    /// What it saved as `part`, linked to its history; an error if that was freed or has changed since.
    fn _kept_part(&self, py: Python<'_>, part: &str) -> PyResult<Option<Out>> {
        let op = self.node.op();
        if op.is_freed() {
            return Err(firesteel::autograd::freed_error()).py(py);
        }
        let Some((_, saved)) = op.saved().into_iter().find(|(name, _)| name == part) else { return Ok(None) };
        let array = saved.unchanged(&self.node.name(), part).py(py)?;
        let place = part.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok());
        let edge = if part.starts_with("output") {
            let output = place.unwrap_or(0);
            self.node.outputs()[output].dtype.is_float().then(|| Edge { node: self.node.clone(), output })
        } else {
            place.and_then(|input| self.node.edges()[input].clone())
        };
        let Some(edge) = edge else { return Ok(Some(Out(Tensor::constant(array)))) };
        let leaf = edge.node.op().leaf(&edge.node).filter(|leaf| leaf.array().is_same_memory(&array));
        Ok(Some(Out(leaf.unwrap_or_else(|| Tensor::with_edge(array, edge)))))
    }

    /// A tensor that stands where output `output` of this node is in the graph: its leaf for a node that fills
    /// one, else one of zeros.
    fn _stand_in(&self, py: Python<'_>, output: usize) -> PyResult<Out> {
        self.stand_in(py, output).map(Out)
    }

    /// Its hooks in the order of registration: the kind, and the output that it sees.
    #[getter]
    fn _hooks(&self) -> Vec<(&'static str, usize)> {
        self.node.hook_kinds()
    }

    /// Where it was recorded, if anomaly mode was on: file, line, function and module.
    #[getter]
    fn _trace(&self) -> Option<(String, u32, String, Option<String>)> {
        let place = self.node.origin()?.place.clone()?;
        Some((place.file, place.line, place.function, place.module))
    }

    /// The operation with its attributes.
    #[getter]
    fn _operation(&self) -> String {
        self.node.op().describe()
    }

    fn __repr__(&self) -> String {
        format!("<{} object at {:#x}>", self.node.name(), self.node.address())
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyNode>().is_ok_and(|other| self.node.is_same(&other.get().node))
    }

    fn __hash__(&self) -> u64 {
        self.node.id()
    }
}

/// Adds the class.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyNode>()
}
