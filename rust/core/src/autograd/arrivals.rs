//! Gradients that have arrived in one backward pass, and which node is next: the newest, because creation order is
//! a topological order.
//!
//! A node has a mark that tells where its gradients wait in the pass that marked it last. That takes no lock and no
//! table, but has room for one pass: the one that was alone when it began. Passes that begin before it ends, of other
//! threads or inside of it, go by a table and leave the marks alone.

use super::node::{next_id, Edge, NodeRef, OutputGrads};
use crate::tensor::Tensor;
use crate::Result;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};

/// Passes that have begun and not ended.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Which pass marked the node last, 0 for none, and where its gradients waited there.
#[derive(Debug, Default)]
pub(super) struct Mark {
    pass: AtomicU64,
    at: AtomicUsize,
}

/// A node whose turn will come.
struct Waiting {
    node: NodeRef,
    grads: OutputGrads,
}

/// What has arrived in one pass and has not been sent on.
pub(super) struct Arrivals {
    pass: u64,
    /// Nodes, and places that are vacant.
    places: Vec<Option<Waiting>>,
    vacant: Vec<usize>,
    /// Numbers of nodes, and their places.
    order: BinaryHeap<(u64, usize)>,
    /// The same by number, for a pass that was not alone when it began.
    table: Option<HashMap<u64, usize>>,
}

impl Arrivals {
    pub fn new() -> Self {
        Self::beside(ACTIVE.fetch_add(1, AcqRel))
    }

    /// Of a pass that began while so many others were active.
    fn beside(others: usize) -> Self {
        let is_alone = others == 0;
        Self {
            // One of the numbers of nodes, so that there is a gap in them: `firesteel.graph.find_leaks` takes that for
            // the sign of a pass.
            pass: next_id(),
            places: Vec::new(),
            vacant: Vec::new(),
            order: BinaryHeap::new(),
            table: (!is_alone).then(HashMap::new),
        }
    }

    /// Adds a gradient of the tensor that `edge` stands for, or notes that there is none.
    pub fn add(
        &mut self,
        edge: &Edge,
        grad: Option<Tensor>,
        sum: impl FnOnce(Tensor, Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let Some(waiting) = self.find(&edge.node) else {
            let mut grads = OutputGrads::new();
            grads.resize(edge.node.outputs().len(), None);
            grads[edge.output] = grad;
            self.insert(Waiting { node: edge.node.clone(), grads });
            return Ok(());
        };
        let Some(grad) = grad else { return Ok(()) };
        let place = &mut waiting.grads[edge.output];
        *place = Some(match place.take() {
            Some(held) => sum(held, grad)?,
            None => grad,
        });
        Ok(())
    }

    /// The newest node, and the gradients of its outputs.
    pub fn pop(&mut self) -> Option<(NodeRef, OutputGrads)> {
        let (id, at) = self.order.pop()?;
        let Waiting { node, grads } = self.places[at].take()?;
        self.vacant.push(at);
        if let Some(table) = &mut self.table {
            table.remove(&id);
        }
        Some((node, grads))
    }

    fn find(&mut self, node: &NodeRef) -> Option<&mut Waiting> {
        let at = match &self.table {
            Some(table) => *table.get(&node.id())?,
            None if node.mark().pass.load(Relaxed) == self.pass => node.mark().at.load(Relaxed),
            None => return None,
        };
        let waiting = self.places.get_mut(at)?.as_mut()?;
        // A place may have been given to another node since; a look at it costs little beside the heap.
        (waiting.node.id() == node.id()).then_some(waiting)
    }

    fn insert(&mut self, waiting: Waiting) {
        let (id, at) = (waiting.node.id(), self.vacant.pop().unwrap_or(self.places.len()));
        match &mut self.table {
            Some(table) => {
                table.insert(id, at);
            }
            None => {
                let mark = waiting.node.mark();
                mark.at.store(at, Relaxed);
                mark.pass.store(self.pass, Relaxed);
            }
        }
        self.order.push((id, at));
        if at == self.places.len() {
            self.places.push(Some(waiting));
        } else {
            self.places[at] = Some(waiting);
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a pass that is alone, whatever other tests do meanwhile; or beside another one.
    fn alone() -> Arrivals {
        ACTIVE.fetch_add(1, AcqRel);
        Arrivals::beside(0)
    }

    fn beside_one() -> Arrivals {
        ACTIVE.fetch_add(1, AcqRel);
        Arrivals::beside(1)
    }

    fn leaf() -> Edge {
        let x = Tensor::from_slice(&[0.0f32], &[1]).unwrap();
        x.set_requires_grad(true).unwrap();
        x.edge().unwrap().unwrap()
    }

    fn send(arrivals: &mut Arrivals, edge: &Edge, grad: Option<f32>) {
        let grad = grad.map(|grad| Tensor::from_slice(&[grad], &[1]).unwrap());
        arrivals.add(edge, grad, |a, b| a.add(&b)).unwrap();
    }

    fn expect(arrivals: &mut Arrivals, edge: &Edge, grad: Option<f64>) {
        let (node, grads) = arrivals.pop().unwrap();
        assert_eq!(node.id(), edge.node.id());
        assert_eq!(grads[0].as_ref().map(|grad| grad.array().item_f64().unwrap()), grad);
    }

    #[test]
    fn passes_that_meet_at_nodes_do_not_mix() {
        let (x, y, z) = (leaf(), leaf(), leaf());
        let mut outer = alone();
        send(&mut outer, &x, Some(1.0));
        send(&mut outer, &y, None);
        let mut inner = beside_one();
        for edge in [&x, &y, &z] {
            send(&mut inner, edge, Some(10.0));
        }
        send(&mut outer, &x, Some(2.0));
        send(&mut outer, &z, Some(3.0));
        send(&mut inner, &x, Some(20.0));
        expect(&mut inner, &z, Some(10.0));
        send(&mut outer, &y, None);
        expect(&mut outer, &z, Some(3.0));
        expect(&mut outer, &y, None);
        expect(&mut inner, &y, Some(10.0));
        expect(&mut inner, &x, Some(30.0));
        assert!(inner.pop().is_none());
        expect(&mut outer, &x, Some(3.0));
        assert!(outer.pop().is_none());
    }

    #[test]
    fn what_a_failed_pass_left_is_not_found_by_the_next() {
        let x = leaf();
        send(&mut alone(), &x, Some(1.0));
        let mut next = alone();
        send(&mut next, &x, Some(2.0));
        expect(&mut next, &x, Some(2.0));
    }

    #[test]
    fn places_are_used_again() {
        let mut arrivals = alone();
        for _ in 0..100 {
            let x = leaf();
            send(&mut arrivals, &x, Some(1.0));
            expect(&mut arrivals, &x, Some(1.0));
        }
        assert_eq!(arrivals.places.len(), 1);
    }

    #[test]
    fn a_place_that_another_node_has_by_now_is_not_found() {
        let (x, y) = (leaf(), leaf());
        let mut arrivals = alone();
        send(&mut arrivals, &x, Some(1.0));
        expect(&mut arrivals, &x, Some(1.0));
        send(&mut arrivals, &y, Some(2.0));
        send(&mut arrivals, &x, Some(3.0));
        expect(&mut arrivals, &y, Some(2.0));
        expect(&mut arrivals, &x, Some(3.0));
    }
}
