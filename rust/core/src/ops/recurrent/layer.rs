//! One direction of a recurrent layer over a whole sequence, as one operation.

use super::{compose, with_width, Cell, Weights};
use crate::array::Array;
use crate::autograd::node::{Backward, InputGrads, OutputGrads};
use crate::autograd::saved::SavedArray;
use crate::autograd::{apply_many, freed_error, grad, is_recording, Kept, Needs, NodeRef, Options};
use crate::kernels::matmul::matmul;
use crate::kernels::recurrent::{self, Step};
use crate::layout::{Dims, Layout, Strides};
use crate::ops::promote::compute_dtype;
use crate::tensor::Tensor;
use crate::{dispatch_float, DType, Result};
use std::any::Any;

/// From so many rows in a batch on the input is multiplied in chunks, by the thread that has the rows; with fewer all
/// threads do that together first.
const CHUNKED_FROM: usize = 8;

/// The recorded layer. Its inputs are the sequence, the states before it, the two weights, and the biases if any.
#[derive(Debug)]
pub(super) struct Layer {
    cell: Cell,
    steps: Vec<Step>,
    inputs: Vec<Kept>,
    /// What the gradient reads of the forward pass, in the dtype that kernels compute in.
    gates: Kept,
    before: Kept,
    extra: Kept,
}

/// A matrix for the kernels: contiguous, in the dtype that they compute in.
fn ready(x: &Tensor) -> Result<Array> {
    x.array().to_dtype(compute_dtype(x.dtype()))?.into_contiguous()
}

/// The same as a copy, to be written.
fn own(x: &Array, dtype: DType) -> Result<Array> {
    let out = Array::empty(x.shape(), dtype)?;
    out.copy_from(x)?;
    Ok(out)
}

/// A contiguous array as rows of its last extent.
fn flat(x: Array) -> Array {
    let width = x.shape()[x.rank() - 1];
    let rows = x.shape()[..x.rank() - 1].iter().product();
    let (strides, offset) = (Strides::from_slice(&[width as isize, 1]), x.layout().offset());
    x.into_layout(Layout::new(Dims::from_slice(&[rows, width]), strides, offset))
}

/// An array without elements.
fn none(dtype: DType) -> Result<Array> {
    Array::empty(&[0], dtype)
}

/// Results of a forward pass: those of the layer, and what the gradient reads beside.
struct Results {
    outputs: Vec<Array>,
    kept: [Array; 3],
}

impl Layer {
    /// The output, and the states after the last step.
    pub fn apply(
        cell: Cell,
        x: &Tensor,
        states: &[Tensor],
        weights: &Weights<'_>,
        steps: Vec<Step>,
    ) -> Result<Vec<Tensor>> {
        let mut inputs = vec![x];
        inputs.extend(states);
        inputs.extend([weights.input, weights.hidden]);
        inputs.extend(weights.biases.into_iter().flatten());
        let dtype = compute_dtype(x.dtype());
        let is_recorded = is_recording() && inputs.iter().any(|x| x.requires_grad());
        let Results { outputs, kept } = dispatch_float!(dtype, cell.op(), T => {
            forward::<T>(cell, x, states, weights, &steps, is_recorded)?
        });
        let outputs = outputs.into_iter().map(|out| out.to_dtype(x.dtype())).collect::<Result<Vec<_>>>()?;
        if !is_recorded {
            let layer = Self {
                cell,
                steps,
                inputs: Vec::new(),
                gates: Kept::default(),
                before: Kept::default(),
                extra: Kept::default(),
            };
            return apply_many(layer, &inputs, outputs);
        }
        let keep = |x: &Tensor| Kept::packed(cell.op(), x);
        let [gates, before, extra] = kept.map(Tensor::constant);
        let layer = Self {
            cell,
            steps,
            inputs: inputs.iter().map(|x| keep(x)).collect::<Result<_>>()?,
            gates: keep(&gates)?,
            before: keep(&before)?,
            extra: keep(&extra)?,
        };
        apply_many(layer, &inputs, outputs)
    }

    /// Everything that is kept, with its part in the operation.
    fn all_kept(&self) -> impl Iterator<Item = (String, &Kept)> {
        let inputs = self.inputs.iter().enumerate().map(|(i, kept)| (format!("input {i}"), kept));
        let rest = [("gates", &self.gates), ("states", &self.before), ("extra", &self.extra)];
        inputs.chain(rest.map(|(name, kept)| (name.to_owned(), kept)))
    }

    /// Saved input `i`; linked to its history when a graph of the backward pass is recorded.
    fn input(&self, node: &NodeRef, i: usize) -> Result<Tensor> {
        let array = self.inputs[i].get_part(self.cell.op(), format_args!("input {i}"))?;
        Ok(match &node.edges()[i] {
            Some(edge) if is_recording() => Tensor::with_edge(array, edge.clone()),
            _ => Tensor::constant(array),
        })
    }

    /// The gradients through the same layer made of other operations, which are recorded.
    fn recorded(&self, inputs: &[Tensor], needs: Needs<'_>, grads: OutputGrads) -> Result<InputGrads> {
        // Tensors of their own: the gradient of one input must not go through another that depends on it.
        let inputs = inputs.iter().map(|x| x.view(x.shape())).collect::<Result<Vec<_>>>()?;
        let at = 1 + self.cell.states();
        let biases = inputs.get(at + 2).zip(inputs.get(at + 3)).map(|(input, hidden)| [input, hidden]);
        let (states, weights) = (&inputs[1..at], [&inputs[at], &inputs[at + 1]]);
        let outputs =
            compose::layer(self.cell, &inputs[0], states, weights[0], weights[1], biases, None, &self.steps)?;
        let arrived = |i: &usize| grads[*i].is_some() && outputs[*i].requires_grad();
        let arrived: Vec<usize> = (0..outputs.len()).filter(arrived).collect();
        let wanted: Vec<usize> = (0..inputs.len()).filter(|i| needs.of(*i)).collect();
        let pick =
            |from: &[Tensor], which: &[usize]| which.iter().map(|i| from[*i].clone()).collect::<Vec<_>>();
        let grads: Vec<_> = arrived.iter().map(|i| grads[*i].clone()).collect();
        let options = Options { retain_graph: true, create_graph: true };
        let found = grad(&pick(&outputs, &arrived), &grads, &pick(&inputs, &wanted), options)?;
        let mut result = InputGrads::new();
        result.resize(inputs.len(), None);
        wanted.into_iter().zip(found).for_each(|(i, grad)| result[i] = grad);
        Ok(result)
    }

    fn fused<T: recurrent::Float>(
        &self,
        node: &NodeRef,
        inputs: &[Tensor],
        needs: Needs<'_>,
        grads: OutputGrads,
    ) -> Result<InputGrads> {
        let (cell, op, states) = (self.cell, self.cell.op(), self.cell.states());
        let [gates, before, extra] = [&self.gates, &self.before, &self.extra].map(|kept| kept.get(op));
        let (gates, before, extra) = (gates?, before?, extra?);
        let (weights, batch) = ([&inputs[1 + states], &inputs[2 + states]], inputs[1].shape()[0]);
        let weight = ready(weights[1])?;
        let width = weight.shape()[1];
        let given = |i: usize| grads.get(i).cloned().flatten();
        let output = given(0).map(|grad| ready(&grad)).transpose()?;
        let state = |i: usize| match given(i) {
            Some(grad) => own(grad.array(), T::DTYPE),
            None => Array::full(&[batch, width], 0.0, T::DTYPE),
        };
        let mut hidden = state(1)?;
        let mut cells = if cell == Cell::Lstm { state(2)? } else { none(T::DTYPE)? };
        let mut by_gates = Array::empty(gates.shape(), T::DTYPE)?;
        let differs = cell == Cell::Gru;
        let mut by_share = if differs { Array::empty(gates.shape(), T::DTYPE)? } else { none(T::DTYPE)? };
        let pass = recurrent::Backward::<T> {
            cell,
            steps: &self.steps,
            width,
            weight: weight.slice(),
            gates: gates.slice(),
            before: before.slice(),
            extra: extra.slice(),
            grad: output.as_ref().map(|grad| grad.slice()),
            hidden: hidden.slice_mut(),
            cells: cells.slice_mut(),
            by_gates: by_gates.slice_mut(),
            by_share: by_share.slice_mut(),
        };
        pass.run()?;
        let by_gates = Tensor::constant(by_gates);
        let by_share = if differs { Tensor::constant(by_share) } else { by_gates.clone() };
        let mut result = InputGrads::new();
        let needed = |i: usize, grad: &dyn Fn() -> Result<Tensor>| needs.of(i).then(grad).transpose();
        let compute = |x: &Tensor| Ok::<_, crate::Error>(Tensor::constant(ready(x)?));
        let x = Tensor::constant(flat(ready(&inputs[0])?));
        result.push(needed(0, &|| by_gates.matmul(&compute(weights[0])?)?.view(inputs[0].shape()))?);
        let firsts = [hidden, cells].map(Tensor::constant);
        for (i, first) in firsts.iter().enumerate().take(states) {
            result.push(needs.of(1 + i).then(|| first.clone()));
        }
        result.push(needed(1 + states, &|| by_gates.t()?.matmul(&x))?);
        result.push(needed(2 + states, &|| by_share.t()?.matmul(&Tensor::constant(before.clone())))?);
        if node.edges().len() > 3 + states {
            result.push(needed(3 + states, &|| by_gates.sum(&[0], false))?);
            result.push(needed(4 + states, &|| by_share.sum(&[0], false))?);
        }
        Ok(result)
    }
}

/// Computes a layer; keeps what the gradient reads if it `is_recorded`.
fn forward<T: recurrent::Float>(
    cell: Cell,
    x: &Tensor,
    states: &[Tensor],
    weights: &Weights<'_>,
    steps: &[Step],
    is_recorded: bool,
) -> Result<Results> {
    let (weight, dtype) = (ready(weights.hidden)?, T::DTYPE);
    let width = weight.shape()[1];
    let biases = weights.biases.map(|biases| biases.map(ready));
    let biases = biases.map(|[input, hidden]| Ok::<_, crate::Error>([input?, hidden?])).transpose()?;
    let sequence = flat(ready(x)?);
    let count = sequence.shape()[0];
    let all = cell.gates() * width;
    // GRU adds the hidden state's bias within a gate.
    let biases = match biases {
        Some([input, hidden]) if cell != Cell::Gru => {
            let both = Tensor::constant(input).add(&Tensor::constant(hidden))?.array().clone();
            Some([both.clone(), both])
        }
        biases => biases,
    };
    let input = ready(weights.input)?;
    let mut share;
    let input = if states[0].shape()[0] < CHUNKED_FROM {
        share = Array::empty(&[count, all], dtype)?;
        let transposed = input.with_layout(input.layout().transpose(0, 1));
        matmul(cell.op(), &sequence, &transposed, &share, None)?;
        recurrent::Input::Share(share.slice_mut())
    } else {
        recurrent::Input::Sequence { x: sequence.slice(), width: sequence.shape()[1], weight: input.slice() }
    };
    let mut hidden = own(states[0].array(), dtype)?;
    let mut cells = if cell == Cell::Lstm { own(states[1].array(), dtype)? } else { none(dtype)? };
    let mut out = Array::empty(&with_width(x.shape(), width), dtype)?;
    let kept = |width: usize, wanted: bool| {
        if wanted && is_recorded {
            Array::empty(&[count, width], dtype)
        } else {
            none(dtype)
        }
    };
    let has_extra = matches!(cell, Cell::Lstm | Cell::Gru);
    let (mut gates, mut before, mut extra) = (kept(all, true)?, kept(width, true)?, kept(width, has_extra)?);
    let pass = recurrent::Forward::<T> {
        cell,
        steps,
        width,
        input,
        weight: weight.slice(),
        biases: biases.as_ref().map(|[input, hidden]| [input.slice(), hidden.slice()]),
        hidden: hidden.slice_mut(),
        cells: cells.slice_mut(),
        out: out.slice_mut(),
        kept: is_recorded.then(|| recurrent::Kept {
            gates: gates.slice_mut(),
            hidden: before.slice_mut(),
            extra: extra.slice_mut(),
        }),
    };
    pass.run()?;
    let mut outputs = vec![out, hidden];
    if cell == Cell::Lstm {
        outputs.push(cells);
    }
    Ok(Results { outputs, kept: [gates, before, extra] })
}

impl Backward for Layer {
    fn name(&self) -> String {
        match self.cell {
            Cell::Lstm => "LstmBackward0",
            Cell::Gru => "GruBackward0",
            Cell::Tanh => "RnnTanhBackward0",
            Cell::Relu => "RnnReluBackward0",
        }
        .into()
    }

    fn backward(&self, node: &NodeRef, needs: Needs<'_>, grads: OutputGrads) -> Result<InputGrads> {
        if self.is_freed() {
            return Err(freed_error());
        }
        if grads.iter().all(Option::is_none) {
            return Ok(InputGrads::new());
        }
        let inputs = (0..self.inputs.len()).map(|i| self.input(node, i)).collect::<Result<Vec<_>>>()?;
        if is_recording() {
            return self.recorded(&inputs, needs, grads);
        }
        let dtype = compute_dtype(inputs[0].dtype());
        dispatch_float!(dtype, self.cell.op(), T => self.fused::<T>(node, &inputs, needs, grads))
    }

    fn free(&self) {
        self.all_kept().for_each(|(_, kept)| kept.clear());
    }

    fn saved(&self) -> Vec<(String, SavedArray)> {
        self.all_kept().filter_map(|(name, kept)| Some((name, kept.saved()?))).collect()
    }

    fn is_freed(&self) -> bool {
        self.gates.saved().is_none()
    }

    fn visit_packed(&self, visit: &mut dyn FnMut(&dyn Any)) {
        self.all_kept().for_each(|(_, kept)| kept.visit_packed(visit));
    }

    fn describe(&self) -> String {
        format!("{:?} {{ steps: {} }}", self.cell, self.steps.len())
    }
}
