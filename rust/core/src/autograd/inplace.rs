//! In-place operations: the write, the version, and the new history of the tensor, its base and its views.

use super::apply::record;
use super::mode;
use super::op::Op;
use crate::array::Array;
use crate::ops::region;
use crate::tensor::Tensor;
use crate::{ensure, Result};

/// Runs `op` on `inputs` and writes its result into `inputs[0]`, which is given a new history.
/// All checks come before the first write.
pub fn apply_inplace<O: Op<N>, const N: usize>(mut op: O, inputs: [&Tensor; N]) -> Result<()> {
    let target = inputs[0];
    let needs = inputs.map(Tensor::requires_grad);
    let recorded = mode::is_grad_enabled() && needs.contains(&true) && target.dtype().is_float();
    check_writable(O::NAME, target)?;

    let mut arrays = inputs.map(Tensor::array);
    // A rule that reads the target's old value needs a copy of it: the write destroys the original.
    let old = if recorded && op.saves(needs).inputs[0] { Some(target.array().copied()?) } else { None };
    op.forward_into(arrays, target.array())?;
    target.array().storage().bump_version();
    if recorded {
        if let Some(old) = &old {
            arrays[0] = old;
        }
        let edge = record(op, inputs, needs, arrays, target.array());
        rebase(target, edge)?;
    }
    Ok(())
}

/// Gives `target` a new history. For a view it is the base's history that changes: a node that
/// writes the region; the base's other views find theirs when they are next used.
fn rebase(target: &Tensor, edge: super::node::Edge) -> Result<()> {
    match target.view_base() {
        Some(base) => {
            let value = Tensor::with_edge(target.array().clone(), edge);
            let written = region::record_write(&base, &value, target.array().layout());
            base.set_history(written);
        }
        None => target.set_history(edge),
    }
    Ok(())
}

/// Refuses what PyTorch refuses: leaves under recording, expanded memory, read-only memory.
pub fn check_writable(op: &str, target: &Tensor) -> Result<()> {
    let array: &Array = target.array();
    if mode::is_grad_enabled() && target.requires_grad() {
        ensure!(
            !target.is_leaf(),
            Autograd,
            "{op}: a leaf Variable that requires grad is being used in an in-place operation; wrap it in \
             `with no_grad():`, or use the out-of-place form"
        );
        if let Some(base) = target.view_base() {
            ensure!(
                !(base.is_leaf() && base.requires_grad()),
                Autograd,
                "{op}: a view of a leaf Variable that requires grad is being used in an in-place \
                 operation; wrap it in `with no_grad():`, or use the out-of-place form"
            );
        }
    }
    ensure!(
        !array.layout().has_overlap(),
        Autograd,
        "{op}: unsupported operation: more than one element of the written-to tensor (shape {:?}, strides \
         {:?}) refers to a single memory location; clone() the tensor first",
        array.shape(),
        array.strides()
    );
    ensure!(
        array.storage().is_writable(),
        Value,
        "{op}: the tensor shares read-only memory; clone() it first"
    );
    Ok(())
}
