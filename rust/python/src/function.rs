//! `autograd.Function`: operations whose forward and gradient rule are written in Python.

use crate::autograd::visit_hooks;
use crate::enter::from_py;
use crate::error::IntoPy;
use crate::tensor::{drop_in_turn, Out, PyTensor};
use firesteel::autograd::anomaly::{freed_at, saved_at};
use firesteel::autograd::node::{lock, Backward, InputGrads, OutputGrads};
use firesteel::autograd::saved::SavedArray;
use firesteel::autograd::{record_custom, Edge, Kept, Needs, NodeRef, Produced};
use firesteel::{Array, Tensor};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::{Arc, Mutex};

/// What `save_for_backward` saved. It holds no history of this operation: that is in the node's edges.
enum Slot {
    Nothing,
    /// An input: its place among the tensors that were given.
    Input(usize, Kept),
    /// An output: its place among the tensors that came out.
    Output(usize, Kept),
    /// An output through which no gradient flows.
    Constant(usize, Kept),
    /// A tensor of other origin that a hook keeps.
    Packed(Kept),
    /// A tensor of other origin, with its own history and the version that it had.
    Other(Tensor, Kept),
}

impl Slot {
    fn kept(&self) -> Option<(String, &Kept)> {
        match self {
            Self::Nothing => None,
            Self::Input(i, kept) => Some((format!("input {i}"), kept)),
            Self::Output(i, kept) | Self::Constant(i, kept) => Some((format!("output {i}"), kept)),
            Self::Other(_, kept) | Self::Packed(kept) => Some(("intermediate".into(), kept)),
        }
    }

    /// The tensor, linked to its history.
    fn tensor(&self, op: &str, node: &NodeRef) -> firesteel::Result<Option<Tensor>> {
        let (array, edge) = match self {
            Self::Nothing => return Ok(None),
            Self::Other(tensor, kept) => {
                return kept.get_part(op, "a saved tensor").map(|_| Some(tensor.clone()))
            }
            Self::Packed(kept) => (kept.get_part(op, "a saved tensor")?, None),
            Self::Constant(i, kept) => (kept.get_part(op, format_args!("output {i}"))?, None),
            Self::Input(i, kept) => (kept.get_part(op, format_args!("input {i}"))?, node.edges()[*i].clone()),
            Self::Output(i, kept) => {
                let array = kept.get_part(op, format_args!("output {i}"))?;
                (array, Some(Edge { node: node.clone(), output: *i }))
            }
        };
        let Some(edge) = edge else { return Ok(Some(Tensor::constant(array))) };
        let leaf = edge.node.op().leaf(&edge.node).filter(|leaf| leaf.array().is_same_memory(&array));
        Ok(Some(leaf.unwrap_or_else(|| Tensor::with_edge(array, edge))))
    }
}

/// What a context keeps for the rule.
#[derive(Default)]
struct State {
    saved: Arc<Vec<Slot>>,
    is_freed: bool,
    /// A pack hook raised after the operation had run.
    is_incomplete: bool,
    /// The node that the context belongs to, as long as somebody looks at it through the node; how many do.
    node: Option<(NodeRef, usize)>,
}

/// The core's part of the `ctx` of a custom function.
#[pyclass(frozen, subclass, name = "_FunctionContext", module = "firesteel._core")]
#[derive(Default)]
pub struct Context {
    state: Mutex<State>,
}

impl Context {
    /// Runs `look` while the context knows its node.
    pub fn with_node<T>(&self, node: &NodeRef, look: impl FnOnce() -> T) -> T {
        lock(&self.state).node.get_or_insert_with(|| (node.clone(), 0)).1 += 1;
        let leave = Leave(self);
        let result = look();
        drop(leave);
        result
    }
}

/// Ends what `with_node` began, also on a panic.
struct Leave<'a>(&'a Context);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        let last = match &mut state.node {
            Some((_, lookers)) => {
                *lookers -= 1;
                *lookers == 0
            }
            None => false,
        };
        let node = if last { state.node.take() } else { None };
        drop(state);
        drop(node); // without the lock
    }
}

#[pymethods]
impl Context {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>) -> Self {
        Self::default()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        let saved = if Arc::strong_count(&state.saved) == 1 { &state.saved[..] } else { &[] };
        visit_hooks(&visit, |see| {
            saved.iter().filter_map(Slot::kept).for_each(|(_, kept)| kept.visit_packed(see))
        })
    }

    fn __clear__(&self) {
        let saved = std::mem::take(&mut lock(&self.state).saved);
        drop(saved); // without the lock
    }

    /// What `save_for_backward` was given. To be read in `backward`, or through `grad_fn`.
    #[getter]
    fn saved_tensors<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let name = slf.get_type().name()?.to_string();
        let state = lock(&slf.get().state);
        let (saved, is_freed, is_incomplete) = (state.saved.clone(), state.is_freed, state.is_incomplete);
        let node = state.node.as_ref().map(|(node, _)| node.clone());
        drop(state); // an unpack hook may do anything
        if is_freed {
            let error = firesteel::autograd::freed_error();
            return Err(node.iter().fold(error, freed_at)).py(py);
        }
        if is_incomplete {
            return Err(PyRuntimeError::new_err(format!(
                "{name}: what save_for_backward was given is not there, because a pack hook of \
                 saved_tensors_hooks raised; compute the output again"
            )));
        }
        let Some(node) = node else {
            if saved.is_empty() {
                return Ok(PyTuple::empty(py));
            }
            return Err(PyRuntimeError::new_err(format!(
                "{name}: saved_tensors can be read in backward, or through the grad_fn of an output; this ctx was \
                 kept from a call of forward that is over"
            )));
        };
        let tensors = saved.iter().map(|slot| slot.tensor(&name, &node)).collect::<Result<Vec<_>, _>>();
        let tensors = tensors.map_err(|error| saved_at(error, &node)).py(py)?;
        PyTuple::new(py, tensors.into_iter().map(|tensor| tensor.map(Out)))
    }
}

/// A node's hold on its context, which the garbage collector may see.
pub struct ContextRef(pub Py<Context>);

/// The node of a custom function.
struct FunctionNode {
    name: String,
    /// Its context, until it is dropped.
    context: Option<ContextRef>,
    /// For each argument of `apply`, whether it was a tensor.
    is_tensor: Vec<bool>,
}

impl std::fmt::Debug for FunctionNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for FunctionNode {
    fn drop(&mut self) {
        // The context may hold tensors in its attributes, and they the next such node.
        let context = self.context.take();
        Python::try_attach(|_| context.map(|context| drop_in_turn(context.0.into_any())));
    }
}

impl FunctionNode {
    fn context(&self) -> &Py<Context> {
        match &self.context {
            Some(context) => &context.0,
            None => unreachable!("it is taken when the node is dropped"),
        }
    }

    /// Zeros for gradients that did not arrive, unless the function wants to see None.
    fn arguments<'py>(
        &self,
        py: Python<'py>,
        node: &NodeRef,
        grads: OutputGrads,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let context = self.context().bind(py);
        let materialize = context.getattr(intern!(py, "materialize_grads"))?.is_truthy()?;
        let mut arguments = Vec::new();
        let places: Vec<Option<usize>> = context.getattr(intern!(py, "_output_places"))?.extract()?;
        for place in places {
            let grad = match place {
                None => None,
                Some(i) => match grads.get(i).cloned().flatten() {
                    None if materialize => {
                        let meta = &node.outputs()[i];
                        Some(Tensor::constant(Array::full(&meta.shape, 0.0, meta.dtype).py(py)?))
                    }
                    grad => grad,
                },
            };
            arguments.push(grad.map(Out).into_pyobject(py)?.into_any());
        }
        Ok(arguments)
    }

    /// What the rule returned, as gradients of the tensors among the arguments.
    fn input_grads(&self, node: &NodeRef, returned: &Bound<'_, PyAny>) -> PyResult<InputGrads> {
        let items = match returned.cast::<PyTuple>() {
            Ok(items) => items.iter().collect(),
            Err(_) => crate::tensor::sequence_of(returned),
        };
        let expected = self.is_tensor.len();
        if items.len() < expected || items[expected..].iter().any(|item| !item.is_none()) {
            return Err(PyRuntimeError::new_err(format!(
                "function {} returned an incorrect number of gradients (expected {expected}, got {}); return \
                 one for each argument of forward, None where there is none",
                self.name,
                items.len()
            )));
        }
        let mut grads = InputGrads::new();
        for (i, (item, is_tensor)) in items.iter().zip(&self.is_tensor).enumerate() {
            if !is_tensor {
                if !item.is_none() {
                    return Err(PyRuntimeError::new_err(format!(
                        "function {} returned a gradient different than None at position {}, but the \
                         corresponding forward input was not a Variable; return None there",
                        self.name,
                        i + 1
                    )));
                }
                continue;
            }
            let edge = node.edges()[grads.len()].as_ref();
            let grad = match item.cast::<PyTensor>() {
                Ok(tensor) => Some(tensor.get().tensor()),
                Err(_) if item.is_none() => None,
                Err(_) => {
                    return Err(PyRuntimeError::new_err(format!(
                        "function {}: expected Variable or None (got {}) at index {i}; return a tensor",
                        self.name,
                        item.get_type().name()?
                    )))
                }
            };
            if let (Some(grad), Some(edge)) = (&grad, edge) {
                let shape = &edge.meta().shape;
                if !sums_to(grad.shape(), shape) {
                    return Err(PyRuntimeError::new_err(format!(
                        "Function {} returned an invalid gradient at index {i} - got {:?} but expected shape \
                         compatible with {:?}; return one of the argument's shape",
                        self.name,
                        grad.shape(),
                        shape.as_slice()
                    )));
                }
            }
            grads.push(grad);
        }
        Ok(grads)
    }
}

/// Whether `shape` is what a tensor of shape `target` broadcasts to.
fn sums_to(shape: &[usize], target: &[usize]) -> bool {
    shape.len() >= target.len()
        && target
            .iter()
            .rev()
            .zip(shape.iter().rev())
            .all(|(&target, &extent)| target == extent || target == 1)
}

impl Backward for FunctionNode {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn backward(
        &self,
        node: &NodeRef,
        _needs: Needs<'_>,
        grads: OutputGrads,
    ) -> firesteel::Result<InputGrads> {
        Python::attach(|py| {
            let context = self.context().bind(py);
            let arguments = PyTuple::new(py, self.arguments(py, node, grads)?)?;
            let rule = context.getattr(intern!(py, "_rule"))?;
            let returned = context.get().with_node(node, || rule.call1(arguments))?;
            self.input_grads(node, &returned)
        })
        .map_err(from_py)
    }

    fn free(&self) {
        let context = self.context().get();
        let mut state = lock(&context.state);
        let saved = std::mem::take(&mut state.saved);
        state.is_freed |= !saved.is_empty();
        drop(state);
        drop(saved); // without the lock
    }

    fn saved(&self) -> Vec<(String, SavedArray)> {
        let state = lock(&self.context().get().state);
        let kept = state.saved.iter().filter_map(Slot::kept);
        kept.filter_map(|(part, kept)| Some((part, kept.saved()?))).collect()
    }

    fn is_freed(&self) -> bool {
        lock(&self.context().get().state).is_freed
    }

    fn payload(&self) -> Option<&dyn std::any::Any> {
        self.context.as_ref().map(|context| context as &dyn std::any::Any)
    }
}

/// The tensors of a sequence that may hold anything, with their objects.
fn tensors_among<'py>(items: &Bound<'py, PyTuple>) -> Vec<Option<Bound<'py, PyTensor>>> {
    items.iter().map(|item| item.cast_into::<PyTensor>().ok()).collect()
}

fn is_among(tensor: &Tensor, others: &[Tensor]) -> bool {
    others.iter().any(|other| other.is_same(tensor))
}

/// The tensors that the context's attribute `name` holds.
fn marked(context: &Bound<'_, Context>, name: &str) -> PyResult<Vec<Tensor>> {
    crate::tensor::tensors_of(name, &context.getattr(name)?)
}

/// Records what a custom function has computed, and returns its outputs as the caller gets them.
#[pyfunction]
fn _record_function<'py>(
    context: &Bound<'py, Context>,
    name: String,
    arguments: &Bound<'py, PyTuple>,
    outputs: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = context.py();
    let arguments = tensors_among(arguments);
    let inputs: Vec<Tensor> = arguments.iter().flatten().map(|x| x.get().tensor()).collect();
    let objects = tensors_among(outputs);
    let given: Vec<Tensor> = objects.iter().flatten().map(|x| x.get().tensor()).collect();
    let dirty = marked(context, "dirty_tensors")?;
    let constant = marked(context, "non_differentiable")?;
    for tensor in &dirty {
        if !is_among(tensor, &inputs) {
            return Err(PyRuntimeError::new_err(format!(
                "{name}: mark_dirty: a tensor of shape {:?} is no input of the function; mark only inputs that \
                 are changed in place",
                tensor.shape()
            )));
        }
        if !is_among(tensor, &given) {
            return Err(PyRuntimeError::new_err(format!(
                "{name}: Some elements marked as dirty during the forward method were not returned as output \
                 (shape {:?}). The inputs that are modified inplace must all be outputs of the Function",
                tensor.shape()
            )));
        }
    }
    let produced = |x: &Tensor| {
        if is_among(x, &constant) {
            Produced::Constant(x.clone())
        } else if is_among(x, &dirty) {
            Produced::Written(x.clone())
        } else if !x.dtype().is_float() {
            Produced::Constant(x.clone())
        } else if is_among(x, &inputs) || x.requires_grad() {
            Produced::Same(x.clone())
        } else {
            Produced::New(x.clone())
        }
    };
    let produced: Vec<Produced> = given.iter().map(produced).collect();
    for tensor in dirty.iter().filter(|tensor| is_among(tensor, &constant) && !tensor.is_inference()) {
        tensor.array().storage().bump_version(); // of the others the core counts the write
    }
    let is_tensor = arguments.iter().map(Option::is_some).collect();
    let op_name = name.clone();
    let op =
        || FunctionNode { name: op_name, context: Some(ContextRef(context.clone().unbind())), is_tensor };
    let (results, node) = record_custom(&name, &inputs, produced, op).py(py)?;

    let mut places = Vec::new();
    let mut all = Vec::new();
    let mut results_left = results.iter().enumerate();
    for (object, item) in objects.iter().zip(outputs.iter()) {
        let result = object.as_ref().and_then(|_| results_left.next());
        places.push(result.map(|(place, _)| place));
        all.push(match result {
            Some((_, result)) => Out(result.clone()).into_pyobject(py)?.into_any(),
            None => item,
        });
    }
    if node.is_some() {
        context.setattr(intern!(py, "_output_places"), places)?;
        if let Err(error) = save(context, &name, &inputs, &results) {
            lock(&context.get().state).is_incomplete = true;
            return Err(error);
        }
    }
    PyTuple::new(py, all)
}

/// Holds on to what `save_for_backward` was given.
fn save(context: &Bound<'_, Context>, name: &str, inputs: &[Tensor], outputs: &[Tensor]) -> PyResult<()> {
    let py = context.py();
    let to_save = context.getattr(intern!(py, "to_save"))?;
    let mut slots = Vec::new();
    for item in to_save.cast::<PyTuple>()?.iter() {
        let Ok(object) = item.cast::<PyTensor>() else {
            slots.push(Slot::Nothing);
            continue;
        };
        let tensor = object.get().tensor();
        // A hook that keeps what it is given must not keep this operation's node.
        let is_output = outputs.iter().any(|other| other.is_same(&tensor));
        let kept = Kept::packed(name, &if is_output { tensor.detach() } else { tensor.clone() }).py(py)?;
        let place = |among: &[Tensor]| among.iter().position(|other| other.is_same(&tensor));
        slots.push(match (place(outputs), place(inputs)) {
            (Some(i), _) if tensor.requires_grad() => Slot::Output(i, kept),
            (Some(i), _) => Slot::Constant(i, kept),
            (None, Some(i)) => Slot::Input(i, kept),
            (None, None) if kept.array().is_some() => Slot::Other(tensor, kept),
            (None, None) => Slot::Packed(kept),
        });
    }
    lock(&context.get().state).saved = Arc::new(slots);
    context.setattr(intern!(py, "to_save"), PyTuple::empty(py))
}

/// Adds the class and the function.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Context>()?;
    m.add_function(wrap_pyfunction!(_record_function, m)?)
}
