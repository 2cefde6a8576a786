//! Replacing the data of a tensor that others hold: `x.data = y`, and views in place.

use super::{NodeMeta, Tensor};
use crate::array::Array;
use crate::autograd::inplace::{check_inference, check_not_leaf};
use crate::autograd::leaf::AccumulateGrad;
use crate::autograd::node::{lock, Edges, Node};
use crate::autograd::Edge;
use crate::mode::{self, GradMode};
use crate::{ensure, Result};
use smallvec::smallvec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Whether there has ever been a tensor whose data was replaced. Until then gradients are read without a look for that.
static ANY_REPLACED: AtomicBool = AtomicBool::new(false);

impl Tensor {
    /// The tensor that this one becomes when its data is replaced by `data`, of any shape and dtype: with its
    /// history, its gradient and its hooks, but no longer a view. Whoever finds this tensor as the gradient
    /// of another finds the new one from now on.
    pub fn replace_data(&self, data: &Array) -> Result<Tensor> {
        if self.array().is_same_memory(data) {
            return Ok(self.clone()); // `x.data *= 2` has written already
        }
        let requires_grad = self.requires_grad();
        ensure!(
            !requires_grad || data.dtype().is_float(),
            Autograd,
            "data: set to a tensor that requires gradients must be floating point, not {} (shape {:?}); use \
             requires_grad_(False) first",
            data.dtype(),
            data.shape()
        );
        let edge = if self.is_leaf() { None } else { self.edge()? };
        let accumulator = if requires_grad && edge.is_none() { self.edge()? } else { None };
        let next = Self::make(data.clone(), requires_grad, edge);
        let slot = self.grad_slot();
        if let Some(old) = accumulator {
            let looks_the_same = data.shape() == self.shape() && data.dtype() == self.dtype();
            let node = if looks_the_same {
                old.node.op().moved_to(&next);
                old.node
            } else {
                let leaf = AccumulateGrad::new(slot.clone(), data.clone(), next.downgrade());
                let new =
                    Edge { node: Node::new(leaf, Edges::new(), smallvec![NodeMeta::of(data)]), output: 0 };
                new.share_hooks_of(&old);
                new.node
            };
            next.set_accumulator(node);
        }
        if let Some(handle) = lock(&self.0.meta).rare().retain.take() {
            handle.remove();
            let retain = next.grad_fn().map(|edge| edge.register_retain(next.downgrade()));
            lock(&next.0.meta).rare().retain = retain;
        }
        let known = lock(&self.0.meta).rare().versions.upgrade();
        let latest = known.unwrap_or_else(|| Arc::new(Mutex::new(next.clone())));
        let mut next_meta = lock(&next.0.meta);
        next_meta.rare().slot = Some(slot);
        next_meta.rare().versions = Arc::downgrade(&latest);
        drop(next_meta);
        let old = std::mem::replace(&mut *lock(&latest), next.clone());
        drop(old); // without the lock
        ANY_REPLACED.store(true, Ordering::Relaxed);
        lock(&self.0.meta).rare().replaced = Some(latest);
        Ok(next)
    }

    /// The tensor that this one becomes when `view`, which takes a view of all of it, is done in place as `op`
    /// (`unsqueeze_`). `handles` is the number of handles to this tensor that belong to the caller: others,
    /// its views, keep it as their base.
    pub fn view_in_place(
        &self,
        op: &str,
        handles: usize,
        view: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        check_inference(op, self)?;
        check_not_leaf(op, self, mode::is_recording() && self.requires_grad())?;
        let is_alone = !self.is_view() && self.0.owners() <= handles;
        if self.is_leaf() && (is_alone || self.requires_grad()) {
            return self.replace_data(view(&self.detach())?.array());
        }
        // Recorded even under `no_grad`: no value changes, and base, views and it keep one history.
        let recording = GradMode::inference(false);
        let next = view(self)?;
        drop(recording);
        let next = if is_alone {
            Self::make(next.array().clone(), next.requires_grad(), next.grad_fn())
        } else {
            next
        };
        if self.retains_grad() {
            next.retain_grad()?;
        }
        Ok(next)
    }

    /// The tensor that this one has become, if its data was replaced.
    pub fn successor(&self) -> Option<Tensor> {
        if !ANY_REPLACED.load(Ordering::Relaxed) {
            return None;
        }
        let latest = lock(&self.0.meta).rare.as_ref()?.replaced.clone()?;
        let tensor = lock(&latest).clone();
        Some(tensor)
    }
}
