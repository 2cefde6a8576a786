//! Views and in-place writes: whose history is whose.

use super::{Meta, Tensor, ViewOf, CUSTOM_VIEW, NO_VIEW, SILENT_VIEW, VIEW};
use crate::array::Array;
use crate::autograd::node::lock;
use crate::autograd::Edge;
use crate::ops::region;
use crate::{ensure, Result};
use std::sync::atomic::Ordering;

/// Why a `CUSTOM_VIEW` and its memory cannot be written.
const CUSTOM_VIEWS_ARE_FIXED: &str = "This view was created inside a custom Function (or because an input was \
     returned as-is) and the autograd logic to handle view+inplace would override the custom backward associated \
     with the custom Function, leading to incorrect gradients. This behavior is forbidden. You can fix this by \
     cloning the output of the custom Function";

impl Tensor {
    pub(crate) fn is_view(&self) -> bool {
        self.0.view.load(Ordering::Relaxed) != NO_VIEW
    }

    /// Whether it is a view that was made while nothing was recorded.
    pub(crate) fn is_silent_view(&self) -> bool {
        self.0.view.load(Ordering::Relaxed) == SILENT_VIEW
    }

    /// The tensor that this is a view of, if it was made while operations were recorded.
    pub fn view_base(&self) -> Option<Tensor> {
        if self.0.view.load(Ordering::Relaxed) != VIEW {
            return None;
        }
        lock(&self.0.meta).view.as_ref().and_then(ViewOf::base)
    }

    /// Whether it is a view that was made while nothing was recorded, of a tensor that requires a gradient by
    /// now: a write to it would change that unnoticed.
    pub(crate) fn hides_write(&self) -> bool {
        if !self.is_silent_view() {
            return false;
        }
        let base = lock(&self.0.meta).view.as_ref().and_then(ViewOf::base);
        base.is_some_and(|base| base.requires_grad())
    }

    /// Whether it came out of a custom operation with memory that others hold.
    pub(crate) fn is_custom_view(&self) -> bool {
        self.0.view.load(Ordering::Relaxed) == CUSTOM_VIEW
    }

    /// Notes that this new tensor came out of a custom operation with memory that others hold.
    pub(crate) fn set_custom_view(&self) {
        lock(&self.0.meta).view = Some(ViewOf::Custom { version: self.version() });
        self.0.view.store(CUSTOM_VIEW, Ordering::Relaxed);
    }

    /// A tensor with the same history that may be written, of one whose memory nobody else holds.
    pub(crate) fn own(self) -> Result<Tensor> {
        match self.edge()? {
            Some(edge) if self.is_custom_view() => Ok(Self::with_edge(self.array().clone(), edge)),
            _ => Ok(self),
        }
    }

    /// Whether somebody else can write its memory, or see what is written through it.
    pub(crate) fn is_shared_view(&self) -> bool {
        let has_base = || lock(&self.0.meta).view.as_ref().and_then(ViewOf::base).is_some();
        self.is_view() && (!self.array().is_unique() || self.is_custom_view() || has_base())
    }

    /// The result of an operation whose last step was a view of memory that it had made itself.
    pub(crate) fn into_new(self) -> Tensor {
        if self.is_view() {
            self.forget_base();
        }
        self
    }

    /// Forgets that it is a view, of memory that nobody else holds.
    pub(crate) fn forget_base(&self) {
        let old = lock(&self.0.meta).view.take();
        self.0.view.store(NO_VIEW, Ordering::Relaxed);
        drop(old); // without the lock
    }

    /// An error if the memory of a custom operation's result was written since: its gradient would be that of
    /// the rule, which knows nothing of the write.
    #[inline]
    pub fn check_history(&self) -> Result<()> {
        if self.is_custom_view() {
            self.check_custom_view()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn check_custom_view(&self) -> Result<()> {
        let Some(ViewOf::Custom { version }) = lock(&self.0.meta).view else { return Ok(()) };
        ensure!(
            self.version() == version,
            Autograd,
            "{} and its base or another view of its base has been modified inplace (version {}, expected \
             {version}). {CUSTOM_VIEWS_ARE_FIXED}",
            self.named_output(),
            self.version()
        );
        Ok(())
    }

    /// An error if it came out of a custom operation with memory that others hold: it is about to be written.
    #[inline]
    pub(crate) fn check_no_custom_view(&self) -> Result<()> {
        ensure!(
            !self.is_custom_view(),
            Autograd,
            "{} and is being modified inplace. {CUSTOM_VIEWS_ARE_FIXED}",
            self.named_output()
        );
        Ok(())
    }

    /// `Output 0 of Square is a view (shape [3])`.
    fn named_output(&self) -> String {
        let (name, output) = match &lock(&self.0.meta).edge {
            Some(edge) => (edge.node.name(), edge.output),
            None => ("a custom Function".into(), 0),
        };
        let name = name.rsplit_once("Backward").map_or(name.as_str(), |(op, _)| op);
        format!("Output {output} of {name} is a view (shape {:?})", self.shape())
    }

    /// A tensor of `source`'s memory, whose gradient goes along `edge` if there is one.
    pub(crate) fn view_of(source: &Tensor, array: Array, edge: Option<Edge>, recording: bool) -> Tensor {
        let view = ViewOf::new(source, recording);
        Self::make_view(array, edge.is_some(), edge, Some(view))
    }

    /// Notes that this new tensor shares `source`'s memory.
    pub(crate) fn set_view_of(&self, source: &Tensor, recording: bool) {
        let view = ViewOf::new(source, recording);
        self.0.view.store(view.kind(), Ordering::Relaxed);
        lock(&self.0.meta).view = Some(view);
    }

    /// A new history, after an in-place write.
    pub(crate) fn set_history(&self, edge: Edge) {
        let old = self.replace_edge(&mut lock(&self.0.meta), Some(edge));
        self.0.requires_grad.store(true, Ordering::Relaxed);
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        drop(old);
    }

    /// Forgets the history: a leaf without gradient from now on.
    pub fn detach_(&self) -> Result<()> {
        ensure!(
            self.view_base().is_none() && !self.is_custom_view(),
            Autograd,
            "detach_: Can't detach views in-place (this is one of shape {:?}); use detach() instead",
            self.shape()
        );
        let old = self.replace_edge(&mut lock(&self.0.meta), None);
        let is_cut = self.0.requires_grad.swap(false, Ordering::Relaxed);
        self.0.is_cut.fetch_or(is_cut, Ordering::Relaxed);
        drop(old);
        Ok(())
    }

    /// Exchanges the history; a retained gradient is from now on that of the new one.
    fn replace_edge(&self, meta: &mut Meta, edge: Option<Edge>) -> Option<Edge> {
        if let Some(handle) = meta.rare.as_mut().and_then(|rare| rare.retain.take()) {
            handle.remove();
            let retain = edge.as_ref().map(|edge| edge.register_retain(self.downgrade()));
            meta.rare().retain = retain;
        }
        if edge.is_some() {
            self.0.has_history.store(true, Ordering::Relaxed);
        }
        std::mem::replace(&mut meta.edge, edge)
    }

    pub(crate) fn is_stale(&self) -> bool {
        lock(&self.0.meta).view.as_ref().is_some_and(ViewOf::is_stale)
    }

    /// Brings a view's history up to date when its base was written in place since.
    pub(super) fn refresh(&self) {
        if !self.is_view() || !self.is_stale() {
            return;
        }
        let Some(base) = self.view_base() else { return };
        let now = base.0.generation.load(Ordering::Relaxed);
        let version_now = base.version();
        // With a base that needs no gradient any more, a view that had a history has one that leads nowhere.
        let had_history = lock(&self.0.meta).edge.is_some();
        let edge = region::record_read(&base, self.array().layout(), had_history);
        let mut meta = lock(&self.0.meta);
        let mut old = None;
        if edge.is_some() {
            old = self.replace_edge(&mut meta, edge);
            self.0.requires_grad.store(true, Ordering::Relaxed);
        }
        if let Some(ViewOf::Followed { generation, version, .. }) = &mut meta.view {
            (*generation, *version) = (now, version_now);
        }
        drop(meta);
        drop(old);
    }
}

impl ViewOf {
    /// What a new tensor of `source`'s memory is a view of.
    fn new(source: &Tensor, recording: bool) -> Self {
        if recording && source.is_custom_view() {
            return Self::Custom { version: source.version() };
        }
        let known =
            if source.is_view() { lock(&source.0.meta).view.as_ref().and_then(ViewOf::base) } else { None };
        if !recording || source.is_silent_view() {
            let base = known.as_ref().unwrap_or(source);
            // `w = x.view(2, 2).requires_grad_()` is a leaf, and the base of its views: `x` asks for nothing.
            let base = if source.requires_grad() && !base.requires_grad() { source } else { base };
            return Self::Silent { base: base.downgrade() };
        }
        let base = known.unwrap_or_else(|| source.clone());
        let generation = base.0.generation.load(Ordering::Relaxed);
        Self::Followed { base, generation, version: source.version() }
    }
}
