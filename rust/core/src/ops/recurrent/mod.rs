//! Recurrent layers: whole stacks of them over sequences, and cells for a step.
//!
//! `layer` is one direction of one layer as an operation of its own, `compose` its meaning in other operations,
//! `check` what both may rely on.

mod check;
mod compose;
mod layer;

pub use crate::kernels::recurrent::Cell;

use crate::kernels::recurrent::Step;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::Result;
use layer::Layer;

impl Cell {
    /// The operation's name in messages.
    pub(crate) fn op(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Gru => "gru",
            Self::Tanh => "rnn_tanh",
            Self::Relu => "rnn_relu",
        }
    }

    /// The same of one step.
    pub(crate) fn cell_op(self) -> &'static str {
        match self {
            Self::Lstm => "lstm_cell",
            Self::Gru => "gru_cell",
            Self::Tanh => "rnn_tanh_cell",
            Self::Relu => "rnn_relu_cell",
        }
    }

    /// Number of states: hidden, and LSTM's cell state.
    pub(crate) fn states(self) -> usize {
        1 + usize::from(self == Self::Lstm)
    }
}

/// How layers are stacked.
#[derive(Debug, Clone, Copy)]
pub struct RecurrentOptions {
    /// What happens at a step.
    pub cell: Cell,
    /// Whether there are two biases after the two weights of each layer and direction.
    pub has_biases: bool,
    /// Number of layers; each one's input is the output of the one before.
    pub num_layers: usize,
    /// The probability that an element between two layers is dropped, in training.
    pub dropout: f64,
    /// Whether it is.
    pub training: bool,
    /// Whether each layer goes through the sequence both ways.
    pub bidirectional: bool,
    /// Whether the input's first dim is the batch, not time.
    pub batch_first: bool,
}

/// Parameters of one direction of a layer.
#[derive(Debug, Clone, Copy)]
struct Weights<'a> {
    input: &'a Tensor,
    hidden: &'a Tensor,
    biases: Option<[&'a Tensor; 2]>,
    projection: Option<&'a Tensor>,
}

impl Tensor {
    /// A stack of recurrent layers. The input is (T, B, I), or (B, T, I) if `batch_first`; with `batch_sizes` it is
    /// (N, I), the steps one after the other. `states` are (layers * directions, B, H), and `params` weight_ih,
    /// weight_hh, the biases and LSTM's projection of each layer and direction in turn.
    ///
    /// Returns the last layer's output and the states after the last step.
    pub fn recurrent(
        &self,
        batch_sizes: Option<&[usize]>,
        states: &[&Tensor],
        params: &[&Tensor],
        options: RecurrentOptions,
    ) -> Result<Vec<Tensor>> {
        let cell = options.cell;
        let all = check::stack(self, batch_sizes, states, params, options)?;
        let batch_first = options.batch_first && batch_sizes.is_none();
        let mut x = if batch_first { self.transpose(0, 1)? } else { self.clone() };
        let steps = steps(x.shape(), batch_sizes);
        let directions = 1 + usize::from(options.bidirectional);
        let mut last: Vec<Vec<Tensor>> = vec![Vec::new(); cell.states()];
        for (layer, weights) in all.chunks(directions).enumerate() {
            let mut outputs = Vec::with_capacity(directions);
            for (direction, weights) in weights.iter().enumerate() {
                let index = (layer * directions + direction) as isize;
                let first = states.iter().map(|state| state.select(0, index)).collect::<Result<Vec<_>>>()?;
                let steps =
                    if direction == 1 { steps.iter().rev().copied().collect() } else { steps.clone() };
                let mut results = run(cell, &x, &first, weights, steps)?.into_iter();
                outputs.extend(results.next());
                last.iter_mut().zip(results).for_each(|(all, state)| all.push(state));
            }
            x = match &outputs[..] {
                [one] => one.clone(),
                both => Tensor::cat(&both.iter().collect::<Vec<_>>(), -1)?,
            };
            if options.dropout > 0.0 && options.training && layer + 1 < options.num_layers {
                x = x.dropout(options.dropout, true)?;
            }
        }
        let mut results = vec![if batch_first { x.transpose(0, 1)? } else { x }];
        for states in last {
            results.push(match &states[..] {
                [one] => one.unsqueeze(0)?,
                all => Tensor::stack(&all.iter().collect::<Vec<_>>(), 0)?,
            });
        }
        Ok(results)
    }

    /// One step of a cell: the input is (B, I), the states (B, H). Returns the new states.
    pub fn recurrent_cell(
        &self,
        cell: Cell,
        states: &[&Tensor],
        weights: [&Tensor; 2],
        biases: Option<[&Tensor; 2]>,
    ) -> Result<Vec<Tensor>> {
        let weights = Weights { input: weights[0], hidden: weights[1], biases, projection: None };
        check::cell(self, cell, states, &weights)?;
        let first: Vec<Tensor> = states.iter().map(|state| (*state).clone()).collect();
        let step = Step { start: 0, rows: self.shape()[0] };
        let mut results = run(cell, self, &first, &weights, vec![step])?;
        results.swap_remove(1); // equal to the output, which takes its place
        Ok(results)
    }
}

/// The rows of each step.
fn steps(shape: &[usize], batch_sizes: Option<&[usize]>) -> Vec<Step> {
    match batch_sizes {
        None => (0..shape[0]).map(|t| Step { start: t * shape[1], rows: shape[1] }).collect(),
        Some(sizes) => sizes
            .iter()
            .scan(0, |start, &rows| {
                let step = Step { start: *start, rows };
                *start += rows;
                Some(step)
            })
            .collect(),
    }
}

/// One direction of a layer: the output, and the states after the last step.
fn run(
    cell: Cell,
    x: &Tensor,
    states: &[Tensor],
    weights: &Weights<'_>,
    steps: Vec<Step>,
) -> Result<Vec<Tensor>> {
    if let Some(projection) = weights.projection {
        return compose::layer(
            cell,
            x,
            states,
            weights.input,
            weights.hidden,
            weights.biases,
            Some(projection),
            &steps,
        );
    }
    Layer::apply(cell, x, states, weights, steps)
}

/// The shape of an output: that of the input with another width.
fn with_width(shape: &[usize], width: usize) -> Dims {
    let mut shape = Dims::from_slice(shape);
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    shape
}
