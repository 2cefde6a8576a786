//! The backward passes that Python has begun, for hooks that ask what will come.

use crate::graph::walk;
use crate::node::PyNode;
use firesteel::autograd::{Edge, NodeRef};
use firesteel::Tensor;
use pyo3::prelude::*;
use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(0);
/// Whether there has ever been a hook that asks: until then nothing is noted.
static IS_ASKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Those of this thread, the innermost last.
    static PASSES: RefCell<Vec<Begun>> = const { RefCell::new(Vec::new()) };
}

/// An output of a node: its number, and which one.
type Place = (u64, usize);

fn place(edge: &Edge) -> Place {
    (edge.node.id(), edge.output)
}

struct Begun {
    number: u64,
    roots: Vec<Edge>,
    /// Where the tensors are whose gradients are looked for; none where every leaf is reached.
    targets: Option<Vec<Edge>>,
    visits: OnceCell<HashSet<Place>>,
}

/// A pass that has begun, and ends when this is dropped; whether it is noted.
pub struct Pass(bool);

impl Pass {
    /// A pass from `roots` to all leaves, or to `inputs` alone.
    pub fn begin(roots: &[Tensor], inputs: Option<&[Tensor]>) -> Self {
        if !IS_ASKED.load(Ordering::Relaxed) {
            return Self(false);
        }
        let edges = |tensors: &[Tensor]| tensors.iter().filter_map(|x| x.edge().ok().flatten()).collect();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (roots, targets) = (edges(roots), inputs.map(edges));
        PASSES.with_borrow_mut(|all| all.push(Begun { number, roots, targets, visits: OnceCell::new() }));
        Self(true)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let ended = if self.0 { PASSES.with_borrow_mut(Vec::pop) } else { None };
        drop(ended); // nodes may drop anything
    }
}

impl Begun {
    /// The outputs that gradients come to.
    fn visits(&self) -> &HashSet<Place> {
        self.visits.get_or_init(|| {
            let reached = walk(self.roots.iter().map(|edge| edge.node.clone()).collect(), usize::MAX);
            let leading = self
                .targets
                .as_ref()
                .map(|targets| leading_to(&reached, &targets.iter().map(|edge| edge.node.id()).collect()));
            let leads = |edge: &&Edge| leading.as_ref().is_none_or(|ids| ids.contains(&edge.node.id()));
            let sent = reached.iter().flat_map(|node| node.edges().iter().flatten());
            self.roots.iter().chain(sent).filter(leads).map(place).collect()
        })
    }
}

/// Ids of those of `nodes`, the newest of which comes first, that are in `ends` or lead to one of them.
pub fn leading_to(nodes: &[NodeRef], ends: &HashSet<u64>) -> HashSet<u64> {
    let mut found = HashSet::new();
    for node in nodes.iter().rev() {
        let leads = |edge: &Edge| found.contains(&edge.node.id());
        if ends.contains(&node.id()) || node.edges().iter().flatten().any(leads) {
            found.insert(node.id());
        }
    }
    found
}

/// Notes the passes from now on.
#[pyfunction]
fn _note_passes() {
    IS_ASKED.store(true, Ordering::Relaxed);
}

/// Numbers of the backward passes that run in this thread, the innermost last.
#[pyfunction]
fn _passes() -> Vec<u64> {
    PASSES.with_borrow(|all| all.iter().map(|begun| begun.number).collect())
}

/// Whether a gradient is to come to output `output` of `node` in the innermost backward pass of this thread.
#[pyfunction]
fn _pass_visits(node: &Bound<'_, PyNode>, output: usize) -> bool {
    let place = (node.get().node().id(), output);
    PASSES.with_borrow(|all| all.last().is_some_and(|begun| begun.visits().contains(&place)))
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_note_passes, m)?)?;
    m.add_function(wrap_pyfunction!(_passes, m)?)?;
    m.add_function(wrap_pyfunction!(_pass_visits, m)?)
}
