//! The backward pass: newest node first, because creation order is a topological order.

use super::anomaly::{self, Pass};
use super::arrivals::Arrivals;
use super::mode::GradMode;
use super::nested::Nested;
use super::node::{Edge, InputGrads, Needs, NodeRef, OutputGrads};
use super::search::Search;
use crate::array::Array;
use crate::layout::same;
use crate::tensor::Tensor;
use crate::{bail, ensure, Error, Result};
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
            if let Some(edge) = input.edge()?.filter(|_| input.is_leaf()) {
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
pub(super) const WORK_PER_CHECK: usize = 1 << 16;

/// Sets what the engine calls now and then to learn of an interrupt (Ctrl-C).
pub fn set_interrupt_check(check: InterruptCheck) {
    let _ = INTERRUPT_CHECK.set(check);
}

pub(super) fn check_interrupt() -> Result<()> {
    INTERRUPT_CHECK.get().map_or(Ok(()), |check| check())
}

/// One walk through the graph.
struct Run {
    options: Options,
    /// The walk as messages speak of it.
    pass: Pass,
    arrivals: Arrivals,
    /// With inputs given: whose gradients are looked for.
    search: Option<Search>,
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
        let search =
            inputs.map(|inputs| Search::new(op, starts.iter().map(|(edge, _)| edge), inputs)).transpose()?;
        let mut run = Self { options, pass, arrivals: Arrivals::new(), search };
        for (edge, grad) in starts {
            run.deliver(&edge, Some(grad))?;
        }
        Ok(run)
    }

    fn walk(&mut self) -> Result<()> {
        let _nested = Nested::enter(self.search.is_some())?;
        let mut work = 0;
        while let Some((node, grads)) = self.arrivals.pop() {
            work += match self.step(&node, grads) {
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
    fn step(&mut self, node: &NodeRef, mut grads: OutputGrads) -> Result<usize> {
        node.run_hooks(&mut grads)?;
        if self.search.as_mut().is_some_and(|search| !search.arrive(node, &grads)) {
            return Ok(0);
        }
        let work = 64 + grads.iter().flatten().map(Tensor::numel).sum::<usize>();
        node.run_prehooks(&mut grads)?;
        let results = self.results(node, grads)?;
        if !self.options.retain_graph {
            node.op().free();
            self.pass.note_freed(node);
        }
        // Also nodes that no gradient comes to have their turn: hooks are told, and what was saved is freed.
        let mut results = results.into_iter();
        for edge in node.edges() {
            let grad = results.next().flatten();
            if let Some(edge) = edge {
                self.deliver(edge, grad)?;
            }
        }
        Ok(work)
    }

    /// What the rule of `node` makes of the gradients of its outputs, and the hooks of that.
    fn results(&self, node: &NodeRef, grads: OutputGrads) -> Result<InputGrads> {
        let _in_rule = self.pass.enter(node);
        let wanted = self.search.as_ref().map(|search| search.wanted_inputs(node));
        let has_posthooks = node.has_posthooks();
        // The rule may take what was saved where it is freed anyway, and nothing looks at it, or fails, before that:
        // neither hooks, nor the look for nan, nor what is tied to a gradient that is recorded.
        let Options { retain_graph, create_graph } = self.options;
        let is_last = !retain_graph && !create_graph && !has_posthooks && !anomaly::is_on();
        let needs = Needs::new(node, wanted.as_deref(), is_last);
        if !has_posthooks {
            let results = call_rule(node, needs, grads)?;
            self.pass.check(node, &results)?;
            return Ok(results);
        }
        let mut results = fitted(node, call_rule(node, needs, grads.clone())?)?;
        self.pass.check(node, &results)?;
        node.run_posthooks(&mut results, &grads)?;
        Ok(results)
    }

    /// Sends a gradient, or word that there is none, to the node that made the tensor, fitted to the tensor's
    /// shape and dtype.
    fn deliver(&mut self, edge: &Edge, grad: Option<Tensor>) -> Result<()> {
        if self.search.as_ref().is_some_and(|search| !search.wants(edge)) {
            return Ok(());
        }
        let grad = grad.map(|grad| fit(edge, grad)).transpose()?;
        self.arrivals.add(edge, grad, add)
    }

    fn take_captured(&mut self) -> Vec<Option<Tensor>> {
        self.search.as_mut().map(Search::take_captured).unwrap_or_default()
    }
}

/// Where the gradient of root number `i` enters the graph, and that gradient.
fn start_of((op, i): (&str, usize), root: &Tensor, grad: Option<&Tensor>) -> Result<(Edge, Tensor)> {
    let Some(edge) = root.edge()? else {
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
    let grad = if same(grad.shape(), &meta.shape) { grad } else { grad.sum_to_size(&meta.shape)? };
    if grad.dtype() == meta.dtype {
        Ok(grad)
    } else {
        grad.to_dtype(meta.dtype)
    }
}

/// What a rule gave as the inputs look: hooks see gradients as they will be sent on.
fn fitted(node: &NodeRef, grads: InputGrads) -> Result<InputGrads> {
    let mut grads = grads.into_iter();
    let fitted = |edge: &Option<Edge>| match (grads.next().flatten(), edge) {
        (Some(grad), Some(edge)) => fit(edge, grad).map(Some),
        _ => Ok(None),
    };
    node.edges().iter().map(fitted).collect()
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
