//! The one place that every operation passes: compute, then record if a gradient may be asked for.

use super::anomaly::{self, Known};
use super::mode;
use super::node::{Backward, Edge, Edges, Meta, Node};
use super::op::{Op, Recorded};
use super::saved::{pack_kept, pack_set, SavedSet};
use crate::array::Array;
use crate::tensor::Tensor;
use crate::Result;
use smallvec::smallvec;

/// Runs `op` on `inputs` and records it when grad mode is on and an input requires a gradient.
#[inline]
pub fn apply<O: Op<N>, const N: usize>(op: O, inputs: [&Tensor; N]) -> Result<Tensor> {
    Ok(apply_and(op, inputs, |_| Ok(()))?.0)
}

/// The same for an operation whose forward leaves a second result in its fields, one without a gradient
/// (indices): `beside` takes it from there before the operation goes into the graph.
pub fn apply_and<O: Op<N>, B, const N: usize>(
    mut op: O,
    inputs: [&Tensor; N],
    beside: impl FnOnce(&O) -> Result<B>,
) -> Result<(Tensor, B)> {
    let is_noted = anomaly::is_on();
    let known = if is_noted { Known::before(&op, inputs)? } else { None };
    let output = op.forward(inputs.map(Tensor::array))?;
    if let Some(known) = known {
        known.check(op.called(), &[&output])?;
    }
    let beside = beside(&op)?;
    let needs = inputs.map(Tensor::requires_grad);
    let recording = mode::is_recording();
    let edge = if recording && needs.contains(&true) && output.dtype().is_float() {
        let mut saved = op.saves(needs).keep(O::NAME, inputs.map(Tensor::array), &output)?;
        if mode::has_saved_hooks() {
            saved.iter_mut().try_for_each(|set| pack_set(O::NAME, set, inputs))?;
            pack_kept(&op)?;
        }
        let edges = edges_of(inputs)?;
        Some(record(op, edges, saved, &output))
    } else {
        None
    };
    let out = match edge {
        edge if O::IS_VIEW => Tensor::view_of(inputs[0], output, edge, recording),
        Some(edge) => Tensor::with_edge(output, edge),
        None => Tensor::constant(output),
    };
    if is_noted {
        anomaly::check_interrupt()?;
    }
    Ok((out, beside))
}

/// Runs `body` with recording turned off.
pub(super) fn without_recording<T>(body: impl FnOnce() -> T) -> T {
    let _mode = mode::GradMode::disabled();
    body()
}

/// Where the gradients of an operation's inputs go.
#[inline]
pub(super) fn edges_of<const N: usize>(inputs: [&Tensor; N]) -> Result<Edges> {
    let mut edges = Edges::new();
    for input in inputs {
        edges.push(input.edge()?);
    }
    Ok(edges)
}

/// The node of an operation that has run: its edges and what it saved.
pub(super) fn record<O: Op<N>, const N: usize>(
    op: O,
    edges: Edges,
    saved: Option<SavedSet<N>>,
    output: &Array,
) -> Edge {
    Edge { node: Node::record(Recorded::new(op, saved), edges, smallvec![Meta::of(output)]), output: 0 }
}

/// Records an operation of any number of inputs and outputs that has run: the outputs share one node.
pub fn apply_many<O: Backward + 'static>(
    op: O,
    inputs: &[&Tensor],
    outputs: Vec<Array>,
) -> Result<Vec<Tensor>> {
    let is_noted = anomaly::is_on();
    if is_noted && !op.only_moves() {
        if let Some(known) = Known::of(inputs.iter().map(|x| x.array()))? {
            known.check(&op.name(), &outputs.iter().collect::<Vec<_>>())?;
        }
    }
    let recorded = mode::is_recording() && inputs.iter().any(|x| x.requires_grad());
    if !recorded || !outputs.iter().all(|out| out.dtype().is_float()) {
        return Ok(outputs.into_iter().map(Tensor::constant).collect());
    }
    let edges = inputs.iter().map(|x| x.edge()).collect::<Result<Edges>>()?;
    let node = Node::record(op, edges, outputs.iter().map(Meta::of).collect());
    let link = |(i, out)| Tensor::with_edge(out, Edge { node: node.clone(), output: i });
    let outputs = outputs.into_iter().enumerate().map(link).collect();
    if is_noted {
        anomaly::check_interrupt()?;
    }
    Ok(outputs)
}
