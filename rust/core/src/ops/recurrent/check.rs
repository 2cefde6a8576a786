//! What must fit before a recurrent layer runs.

use super::{Cell, RecurrentOptions, Weights};
use crate::tensor::Tensor;
use crate::{bail, ensure, Result};

/// Sizes of one direction of a layer.
#[derive(Clone, Copy)]
struct Sizes {
    input: usize,
    /// Of the hidden state that goes in and out, and of what is inside.
    hidden: usize,
    width: usize,
}

/// The parameters of each layer and direction, all of which fit.
pub(super) fn stack<'a>(
    x: &Tensor,
    batch_sizes: Option<&[usize]>,
    states: &[&Tensor],
    params: &[&'a Tensor],
    options: RecurrentOptions,
) -> Result<Vec<Weights<'a>>> {
    let (cell, op) = (options.cell, options.cell.op());
    let rank = if batch_sizes.is_some() { 2 } else { 3 };
    ensure!(
        x.rank() == rank,
        Shape,
        "{op}: input must have {rank} dimensions, got {} (shape {:?}); unsqueeze or reshape it",
        x.rank(),
        x.shape()
    );
    ensure!(
        states.len() == cell.states(),
        Value,
        "{op} expects {} initial states, got {}; give each as one tensor",
        cell.states(),
        states.len()
    );
    let directions = 1 + usize::from(options.bidirectional);
    let count = options.num_layers * directions;
    let each = if options.has_biases { 4 } else { 2 };
    let has_projection = cell == Cell::Lstm && count > 0 && params.len() == count * (each + 1);
    ensure!(
        count > 0 && (has_projection || params.len() == count * each),
        Value,
        "{op}: got an incorrect number of RNN parameters: {} for num_layers={}, has_biases={}, bidirectional={}; \
         give {each} for each layer and direction",
        params.len(),
        options.num_layers,
        options.has_biases,
        options.bidirectional
    );
    let batch = batch_of(op, x, batch_sizes, options.batch_first)?;
    let all: Vec<_> = params
        .chunks(each + usize::from(has_projection))
        .map(|params| Weights {
            input: params[0],
            hidden: params[1],
            biases: options.has_biases.then(|| [params[2], params[3]]),
            projection: has_projection.then(|| params[each]),
        })
        .collect();
    let first = all[0].hidden;
    ensure!(
        first.rank() == 2,
        Shape,
        "{op}: weight_hh must be a matrix, but has shape {:?}; reshape it",
        first.shape()
    );
    let mut sizes = Sizes {
        input: x.shape()[rank - 1],
        hidden: first.shape()[1],
        width: first.shape()[0] / cell.gates(),
    };
    for (i, weights) in all.iter().enumerate() {
        if i == directions {
            sizes.input = sizes.hidden * directions;
        }
        parameters(op, x, cell, weights, sizes)?;
    }
    for (i, state) in states.iter().enumerate() {
        let wanted = [count, batch, if i == 0 { sizes.hidden } else { sizes.width }];
        is_like(op, if i == 0 { "hx" } else { "cx" }, state, &wanted, x)?;
    }
    Ok(all)
}

/// Rows of the batch.
fn batch_of(op: &str, x: &Tensor, batch_sizes: Option<&[usize]>, batch_first: bool) -> Result<usize> {
    let Some(sizes) = batch_sizes else {
        let [time, batch] = if batch_first { [1, 0] } else { [0, 1] };
        ensure!(
            x.shape()[time] > 0,
            Shape,
            "{op}: Expected sequence length to be larger than 0 in RNN, got input of shape {:?}; give at least one step",
            x.shape()
        );
        return Ok(x.shape()[batch]);
    };
    let is_sorted = sizes.windows(2).all(|pair| pair[0] >= pair[1]);
    let sum = sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size));
    ensure!(
        is_sorted && sizes.last().is_some_and(|last| *last > 0) && sum == Some(x.shape()[0]),
        Value,
        "{op}: batch_sizes must be positive, must not grow, and must sum to the {} rows of the data, but are \
         {sizes:?}; make them with nn.utils.rnn.pack_padded_sequence",
        x.shape()[0]
    );
    Ok(sizes[0])
}

/// An error unless a tensor has the shape and the dtype that go with input `x`.
fn is_like(op: &str, role: &str, tensor: &Tensor, wanted: &[usize], x: &Tensor) -> Result<()> {
    ensure!(
        tensor.shape() == wanted,
        Shape,
        "{op}: Expected {role} of size {wanted:?}, got {:?} (input {:?}); reshape it",
        tensor.shape(),
        x.shape()
    );
    ensure!(
        tensor.dtype() == x.dtype(),
        DType,
        "{op}: input and {role} must have the same dtype, but got {} and {}; convert one of them",
        x.dtype().scalar_name(),
        tensor.dtype().scalar_name()
    );
    Ok(())
}

fn parameters(op: &str, x: &Tensor, cell: Cell, weights: &Weights<'_>, sizes: Sizes) -> Result<()> {
    let Sizes { input, hidden, width } = sizes;
    if !x.dtype().is_float() {
        bail!(DType, "{op}: not implemented for '{}'; convert with .float()", x.dtype().scalar_name());
    }
    let all = cell.gates() * width;
    ensure!(
        input > 0 && hidden > 0 && width > 0,
        Shape,
        "{op}: input and hidden sizes must be at least 1, but weight_ih has shape {:?} and weight_hh {:?}; \
         use larger ones",
        weights.input.shape(),
        weights.hidden.shape()
    );
    is_like(op, "weight_ih", weights.input, &[all, input], x)?;
    let inside = if weights.projection.is_some() { hidden } else { width };
    is_like(op, "weight_hh", weights.hidden, &[all, inside], x)?;
    if let Some([input, hidden]) = weights.biases {
        is_like(op, "bias_ih", input, &[all], x)?;
        is_like(op, "bias_hh", hidden, &[all], x)?;
    }
    match weights.projection {
        Some(projection) => is_like(op, "weight_hr", projection, &[hidden, width], x),
        None => Ok(()),
    }
}

/// An error unless a cell's inputs fit.
pub(super) fn cell(x: &Tensor, cell: Cell, states: &[&Tensor], weights: &Weights<'_>) -> Result<()> {
    let op = cell.cell_op();
    ensure!(
        x.rank() == 2 && weights.hidden.rank() == 2,
        Shape,
        "{op}: input (batch, input_size) and weight_hh must be matrices, but have shapes {:?} and {:?}; \
         unsqueeze or reshape them",
        x.shape(),
        weights.hidden.shape()
    );
    ensure!(
        states.len() == cell.states(),
        Value,
        "{op} expects {} states, got {}; give each as one tensor",
        cell.states(),
        states.len()
    );
    let width = weights.hidden.shape()[1];
    parameters(op, x, cell, weights, Sizes { input: x.shape()[1], hidden: width, width })?;
    for (i, state) in states.iter().enumerate() {
        is_like(op, if i == 0 { "hx" } else { "cx" }, state, &[x.shape()[0], width], x)?;
    }
    Ok(())
}
