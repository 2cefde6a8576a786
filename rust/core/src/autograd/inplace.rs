//! In-place operations: the write, the version, and the new history of the tensor, its base and its views.

use super::anomaly::{self, count_write, Known};
use super::node::{Edge, Edges, Meta, Node};
use super::op::{Op, Recorded, Saves};
use super::saved::{check_savable, pack_kept, pack_set, SavedSet};
use crate::array::Array;
use crate::mode;
use crate::ops::region;
use crate::tensor::Tensor;
use crate::{ensure, Result};
use smallvec::smallvec;
use std::fmt;

/// Runs `op` on `inputs` and writes its result into `inputs[0]`, which is given a new history.
/// All checks come before the first write.
pub fn apply_inplace<O: Op<N>, const N: usize>(mut op: O, inputs: [&Tensor; N]) -> Result<()> {
    let target = inputs[0];
    let needs = inputs.map(Tensor::requires_grad);
    let recorded = mode::is_recording() && needs.contains(&true) && target.dtype().is_float();
    check_target_memory(op.called(), target, recorded)?;

    let is_noted = anomaly::is_on();
    let known = if is_noted { Known::before(&op, inputs)? } else { None };
    let mut saved = None;
    let mut edges = Edges::new();
    let saves = op.saves(needs);
    if recorded {
        inputs.into_iter().try_for_each(|input| input.push_edge(&mut edges))?;
        if saves.output {
            check_savable(O::NAME, target.array())?;
        }
        // The write destroys the old values of all operands that lie in the target's memory: copies are kept.
        let mut arrays = inputs.map(|x| x.array().clone());
        for (array, _) in arrays.iter_mut().zip(saves.inputs).filter(|(_, is_saved)| *is_saved) {
            if array.shares_memory_with(target.array()) {
                *array = array.copied()?;
            }
        }
        if saves != Saves::nothing() {
            saves.keep_inputs(O::NAME, arrays.each_ref(), saved.insert(SavedSet::default()))?;
        }
        if mode::has_saved_hooks() {
            saved.iter_mut().try_for_each(|set| pack_set(O::NAME, set, inputs))?;
        }
    }
    op.forward_into(inputs.map(Tensor::array), target.array())?;
    count_write(target.array(), op.called());
    let checked = match known {
        Some(known) => known.check(op.called(), &[target.array()]),
        None => Ok(()),
    };
    // The values have changed: whatever goes wrong from here on, the history must tell of it.
    let mut kept = Ok(());
    if recorded {
        if let Some(saved) = saved.as_mut().filter(|_| saves.output) {
            kept = saved.keep_output(O::NAME, target.array());
        }
        if mode::has_saved_hooks() {
            kept = kept.and_then(|()| pack_kept(&op)); // after the operation has read it
        }
        let node = Node::record(Recorded::new(op, saved), edges, smallvec![Meta::of(target.array())]);
        rebase(target, Edge { node, output: 0 });
    }
    if is_noted {
        anomaly::check_interrupt()?;
    }
    kept.and(checked)
}

/// Gives `target` a new history. For a view it is the base's history that changes: a node that
/// writes the region; the base's other views find theirs when they are next used.
pub(super) fn rebase(target: &Tensor, edge: Edge) {
    match target.view_base() {
        Some(base) => {
            let value = Tensor::with_edge(target.array().clone(), edge);
            let written = region::record_write(&base, &value, target.array().layout());
            base.set_history(written);
        }
        None => target.set_history(edge),
    }
}

/// Refuses writes by anything but an operation that PyTorch refuses: to leaves under recording, to expanded
/// and to read-only memory.
pub fn check_writable(op: &str, target: &Tensor) -> Result<()> {
    check_target_memory(op, target, mode::is_recording() && target.requires_grad())
}

/// Whether a write to `target` would change a leaf that asks for a gradient: its base, or a view of its base
/// between the two (`w = ones(4).view(2, 2).requires_grad_(); w[0]`), from which alone it can have its history.
fn is_view_of_leaf(target: &Tensor) -> bool {
    let Some(base) = target.view_base() else { return false };
    if base.requires_grad() {
        base.is_leaf()
    } else {
        target.requires_grad()
    }
}

/// Whether `target` was made in inference mode, which has ended.
pub(crate) fn is_left_inference(target: &Tensor) -> bool {
    target.array().storage().is_for_inference_alone() && !mode::is_inference()
}

/// A write by an operation, as messages call it: `add_`, and for what is no method its name.
pub(super) struct Write<'a>(pub &'a str);

impl fmt::Display for Write<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim_end_matches('_') {
            "setitem" => f.write_str("setitem"),
            // A custom function, or the step of an optimizer.
            op if op.contains(|c: char| c == '.' || c.is_uppercase()) => f.write_str(op),
            op => write!(f, "{op}_"),
        }
    }
}

/// Refuses to write outside of inference mode to what was made in it.
pub fn check_inference(op: &str, target: &Tensor) -> Result<()> {
    ensure!(
        !is_left_inference(target),
        Autograd,
        "{}: Inplace update to inference tensor outside InferenceMode is not allowed (shape {:?}); clone() it to \
         get a normal tensor, or write to it under `with inference_mode():`",
        Write(op),
        target.shape()
    );
    Ok(())
}

/// Refuses, while recording, to change a leaf that asks for a gradient, or a view of one, in place.
pub fn check_not_leaf(op: &str, target: &Tensor, recorded: bool) -> Result<()> {
    let op = Write(op);
    if recorded {
        target.check_no_custom_view()?;
        ensure!(
            !(target.requires_grad() && target.is_leaf()),
            Autograd,
            "{op}: a leaf Variable that requires grad is being used in an in-place operation; wrap it in \
             `with no_grad():`, or use an operation that is not in place"
        );
    }
    if mode::is_recording() {
        ensure!(
            !(recorded && target.is_silent_view() || target.hides_write()),
            Autograd,
            "{op}: A view was created in no_grad mode or inference mode and is being modified inplace with grad \
             mode enabled; take the view with grad mode enabled, or write to it under `with no_grad():`"
        );
        ensure!(
            !is_view_of_leaf(target),
            Autograd,
            "{op}: a view of a leaf Variable that requires grad is being used in an in-place \
             operation; wrap it in `with no_grad():`, or use an operation that is not in place"
        );
    }
    Ok(())
}

fn check_target_memory(op: &str, target: &Tensor, recorded: bool) -> Result<()> {
    check_inference(op, target)?;
    check_not_leaf(op, target, recorded)?;
    let array: &Array = target.array();
    let op = Write(op);
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
