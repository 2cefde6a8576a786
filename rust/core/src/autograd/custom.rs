//! Operations that live outside the crate: recorded from their results, whatever computed these.

use super::anomaly::{self, Known};
use super::hooks::note_kept;
use super::inplace::{check_not_leaf, rebase};
use super::mode;
use super::node::{Backward, Edge, Edges, Meta, Node, NodeRef};
use crate::tensor::Tensor;
use crate::Result;

/// How an output of a custom operation came about.
#[derive(Debug, Clone)]
pub enum Produced {
    /// A new tensor, made while nothing was recorded.
    New(Tensor),
    /// One of the inputs, unchanged, or a tensor with a history of its own: the output is another tensor of
    /// the same memory.
    Same(Tensor),
    /// An input that was written in place.
    Written(Tensor),
    /// A tensor through which no gradient flows. Of an input the output is another tensor.
    Constant(Tensor),
}

impl Produced {
    /// The tensor as the operation gave it.
    pub fn tensor(&self) -> &Tensor {
        match self {
            Self::New(x) | Self::Same(x) | Self::Written(x) | Self::Constant(x) => x,
        }
    }

    /// Makes it the output that callers get, whose gradient goes along `edge`.
    fn finish(self, op: &str, inputs: &[Tensor], edge: Option<Edge>) -> Tensor {
        let edge = edge.filter(|_| self.tensor().dtype().is_float());
        match (self, edge) {
            (Self::New(x), Some(edge)) => {
                let is_shared = x.is_shared_view();
                if x.is_view() {
                    x.forget_base();
                }
                x.set_history(edge);
                if is_shared {
                    x.set_custom_view();
                }
                x
            }
            (Self::Same(x), Some(edge)) => {
                let same = Tensor::with_edge(x.array().clone(), edge);
                same.set_custom_view();
                same
            }
            (Self::Same(x), None) => {
                let same = x.detach();
                same.set_view_of(&x, mode::is_recording());
                same
            }
            (Self::Written(x), edge) => {
                anomaly::count_write(x.array(), op);
                if let Some(edge) = edge {
                    rebase(&x, edge);
                }
                x
            }
            (Self::Constant(x), _) => {
                let has_another_life = x.requires_grad() || inputs.iter().any(|input| input.is_same(&x));
                if has_another_life {
                    x.detach()
                } else {
                    x
                }
            }
            (Self::New(x), None) => x,
        }
    }
}

/// Records a custom operation that has run, if grad mode is on and an input requires a gradient: the outputs,
/// and the node that all of them share. `op` makes the operation's side of the node.
///
/// An output that is a view, of an input or of another output, cannot be written, nor be used any more once its
/// memory was: the rule would know nothing of the write.
pub fn record_custom<O: Backward + 'static>(
    name: &str,
    inputs: &[Tensor],
    outputs: Vec<Produced>,
    op: impl FnOnce() -> O,
) -> Result<(Vec<Tensor>, Option<NodeRef>)> {
    let is_recorded = mode::is_recording() && inputs.iter().any(Tensor::requires_grad);
    for output in &outputs {
        if let Produced::Written(x) = output {
            check_not_leaf(name, x, is_recorded)?;
        }
    }
    let checked = if anomaly::is_on() { check_made(name, inputs, &outputs) } else { Ok(()) };
    let mut node = None;
    if is_recorded {
        let edges = inputs.iter().map(Tensor::edge).collect::<Result<Edges>>()?;
        let outputs = outputs.iter().map(|output| Meta::of(output.tensor().array())).collect();
        note_kept();
        node = Some(Node::record(op(), edges, outputs));
    }
    let finish = |(index, output): (usize, Produced)| {
        let edge = node.as_ref().map(|node| Edge { node: node.clone(), output: index });
        output.finish(name, inputs, edge)
    };
    let outputs = outputs.into_iter().enumerate().map(finish).collect();
    checked?; // not before: what was written has its history
    if anomaly::is_on() {
        anomaly::check_interrupt()?;
    }
    Ok((outputs, node))
}

/// Looks at the values of what an operation has made.
fn check_made(name: &str, inputs: &[Tensor], outputs: &[Produced]) -> Result<()> {
    let made = |output: &&Produced| matches!(output, Produced::New(_) | Produced::Constant(_));
    let made: Vec<_> = outputs.iter().filter(made).map(|output| output.tensor().array()).collect();
    match Known::of(inputs.iter().map(Tensor::array))? {
        Some(known) => known.check(name.strip_suffix("Backward").unwrap_or(name), &made),
        None => Ok(()),
    }
}
