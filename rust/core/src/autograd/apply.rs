//! The one place that every operation passes: compute, then record if a gradient may be asked for.

use super::anomaly::{self, Known};
use super::mode;
use super::node::{Backward, Edge, Edges, Meta, NewNode, Node};
use super::op::{Op, Recorded};
use crate::array::Array;
use crate::tensor::Tensor;
use crate::Result;

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
        Some(record(op, inputs, needs, &output)?)
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

/// The node of an operation that has run: its edges and what it saves, each written where it stays. Gathered first and
/// moved, they waited for the stores just before them, an eighth of the time of a recorded `x * y` of one element.
#[inline]
fn record<O: Op<N>, const N: usize>(
    op: O,
    inputs: [&Tensor; N],
    needs: [bool; N],
    output: &Array,
) -> Result<Edge> {
    let saves = op.saves(needs);
    let mut new = NewNode::begin(Recorded::new(op, None));
    let node = new.parts();
    node.outputs.push(Meta::of(output));
    node.op.save(saves, inputs, output)?;
    for input in inputs {
        input.push_edge(node.edges)?;
    }
    Ok(Edge { node: new.finish(), output: 0 })
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
