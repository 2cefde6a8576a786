//! Histories that carry no gradient: PyTorch's rules record all that they are given, and what is drawn at random
//! knows from what. A derivative asked of such a result is zeros, or None, and no error.

use super::apply::apply;
use super::mode;
use super::node::{Backward, Edge, Edges, InputGrads, Meta, Needs, Node, NodeRef, OutputGrads};
use super::op::{Grads, Op, Saved};
use crate::array::Array;
use crate::tensor::Tensor;
use crate::Result;
use smallvec::smallvec;

/// Of how many of an operation's inputs, the first ones, its recorded gradients are functions as well, besides
/// those that they are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// Of none.
    Nothing,
    /// Where a gradient would have no history: its own gradients are None.
    Unused(usize),
    /// The same for the gradients of these inputs; those of the others are functions of nothing more.
    UnusedOfThese(usize),
    /// Of so many, and its own gradients are zeros.
    Zeros(usize),
}

/// Passes a gradient on to its first input, if `passes`; the others get zeros or nothing.
#[derive(Debug)]
struct Tied {
    name: String,
    passes: bool,
    zeros: bool,
}

impl Backward for Tied {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn only_moves(&self) -> bool {
        true
    }

    fn backward(&self, node: &NodeRef, needs: Needs<'_>, mut grads: OutputGrads) -> Result<InputGrads> {
        let Some(grad) = grads.pop().flatten() else { return Ok(InputGrads::new()) };
        let zeros = |(i, edge): (usize, &Option<Edge>)| {
            let edge = edge.as_ref().filter(|_| self.zeros && needs.of(i));
            edge.map(|edge| Tensor::zeros(&edge.meta().shape, edge.meta().dtype)).transpose()
        };
        let mut results = node.edges().iter().enumerate().map(zeros).collect::<Result<InputGrads>>()?;
        if self.passes {
            results[0] = Some(grad);
        }
        Ok(results)
    }
}

impl Tied {
    fn record(self, edges: Edges, value: &Array) -> Tensor {
        let node = Node::record(self, edges, smallvec![Meta::of(value)]);
        Tensor::with_edge(value.clone(), Edge { node, output: 0 })
    }
}

/// What the rule of `node` gave, as functions of the inputs that `ties` names.
pub(super) fn tie(ties: Ties, node: &NodeRef, grads: InputGrads) -> Result<InputGrads> {
    let (count, zeros, of_all) = match ties {
        Ties::Unused(count) => (count, false, true),
        Ties::UnusedOfThese(count) => (count, false, false),
        Ties::Zeros(count) => (count, true, true),
        Ties::Nothing => return Ok(grads),
    };
    let inputs = &node.edges()[..count];
    if !mode::is_recording() || inputs.iter().all(Option::is_none) {
        return Ok(grads);
    }
    let tied = |i: usize, grad: Tensor| {
        if (grad.requires_grad() && !zeros) || (i >= count && !of_all) {
            return Ok(grad);
        }
        let mut edges: Edges = smallvec![grad.edge()?];
        edges.extend(inputs.iter().cloned());
        let name = node.name().trim_end_matches('0').to_string() + "Backward0";
        Ok(Tied { name, passes: true, zeros }.record(edges, grad.array()))
    };
    grads.into_iter().enumerate().map(|(i, grad)| grad.map(|grad| tied(i, grad)).transpose()).collect()
}

/// The tensor itself for a formula of several operations whose gradients have such ties.
#[derive(Debug)]
struct Alias(Ties);

impl Op<1> for Alias {
    const NAME: &'static str = "alias";

    fn only_moves(&self) -> bool {
        true
    }

    fn ties(&self) -> Ties {
        self.0
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(x.clone())
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad.clone())])
    }
}

impl Tensor {
    /// This tensor for a formula that is one operation in PyTorch: its gradient, recorded, is tied to it. It may
    /// neither be written nor given away.
    pub fn tied(&self, ties: Ties) -> Result<Tensor> {
        if mode::is_recording() && self.requires_grad() {
            apply(Alias(ties), [self])
        } else {
            Ok(self.clone())
        }
    }

    /// A result that was drawn at random from `sources`, whose gradients are zeros; `node` is its node's name.
    pub fn drawn(self, node: &str, sources: &[&Tensor]) -> Result<Tensor> {
        if !mode::is_recording() || !sources.iter().any(|x| x.requires_grad()) {
            return Ok(self);
        }
        let edges = sources.iter().map(|x| x.edge()).collect::<Result<Edges>>()?;
        let tied = Tied { name: node.into(), passes: false, zeros: true };
        Ok(tied.record(edges, self.array()))
    }
}
