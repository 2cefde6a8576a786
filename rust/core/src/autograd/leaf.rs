//! Where a leaf's gradient arrives, and where gradients stay.

use super::anomaly::FixedPlace;
use super::mode;
use super::node::{lock, Backward, InputGrads, Needs, NodeRef, OutputGrads};
use crate::array::Array;
use crate::layout::Layout;
use crate::tensor::{Tensor, WeakTensor};
use crate::Result;
use std::sync::{Arc, Mutex};

/// A tensor's `.grad`, shared with the graphs that lead to it. It does not hold the tensor: a graph and
/// its leaves are no cycle.
#[derive(Debug, Default)]
pub(crate) struct GradSlot {
    grad: Mutex<Option<Tensor>>,
    /// Held over a whole accumulation: backward passes of several threads may meet here. Nothing of the user's
    /// runs meanwhile, also no tracer: it might wait for another pass.
    adding: Mutex<()>,
}

impl GradSlot {
    /// The gradient summed up so far, or the tensor that it was before its data was replaced.
    pub fn peek(&self) -> Option<Tensor> {
        lock(&self.grad).clone()
    }

    /// The gradient summed up so far.
    pub fn get(&self) -> Option<Tensor> {
        let grad = self.peek()?;
        let Some(successor) = grad.successor() else { return Some(grad) };
        drop(self.replace(Some(successor.clone())));
        Some(successor)
    }

    /// The gradient itself, of a slot that nobody else holds.
    pub fn take(&mut self) -> Option<Tensor> {
        self.grad.get_mut().ok().and_then(Option::take)
    }

    /// Replaces the gradient and returns the old one, which may hold a graph: drop it without locks.
    #[must_use]
    pub fn replace(&self, grad: Option<Tensor>) -> Option<Tensor> {
        std::mem::replace(&mut lock(&self.grad), grad)
    }

    /// Adds `grad`, taking its memory over when nobody else holds it and it lies as a tensor of `layout` would.
    pub fn accumulate(&self, grad: Tensor, layout: &Layout) -> Result<()> {
        let held; // dropped after the lock
        let _place = FixedPlace::here()?;
        let adding = lock(&self.adding);
        held = self.get();
        let recording = mode::is_recording();
        let sum = match &held {
            Some(held) if recording => held.add(&grad)?,
            Some(held) if !held.array().layout().has_overlap() && held.array().storage().is_writable() => {
                return held.add_(&grad);
            }
            Some(held) => held.add(&grad)?,
            None if recording && grad.is_unique() => grad.own()?,
            None if recording => grad.copy()?,
            None if grad.is_unique() && lies_like(grad.array().layout(), layout) => grad.into_plain(),
            None => {
                let copy = Array::empty_like(layout, grad.dtype())?;
                copy.copy_from(grad.array())?;
                Tensor::constant(copy)
            }
        };
        let old = self.replace(Some(sum));
        drop(adding);
        drop(old);
        Ok(())
    }

    /// Adds the gradient of a tensor that is no leaf: never in place, the user may hold the last one.
    pub fn retain(&self, grad: &Tensor) -> Result<()> {
        let _place = FixedPlace::here()?;
        let adding = lock(&self.adding);
        let held = self.get();
        let sum = match &held {
            Some(held) => held.add(grad)?,
            None => grad.copy()?,
        };
        let old = self.replace(Some(sum));
        drop(adding);
        drop((held, old));
        Ok(())
    }
}

/// Whether a gradient has the order of dims that a new tensor like `layout` has.
fn lies_like(grad: &Layout, layout: &Layout) -> bool {
    (grad.is_contiguous() && layout.is_contiguous()) || grad.strides() == layout.like().strides()
}

/// `a.grad = b; b.grad = c; ...` is freed in a loop.
impl Drop for GradSlot {
    fn drop(&mut self) {
        let mut next = self.take();
        while let Some(grad) = next {
            next = grad.into_sole_grad();
        }
    }
}

/// The node at which a leaf's gradient arrives.
#[derive(Debug)]
pub(crate) struct AccumulateGrad {
    slot: Arc<GradSlot>,
    leaf: Mutex<Leaf>,
}

/// The leaf as it is at present: `.data = ...` exchanges both.
#[derive(Debug)]
struct Leaf {
    array: Array,
    tensor: WeakTensor,
}

impl AccumulateGrad {
    /// The node of the leaf `tensor`, whose data is `array` and whose gradient goes to `slot`.
    pub fn new(slot: Arc<GradSlot>, array: Array, tensor: WeakTensor) -> Self {
        Self { slot, leaf: Mutex::new(Leaf { array, tensor }) }
    }
}

impl Backward for AccumulateGrad {
    fn name(&self) -> String {
        "AccumulateGrad".into()
    }

    fn backward(&self, node: &NodeRef, _needs: Needs<'_>, mut grads: OutputGrads) -> Result<InputGrads> {
        if let Some(grad) = grads.pop().flatten() {
            let leaf = lock(&self.leaf);
            let (array, tensor) = (leaf.array.clone(), leaf.tensor.clone());
            drop(leaf);
            // One that no longer asks for a gradient keeps what it has.
            if tensor.upgrade().is_none_or(|leaf| leaf.requires_grad()) {
                self.slot.accumulate(grad, array.layout())?;
            }
        }
        node.run_accumulated(|| self.leaf(node))?;
        Ok(InputGrads::new())
    }

    fn leaf(&self, node: &NodeRef) -> Option<Tensor> {
        let mut leaf = lock(&self.leaf);
        Some(leaf.tensor.upgrade().unwrap_or_else(|| {
            // Nobody holds the leaf any more; its data and its gradient are still here.
            let revived = Tensor::leaf_of(leaf.array.clone(), self.slot.clone(), node.clone());
            leaf.tensor = revived.downgrade();
            revived
        }))
    }

    fn moved_to(&self, leaf: &Tensor) {
        let now = Leaf { array: leaf.array().clone(), tensor: leaf.downgrade() };
        let old = std::mem::replace(&mut *lock(&self.leaf), now);
        drop(old); // without the lock
    }
}
