//! Where nodes were recorded, and what a backward pass says of the node at which it fails.

use super::{at, here, is_on, values, Anomalies, Place};
use crate::autograd::node::NodeRef;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Where a node was recorded.
#[derive(Debug)]
pub struct Origin {
    /// The line.
    pub place: Option<Place>,
    /// The node whose rule recorded it, in a backward pass that was recorded itself.
    during: Option<(String, Option<Arc<Origin>>)>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&at(self.place.as_ref()))?;
        let Some((name, origin)) = &self.during else { return Ok(()) };
        write!(f, "\n  in the backward of {name}")?;
        match origin {
            Some(origin) => write!(f, ", which was recorded{origin}"),
            None => Ok(()),
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
    let during = during.map(|node| (node.name(), node.origin().cloned()));
    node.set_origin(Arc::new(Origin { place: here(), during }));
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
}

impl Pass {
    /// A pass from `root`, which may free the graph.
    pub fn new(root: Option<NodeRef>, frees: bool) -> Self {
        let mode = Anomalies::current();
        let freed_by = root.as_ref().filter(|_| mode.enabled && frees);
        let freed_by = freed_by.map(|root| Arc::new(FreedBy { root: described(root), place: here() }));
        Self { root, mode, freed_by }
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
        self.mode.enabled.then(|| InRule::new(node))
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
        if !(self.mode.enabled && is_on()) && is_users {
            return error; // as it was raised
        }
        let origin = node.origin().map(|origin| format!(", recorded{origin}")).unwrap_or_default();
        let root = self.root.iter().filter(|root| !Arc::ptr_eq(root, node));
        let root = root.map(|root| format!(", reached from {}", described(root)));
        let mut text = format!("\n  at {}{}{origin}", described(node), root.collect::<String>());
        if let Some(FreedBy { root, place }) = node.freed_by() {
            text += &format!("\n  freed by the backward pass from {root}{}", at(place.as_ref()));
        }
        error.with_note(&text)
    }
}

fn described(node: &NodeRef) -> String {
    format!("{} of shape {:?}", node.name(), node.outputs()[0].shape.as_slice())
}

/// While it lives, a rule runs: nodes are recorded by it, and what operations give are gradients.
pub(crate) struct InRule {
    outer: Option<NodeRef>,
    _unchecked: values::Unchecked,
}

impl InRule {
    fn new(node: &NodeRef) -> Self {
        Self { outer: DURING.replace(Some(node.clone())), _unchecked: values::Unchecked::new() }
    }
}

impl Drop for InRule {
    fn drop(&mut self) {
        drop(DURING.replace(self.outer.take()));
    }
}
