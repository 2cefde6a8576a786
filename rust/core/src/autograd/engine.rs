//! The backward pass: newest node first, because creation order is a topological order.

use super::anomaly::Pass;
use super::mode::GradMode;
use super::node::{next_id, Edge, InputGrads, Needs, NodeRef, OutputGrads};
use crate::array::Array;
use crate::tensor::Tensor;
use crate::{bail, ensure, Error, Result};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::OnceLock;

/// How a backward pass treats the graph.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep what was saved, so that the graph can be walked again.
    pub retain_graph: bool,
    /// Record the backward pass itself, for higher derivatives.
    pub create_graph: bool,
}

/// Adds the gradient of `roots` to `.grad` of the leaves that they depend on, or only of `inputs`.
///
/// `grads` holds the gradient to start from for each root; `None` stands for 1 and needs a root of
/// one element.
pub fn backward(
    roots: &[Tensor],
    grads: &[Option<Tensor>],
    inputs: Option<&[Tensor]>,
    options: Options,
) -> Result<()> {
    let _mode = GradMode::set(options.create_graph);
    let Some(inputs) = inputs else {
        return Run::start("backward", roots, grads, options, None)?.walk();
    };
    ensure!(
        !inputs.is_empty(),
        Autograd,
        "backward: `inputs` argument to `backward()` cannot be empty; leave it out to reach every leaf"
    );
    let mut run = Run::start("backward", roots, grads, options, Some(inputs))?;
    run.walk()?;
    for (i, (input, grad)) in inputs.iter().zip(run.take_captured()).enumerate() {
        let is_first = !inputs[..i].iter().any(|other| other.is_same(input));
        if let Some(grad) = grad.filter(|_| is_first) {
            input.grad_slot().accumulate(grad, input.array().layout())?;
            if let Some(edge) = input.edge().filter(|_| input.is_leaf()) {
                edge.node.run_accumulated(|| Some(input.clone()))?;
            }
        }
    }
    Ok(())
}

/// The gradients of `outputs` with respect to `inputs`; `None` where an input was not used.
pub fn grad(
    outputs: &[Tensor],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Tensor],
    options: Options,
) -> Result<Vec<Option<Tensor>>> {
    ensure!(
        !inputs.is_empty(),
        Autograd,
        "grad: `inputs` argument to `grad()` cannot be empty; name the tensors whose gradients are wanted"
    );
    let _mode = GradMode::set(options.create_graph);
    let mut run = Run::start("grad", outputs, grad_outputs, options, Some(inputs))?;
    run.walk()?;
    Ok(run.take_captured())
}

type InterruptCheck = fn() -> Result<()>;
static INTERRUPT_CHECK: OnceLock<InterruptCheck> = OnceLock::new();
/// Elements of work between two looks at the interrupt flag: about 50 ms at the slowest.
const WORK_PER_CHECK: usize = 1 << 16;

/// Sets what the engine calls now and then to learn of an interrupt (Ctrl-C).
pub fn set_interrupt_check(check: InterruptCheck) {
    let _ = INTERRUPT_CHECK.set(check);
}

fn check_interrupt() -> Result<()> {
    INTERRUPT_CHECK.get().map_or(Ok(()), |check| check())
}

/// Names an output of a node: the node's number, and which of its outputs.
type Place = (u64, usize);

fn place(edge: &Edge) -> Place {
    (edge.node.id(), edge.output)
}

/// One walk through the graph.
struct Run {
    id: u64,
    options: Options,
    /// The walk as messages speak of it.
    pass: Pass,
    ready: BinaryHeap<Ready>,
    /// With inputs given: the nodes that matter.
    wanted: Option<HashMap<u64, Wanted>>,
    captured: HashMap<Place, Tensor>,
    /// Edges of the inputs: they keep the inputs' nodes, and with them the ids, alive.
    targets: Vec<Edge>,
    /// The same as names.
    places: HashSet<Place>,
}

/// Why a node matters to a walk that looks for the gradients of some inputs.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    /// One of the inputs is an output of it.
    is_target: bool,
    /// One of the inputs lies further down.
    leads: bool,
}

/// Backward passes that may run inside each other, in hooks and custom operations: each takes its part of
/// the thread's stack.
const DEEPEST: usize = 1000;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static LOOKS_FOR_INPUTS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the backward pass that runs in this thread, the innermost, looks for the gradients of some tensors
/// alone.
pub fn looks_for_inputs() -> bool {
    LOOKS_FOR_INPUTS.get()
}

/// One backward pass that runs, perhaps inside of others.
struct Nested {
    outer_looks_for_inputs: bool,
}

impl Nested {
    fn enter(looks_for_inputs: bool) -> Result<Self> {
        ensure!(
            DEPTH.get() < DEEPEST,
            Autograd,
            "backward: {DEEPEST} backward passes run inside each other, called by hooks or custom functions; a \
             deeper nest would overflow the stack: begin them after one another"
        );
        DEPTH.set(DEPTH.get() + 1);
        Ok(Self { outer_looks_for_inputs: LOOKS_FOR_INPUTS.replace(looks_for_inputs) })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        LOOKS_FOR_INPUTS.set(self.outer_looks_for_inputs);
    }
}

/// Orders nodes by creation, newest first.
struct Ready(NodeRef);

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}
impl Eq for Ready {}
impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ready {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id().cmp(&other.0.id())
    }
}

impl Run {
    fn start(
        op: &str,
        roots: &[Tensor],
        grads: &[Option<Tensor>],
        options: Options,
        inputs: Option<&[Tensor]>,
    ) -> Result<Self> {
        let mut starts = Vec::with_capacity(roots.len());
        for (i, root) in roots.iter().enumerate() {
            starts.push(start_of((op, i), root, grads.get(i).and_then(Option::as_ref))?);
        }
        let first = starts.first().map(|(edge, _)| edge.node.clone());
        let pass = Pass::new(first, !options.retain_graph)?;
        let targets: Vec<Edge> = inputs.unwrap_or_default().iter().filter_map(Tensor::edge).collect();
        let wanted = match inputs {
            Some(inputs) => Some(nodes_towards(starts.iter().map(|(edge, _)| edge), inputs)?),
            None => None,
        };
        let mut run = Self {
            id: next_id(),
            options,
            pass,
            ready: BinaryHeap::new(),
            wanted,
            captured: HashMap::new(),
            places: targets.iter().map(place).collect(),
            targets,
        };
        for (edge, grad) in starts {
            run.deliver(&edge, grad)?;
        }
        Ok(run)
    }

    fn walk(&mut self) -> Result<()> {
        let _nested = Nested::enter(self.wanted.is_some())?;
        let mut work = 0;
        while let Some(Ready(node)) = self.ready.pop() {
            work += match self.step(&node) {
                Ok(work) => work,
                Err(error) => return Err(self.pass.explain(error, &node)),
            };
            if work > WORK_PER_CHECK {
                work = 0;
                check_interrupt()?;
            }
        }
        Ok(())
    }

    /// Sends the gradients that arrived at `node` on; returns how much work it was, in elements.
    fn step(&mut self, node: &NodeRef) -> Result<usize> {
        let mut grads = node.take_pending(self.id);
        node.run_hooks(&mut grads)?;
        if let Some(wanted) = self.wanted.as_ref().and_then(|wanted| wanted.get(&node.id())) {
            let arrived = grads.iter().enumerate().filter(|_| wanted.is_target);
            for (output, grad) in arrived {
                if let Some(grad) = grad {
                    self.captured.insert((node.id(), output), grad.clone());
                }
            }
            if !wanted.leads {
                return Ok(0);
            }
        }
        let work = 64 + grads.iter().flatten().map(Tensor::numel).sum::<usize>();
        node.run_prehooks(&mut grads)?;
        let results = self.results(node, grads)?;
        if !self.options.retain_graph {
            node.op().free();
            self.pass.note_freed(node);
        }
        for (edge, grad) in node.edges().iter().zip(results) {
            if let (Some(edge), Some(grad)) = (edge, grad) {
                self.deliver(edge, grad)?;
            }
        }
        Ok(work)
    }

    /// What the rule of `node` makes of the gradients of its outputs, and the hooks of that.
    fn results(&self, node: &NodeRef, grads: OutputGrads) -> Result<InputGrads> {
        let _in_rule = self.pass.enter(node);
        let wanted = self.wanted_inputs(node);
        let needs = Needs::new(node, wanted.as_deref());
        if !node.has_posthooks() {
            let results = call_rule(node, needs, grads)?;
            self.pass.check(node, &results)?;
            return Ok(results);
        }
        let mut results = fitted(node, call_rule(node, needs, grads.clone())?)?;
        self.pass.check(node, &results)?;
        node.run_posthooks(&mut results, &grads)?;
        Ok(results)
    }

    /// Sends a gradient to the node that made the tensor, fitted to the tensor's shape and dtype.
    fn deliver(&mut self, edge: &Edge, grad: Tensor) -> Result<()> {
        if !self.wants(edge) {
            return Ok(());
        }
        let grad = fit(edge, grad)?;
        if edge.node.receive(self.id, edge.output, grad, add)? {
            self.ready.push(Ready(edge.node.clone()));
        }
        Ok(())
    }

    /// Whether a gradient sent along `edge` leads to one that is looked for, or is one.
    fn wants(&self, edge: &Edge) -> bool {
        let Some(nodes) = &self.wanted else { return true };
        nodes.get(&edge.node.id()).is_some_and(|node| {
            // A target's node has perhaps other outputs than the target.
            node.leads || edge.node.outputs().len() == 1 || self.places.contains(&place(edge))
        })
    }

    /// For which edges of `node` the rule is to be asked; `None`, all of them, where every leaf is reached.
    fn wanted_inputs(&self, node: &NodeRef) -> Option<SmallVec<[bool; 4]>> {
        self.wanted.as_ref()?;
        let is_wanted = |edge: &Option<Edge>| edge.as_ref().is_some_and(|edge| self.wants(edge));
        Some(node.edges().iter().map(is_wanted).collect())
    }

    fn take_captured(&mut self) -> Vec<Option<Tensor>> {
        // What is returned is held by nobody else then, unless it was asked for twice.
        let captured = std::mem::take(&mut self.captured);
        self.targets.iter().map(|edge| captured.get(&place(edge)).cloned()).collect()
    }
}

/// What is left of a failed run must not be found by another.
impl Drop for Run {
    fn drop(&mut self) {
        for Ready(node) in self.ready.drain() {
            node.take_pending(self.id);
        }
    }
}

/// Where the gradient of root number `i` enters the graph, and that gradient.
fn start_of((op, i): (&str, usize), root: &Tensor, grad: Option<&Tensor>) -> Result<(Edge, Tensor)> {
    let Some(edge) = root.edge() else {
        bail!(
            Autograd,
            "{op}: element {i} of tensors does not require grad and does not have a grad_fn; set \
             requires_grad=True on an input, or compute it outside no_grad"
        );
    };
    let grad = match grad {
        Some(grad) => {
            ensure!(
                grad.shape() == root.shape(),
                Autograd,
                "{op}: Mismatch in shape: grad_output[{i}] has a shape of {:?} and output[{i}] has a shape of {:?}; \
                 give a gradient of the output's shape",
                grad.shape(),
                root.shape()
            );
            grad.clone()
        }
        None => {
            ensure!(
                root.numel() == 1,
                Autograd,
                "{op}: grad can be implicitly created only for scalar outputs, not for output {i} of shape {:?}; pass \
                 gradient=, or reduce it with .sum() or .mean()",
                root.shape()
            );
            Tensor::constant(Array::full(root.shape(), 1.0, root.dtype())?)
        }
    };
    Ok((edge, grad))
}

/// The nodes of `inputs`, and those from which one of them can be reached.
fn nodes_towards<'a>(
    roots: impl Iterator<Item = &'a Edge>,
    inputs: &[Tensor],
) -> Result<HashMap<u64, Wanted>> {
    let mut wanted: HashMap<u64, Wanted> = HashMap::new();
    for (i, input) in inputs.iter().enumerate() {
        let Some(edge) = input.edge() else {
            bail!(
                Autograd,
                "grad: One of the differentiated Tensors does not require grad: input {i} of shape {:?}; set \
                 requires_grad=True on it before it is used",
                input.shape()
            );
        };
        wanted.insert(edge.node.id(), Wanted { is_target: true, leads: false });
    }
    let oldest = wanted.keys().copied().min().unwrap_or(0);
    let mut reachable: HashMap<u64, NodeRef> = HashMap::new();
    let mut stack: Vec<NodeRef> = roots.map(|edge| edge.node.clone()).collect();
    while let Some(node) = stack.pop() {
        if reachable.len() % WORK_PER_CHECK == WORK_PER_CHECK - 1 {
            check_interrupt()?;
        }
        if node.id() >= oldest && !reachable.contains_key(&node.id()) {
            stack.extend(node.edges().iter().flatten().map(|edge| edge.node.clone()));
            reachable.insert(node.id(), node);
        }
    }
    let mut order: Vec<_> = reachable.keys().copied().collect();
    order.sort_unstable();
    for id in order {
        if reachable[&id].edges().iter().flatten().any(|edge| wanted.contains_key(&edge.node.id())) {
            wanted.entry(id).or_default().leads = true;
        }
    }
    Ok(wanted)
}

/// Calls a node's gradient rule. The operators used in rules unwind with an [`Error`]: here it
/// becomes an ordinary error again.
fn call_rule(node: &NodeRef, needs: Needs<'_>, grads: OutputGrads) -> Result<InputGrads> {
    match catch_unwind(AssertUnwindSafe(|| node.op().backward(node, needs, grads))) {
        Ok(result) => result,
        Err(panic) => match panic.downcast::<Error>() {
            Ok(error) => Err(*error),
            Err(panic) => resume_unwind(panic),
        },
    }
}

/// Sums a gradient over broadcast dims and converts it, so that it looks like the tensor's value.
fn fit(edge: &Edge, grad: Tensor) -> Result<Tensor> {
    let meta = edge.meta();
    let grad = if grad.shape() == meta.shape.as_slice() { grad } else { grad.sum_to_size(&meta.shape)? };
    if grad.dtype() == meta.dtype {
        Ok(grad)
    } else {
        grad.to_dtype(meta.dtype)
    }
}

/// What a rule gave as the inputs look: hooks see gradients as they will be sent on.
fn fitted(node: &NodeRef, grads: InputGrads) -> Result<InputGrads> {
    let pairs = grads.into_iter().zip(node.edges());
    pairs
        .map(|(grad, edge)| match (grad, edge) {
            (Some(grad), Some(edge)) => fit(edge, grad).map(Some),
            _ => Ok(None),
        })
        .collect()
}

/// The sum of two gradients, in the first one's memory when nobody else can see it.
pub(crate) fn add(held: Tensor, grad: Tensor) -> Result<Tensor> {
    // A gradient that was expanded has fewer places than elements, and cannot hold the sum.
    if !super::mode::is_recording() && held.is_unique() && !held.array().layout().has_overlap() {
        held.add_(&grad)?;
        return Ok(held);
    }
    held.add(&grad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{apply::apply, Grads, Op, Saved};
    use std::sync::{Arc, Mutex};

    /// A sum that notes which gradients its rule was asked for.
    #[derive(Debug)]
    struct Probe(Arc<Mutex<Vec<[bool; 2]>>>);

    impl Op<2> for Probe {
        const NAME: &'static str = "probe";

        fn forward(&mut self, inputs: [&Array; 2]) -> Result<Array> {
            let [a, b] = inputs.map(|x| Tensor::constant(x.clone()));
            Ok(a.add(&b)?.array().clone())
        }

        fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
            self.0.lock().unwrap().push([saved.needs(0), saved.needs(1)]);
            Ok([Some(grad.clone()), Some(grad.clone())])
        }
    }

    fn leaf() -> Tensor {
        let x = Tensor::from_slice(&[1.0, 2.0], &[2]).unwrap();
        x.set_requires_grad(true).unwrap();
        x
    }

    /// What the probe of `a` and `b` is asked for in the run that `ask` makes from its result.
    fn asked(a: &Tensor, b: &Tensor, ask: impl FnOnce(&[Tensor])) -> [bool; 2] {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let out = apply(Probe(notes.clone()), [a, b]).unwrap().sum(&[], false).unwrap();
        ask(&[out]);
        let notes = notes.lock().unwrap();
        assert_eq!(notes.len(), 1);
        notes[0]
    }

    fn grad_of(x: &Tensor) -> impl FnOnce(&[Tensor]) + '_ {
        move |out| {
            let grads = grad(out, &[None], std::slice::from_ref(x), Options::default()).unwrap();
            assert!(grads[0].is_some());
        }
    }

    #[test]
    fn rules_are_asked_for_what_a_run_looks_for() {
        let all = |out: &[Tensor]| backward(out, &[None], None, Options::default()).unwrap();
        let (x, y) = (leaf(), leaf());
        assert_eq!(asked(&x, &y, all), [true, true]);
        assert_eq!(asked(&x, &y.detach(), all), [true, false]);
        assert_eq!(asked(&x, &y, grad_of(&x)), [true, false]);
        assert_eq!(asked(&x, &y, grad_of(&y)), [false, true]);
        assert_eq!(asked(&x, &(&x * &y), grad_of(&y)), [false, true]);
        assert_eq!(asked(&x, &(&x * &y), grad_of(&x)), [true, true]);
        let inputs = |out: &[Tensor]| {
            backward(out, &[None], Some(std::slice::from_ref(&y)), Options::default()).unwrap()
        };
        assert_eq!(asked(&x, &y, inputs), [false, true]);
        assert!(y.grad().is_some());
    }

    #[test]
    fn of_several_outputs_of_a_node_the_wanted_one_is_asked_for() {
        let x = leaf();
        let pieces = (&x * 2.0).unbind(0).unwrap();
        assert_eq!(asked(&pieces[0], &pieces[1], grad_of(&pieces[1])), [false, true]);
        assert_eq!(asked(&pieces[0], &pieces[1], grad_of(&x)), [true, true]);
    }
}
