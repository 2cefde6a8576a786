//! Where nodes were recorded, and what a backward pass says of the node at which it fails.

use super::values::{self, Unchecked};
use super::{at, check_interrupt, here, is_on, Anomalies, Place};
use crate::autograd::node::NodeRef;
use crate::autograd::saved::freed_error;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result};
use std::cell::RefCell;
use std::fmt;
use std::iter::successors;
use std::sync::Arc;

/// Where a node was recorded.
pub struct Origin {
    /// The line.
    pub place: Option<Place>,
    during: Option<During>,
}

/// The node whose rule recorded a node, in a backward pass that was recorded itself.
struct During {
    name: String,
    origin: Option<Arc<Origin>>,
}

impl During {
    /// The node whose rule recorded that node.
    fn outer(&self) -> Option<&During> {
        self.origin.as_ref()?.during.as_ref()
    }
}

/// Rules that messages name: each derivative of a derivative adds one.
const SHOWN: usize = 4;

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&at(self.place.as_ref()))?;
        let mut rules = successors(self.during.as_ref(), |during| during.outer());
        for During { name, origin } in rules.by_ref().take(SHOWN) {
            write!(f, "\n  in the backward of {name}")?;
            if let Some(origin) = origin {
                write!(f, ", which was recorded{}", at(origin.place.as_ref()))?;
            }
        }
        match rules.count() {
            0 => Ok(()),
            more => write!(f, "\n  ... and {more} more"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// Each derivative of a derivative makes the chain longer: it is freed in a loop.
impl Drop for Origin {
    fn drop(&mut self) {
        let take = |origin: &mut Origin| origin.during.take()?.origin;
        let mut next = take(self);
        while let Some(origin) = next {
            next = Arc::into_inner(origin).and_then(|mut origin| take(&mut origin));
        }
    }
}

thread_local! {
    /// The node whose rule runs.
    static DURING: RefCell<Option<NodeRef>> = const { RefCell::new(None) };
}

/// Notes where `node` is recorded.
#[cold]
pub(crate) fn note_origin(node: &NodeRef) {
    let during = DURING.with_borrow(Clone::clone);
    let during = during.map(|node| During { name: node.name(), origin: node.origin().cloned() });
    node.set_origin(Arc::new(Origin { place: here(), during }));
}

/// `error` of reading what `node` has saved, with the line that saved it: for bindings, whose own operations
/// read it themselves.
#[cold]
pub fn saved_at(error: Error, node: &NodeRef) -> Error {
    if !is_on() || error.kind() == Kind::External {
        return error;
    }
    error.with_note(&format!("\n  saved by {}{}", node.name(), recorded(node)))
}

/// The error of reading what `node` has saved after it was freed, with the line that freed it: for the same.
pub fn freed_at(error: Error, node: &NodeRef) -> Error {
    if is_on() {
        error.with_note(&freed(node))
    } else {
        error
    }
}

/// What freed `node`.
fn freed(node: &NodeRef) -> String {
    match node.freed_by() {
        Some(FreedBy { root, place }) => {
            format!("\n  freed by the backward pass from {root}{}", at(place.as_ref()))
        }
        None => "\n  freed by a backward pass that ran while anomaly mode was off".into(),
    }
}

/// `, recorded at File ...`, or why that is not known.
fn recorded(node: &NodeRef) -> String {
    match node.origin() {
        Some(origin) if origin.place.is_none() && origin.during.is_none() => String::new(),
        Some(origin) => format!(", recorded{origin}"),
        None if node.edges().is_empty() => String::new(), // a leaf
        None => ", recorded while anomaly mode was off: turn it on before the forward to see the line".into(),
    }
}

/// What a node remembers of the backward pass that freed it.
#[derive(Debug)]
pub(crate) struct FreedBy {
    root: String,
    place: Option<Place>,
}

/// One backward pass, as messages speak of it.
pub(crate) struct Pass {
    /// Where it starts: the first of the tensors, if there is one.
    root: Option<NodeRef>,
    mode: Anomalies,
    freed_by: Option<Arc<FreedBy>>,
    /// What the engine and its hooks compute are gradients.
    _unchecked: Option<Unchecked>,
}

impl Pass {
    /// A pass from `root`, which may free the graph.
    pub fn new(root: Option<NodeRef>, frees: bool) -> Result<Self> {
        let mode = Anomalies::current();
        let freed_by = root.as_ref().filter(|_| mode.enabled && frees);
        let freed_by = freed_by.map(|root| Arc::new(FreedBy { root: described(root), place: here() }));
        if mode.enabled {
            check_interrupt()?;
        }
        Ok(Self { root, mode, freed_by, _unchecked: mode.enabled.then(Unchecked::new) })
    }

    /// Notes that `node` is freed.
    #[inline]
    pub fn note_freed(&self, node: &NodeRef) {
        if let Some(freed_by) = &self.freed_by {
            node.set_freed_by(freed_by.clone());
        }
    }

    /// Until it is dropped, nodes are recorded by the rule of `node`.
    #[inline]
    pub fn enter(&self, node: &NodeRef) -> Option<InRule> {
        self.mode.enabled.then(|| InRule(DURING.replace(Some(node.clone()))))
    }

    /// An error if one of the gradients that `node`'s rule gave holds NaN.
    #[inline]
    pub fn check(&self, node: &NodeRef, results: &[Option<Tensor>]) -> Result<()> {
        if self.mode.enabled && self.mode.check_nan {
            values::check_gradients(&node.name(), results)?;
        }
        Ok(())
    }

    /// `error` with what is known of `node`, at which the pass failed.
    #[cold]
    pub fn explain(&self, error: Error, node: &NodeRef) -> Error {
        let is_users = error.kind() == Kind::External;
        let is_on = self.mode.enabled && is_on();
        if !is_on && is_users {
            return error; // as it was raised
        }
        let origin = if is_on { recorded(node) } else { String::new() };
        let root = self.root.iter().filter(|root| !root.is_same(node));
        let root = root.map(|root| format!(", reached from {}", described(root)));
        let mut text = format!("\n  at {}{}{origin}", described(node), root.collect::<String>());
        if is_on && error.message() == freed_error().message() {
            text += &freed(node);
        }
        error.with_note(&text)
    }
}

fn described(node: &NodeRef) -> String {
    format!("{} of shape {:?}", node.name(), node.outputs()[0].shape.as_slice())
}

/// While it lives, a rule runs: nodes are recorded by it. It holds the node whose rule runs around it.
pub(crate) struct InRule(Option<NodeRef>);

impl Drop for InRule {
    fn drop(&mut self) {
        drop(DURING.replace(self.0.take()));
    }
}
