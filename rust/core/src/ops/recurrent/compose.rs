//! One direction of a layer in other operations, step by step: what second derivatives go through, and LSTM with
//! projections.

use super::{with_width, Cell};
use crate::kernels::recurrent::Step;
use crate::tensor::Tensor;
use crate::Result;

/// The output, and the states after the last step.
pub(super) fn layer(
    cell: Cell,
    x: &Tensor,
    states: &[Tensor],
    input: &Tensor,
    hidden: &Tensor,
    biases: Option<[&Tensor; 2]>,
    projection: Option<&Tensor>,
    steps: &[Step],
) -> Result<Vec<Tensor>> {
    let width = x.shape()[x.rank() - 1];
    let flat = x.reshape(&[x.numel() / width, width])?;
    let shares = flat.linear(input, biases.map(|biases| biases[0]))?;
    let mut states = states.to_vec();
    let batch = states[0].shape()[0];
    let mut outputs = Vec::with_capacity(steps.len());
    for step in steps {
        let rows = |x: &Tensor, start: usize, len: usize| x.narrow(0, start as isize, len);
        let share = rows(&shares, step.start, step.rows)?;
        let before = states.iter().map(|state| rows(state, 0, step.rows)).collect::<Result<Vec<_>>>()?;
        let product = before[0].linear(hidden, biases.map(|biases| biases[1]))?;
        let mut after = self::step(cell, &share, &product, &before)?;
        if let Some(projection) = projection {
            after[0] = after[0].linear(projection, None)?;
        }
        outputs.push((step.start, after[0].clone()));
        for (state, after) in states.iter_mut().zip(after) {
            let rest = rows(state, step.rows, batch - step.rows)?;
            *state = if step.rows == batch { after } else { Tensor::cat(&[&after, &rest], 0)? };
        }
    }
    outputs.sort_by_key(|(start, _)| *start);
    let output = Tensor::cat(&outputs.iter().map(|(_, output)| output).collect::<Vec<_>>(), 0)?;
    let width = states[0].shape()[1];
    Ok(std::iter::once(output.reshape(&with_width(x.shape(), width))?).chain(states).collect())
}

/// One step: the new states from the input's and the hidden state's shares of the gates.
fn step(cell: Cell, share: &Tensor, product: &Tensor, states: &[Tensor]) -> Result<Vec<Tensor>> {
    let gates = |x: &Tensor| x.chunk(cell.gates(), 1);
    match cell {
        Cell::Tanh => Ok(vec![share.add(product)?.tanh()?]),
        Cell::Relu => Ok(vec![share.add(product)?.relu()?]),
        Cell::Lstm => {
            let gates = gates(&share.add(product)?)?;
            let [i, f, o] = [gates[0].sigmoid()?, gates[1].sigmoid()?, gates[3].sigmoid()?];
            let c = f.mul(&states[1])?.add(&i.mul(&gates[2].tanh()?)?)?;
            Ok(vec![o.mul(&c.tanh()?)?, c])
        }
        Cell::Gru => {
            let (x, h) = (gates(share)?, gates(product)?);
            let (r, z) = (x[0].add(&h[0])?.sigmoid()?, x[1].add(&h[1])?.sigmoid()?);
            let n = x[2].add(&r.mul(&h[2])?)?.tanh()?;
            Ok(vec![states[0].sub(&n)?.mul(&z)?.add(&n)?])
        }
    }
}
