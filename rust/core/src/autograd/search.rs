//! Backward passes that look for the gradients of some tensors: which nodes lead to them, and what was found.

use super::engine::{check_interrupt, WORK_PER_CHECK};
use super::node::{Edge, NodeRef, OutputGrads};
use crate::tensor::Tensor;
use crate::{bail, Result};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// Names an output of a node: the node's number, and which of its outputs.
type OutputName = (u64, usize);

fn name(edge: &Edge) -> OutputName {
    (edge.node.id(), edge.output)
}

/// Why a node matters.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    /// One of the inputs is an output of it.
    is_target: bool,
    /// One of the inputs lies further down.
    leads: bool,
}

/// What a pass looks for, and has found.
pub(super) struct Search {
    nodes: HashMap<u64, Wanted>,
    found: HashMap<OutputName, Tensor>,
    /// Edges of the inputs: they keep the inputs' nodes, and with them the ids, alive.
    targets: Vec<Edge>,
    /// The same as names.
    names: HashSet<OutputName>,
}

impl Search {
    /// For the gradients of `inputs`, from `roots` on, as `op` asks.
    pub fn new<'a>(op: &str, roots: impl Iterator<Item = &'a Edge>, inputs: &[Tensor]) -> Result<Self> {
        let targets = inputs.iter().enumerate().map(|input| target(op, input)).collect::<Result<Vec<_>>>()?;
        let nodes = nodes_towards(roots, &targets)?;
        Ok(Self { nodes, found: HashMap::new(), names: targets.iter().map(name).collect(), targets })
    }

    /// Keeps those of the gradients that arrived at `node` that are looked for; whether others lie further down.
    pub fn arrive(&mut self, node: &NodeRef, grads: &OutputGrads) -> bool {
        let Some(wanted) = self.nodes.get(&node.id()) else { return true };
        if wanted.is_target {
            let arrived = grads.iter().enumerate();
            let found = arrived.filter_map(|(output, grad)| Some(((node.id(), output), grad.clone()?)));
            self.found.extend(found);
        }
        wanted.leads
    }

    /// Whether a gradient sent along `edge` leads to one that is looked for, or is one.
    pub fn wants(&self, edge: &Edge) -> bool {
        self.nodes.get(&edge.node.id()).is_some_and(|node| {
            // A target's node has perhaps other outputs than the target.
            node.leads || edge.node.outputs().len() == 1 || self.names.contains(&name(edge))
        })
    }

    /// For which edges of `node` the rule is to be asked.
    pub fn wanted_inputs(&self, node: &NodeRef) -> SmallVec<[bool; 4]> {
        let is_wanted = |edge: &Option<Edge>| edge.as_ref().is_some_and(|edge| self.wants(edge));
        node.edges().iter().map(is_wanted).collect()
    }

    /// What was found, for each of the inputs.
    pub fn take_captured(&mut self) -> Vec<Option<Tensor>> {
        // What is returned is held by nobody else then, unless it was asked for twice.
        let found = std::mem::take(&mut self.found);
        self.targets.iter().map(|edge| found.get(&name(edge)).cloned()).collect()
    }
}

/// Where the gradient of input number `i`, which is looked for, arrives.
fn target(op: &str, (i, input): (usize, &Tensor)) -> Result<Edge> {
    match input.edge()? {
        Some(edge) => Ok(edge),
        None => bail!(
            Autograd,
            "{op}: One of the differentiated Tensors does not require grad: input {i} of shape {:?}; set \
             requires_grad=True on it before it is used",
            input.shape()
        ),
    }
}

/// The nodes of `targets`, and those from which one of them can be reached.
fn nodes_towards<'a>(
    roots: impl Iterator<Item = &'a Edge>,
    targets: &[Edge],
) -> Result<HashMap<u64, Wanted>> {
    let target = |edge: &Edge| (edge.node.id(), Wanted { is_target: true, leads: false });
    let mut wanted: HashMap<u64, Wanted> = targets.iter().map(target).collect();
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
