//! A tensor: an array and its place in the graph. What can be done with it is in `ops/`.

use crate::array::Array;
use crate::autograd::hooks;
use crate::autograd::leaf::{AccumulateGrad, GradSlot};
use crate::autograd::node::{self, lock, Edges, Meta as NodeMeta, Node, NodeRef};
use crate::autograd::{Edge, Hook, HookHandle};
use crate::dtype::Element;
use crate::mode;
use crate::watched::{Watched, Weak as WeakReference};
use crate::{ensure, DType, Result};
use smallvec::smallvec;
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

mod replaced;
mod views;

/// An n-dimensional array that can take part in a graph. Cloning gives another handle to the same
/// tensor, as in Python.
#[derive(Clone)]
pub struct Tensor(Watched<Inner>);

/// A handle that does not keep its tensor alive.
#[derive(Clone, Default)]
pub(crate) struct WeakTensor(WeakReference<Inner>);

struct Inner {
    array: Array,
    /// A leaf that asks for a gradient, or a tensor with a history.
    requires_grad: AtomicBool,
    /// `NO_VIEW`, `VIEW`, `SILENT_VIEW` or `CUSTOM_VIEW`.
    view: AtomicU8,
    /// Counts new histories by in-place writes, so that views know when theirs is out of date.
    generation: AtomicU32,
    /// Whether it has lost a history: its views keep theirs until the next write.
    is_cut: AtomicBool,
    /// Whether it has ever had a history: it may have one now, which stands in `meta`.
    has_history: AtomicBool,
    /// A leaf's node, which fills the slot of its gradient. It stands here and not in `meta`, so that recorded
    /// operations find it without the lock.
    accumulator: OnceLock<NodeRef>,
    /// A word for a binding: its own object for this tensor. The core only keeps it.
    object: AtomicPtr<()>,
    meta: Mutex<Meta>,
}

/// Not known to share the memory of another tensor.
const NO_VIEW: u8 = 0;
/// Shares the memory of its base, whose history it follows.
const VIEW: u8 = 1;
/// Made while nothing was recorded: a write to it could not reach its base's history.
const SILENT_VIEW: u8 = 2;
/// Came out of a custom operation with memory that others hold, or is a view of such a tensor: no write can
/// extend its history, which is the custom rule's.
const CUSTOM_VIEW: u8 = 3;

/// What only some tensors have.
#[derive(Default)]
struct Meta {
    edge: Option<Edge>,
    view: Option<ViewOf>,
    rare: Option<Box<Rare>>,
}

/// What few tensors have.
#[derive(Default)]
struct Rare {
    /// Where the gradient is kept.
    slot: Option<Arc<GradSlot>>,
    retain: Option<HookHandle>,
    /// After the data was replaced: the tensor that this one and others became.
    replaced: Option<Arc<Latest>>,
    /// The same place, of which this tensor is the content.
    versions: Weak<Latest>,
}

/// What a tensor whose data is replaced again and again is at present. Those that it was hold this, and it
/// does not hold them.
type Latest = Mutex<Tensor>;

/// The tensor that a view was taken of.
enum ViewOf {
    /// A `VIEW`'s, and which of its histories, at which version of the memory, the view's edge belongs to.
    Followed { base: Tensor, generation: u32, version: u32 },
    /// A `SILENT_VIEW`'s: it keeps no graph alive. A base that nobody holds has no history to be lost.
    Silent { base: WeakTensor },
    /// A `CUSTOM_VIEW`: the version of the memory that its history belongs to.
    Custom { version: u32 },
}

impl ViewOf {
    /// Its tensor's `view`.
    fn kind(&self) -> u8 {
        match self {
            Self::Followed { .. } => VIEW,
            Self::Silent { .. } => SILENT_VIEW,
            Self::Custom { .. } => CUSTOM_VIEW,
        }
    }

    /// Whether the view's history is no longer that of its base.
    fn is_stale(&self) -> bool {
        let Self::Followed { base, generation, version } = self else { return false };
        *generation != base.0.generation.load(Ordering::Relaxed)
            || base.0.is_cut.load(Ordering::Relaxed) && *version != base.version()
    }

    /// The base, if somebody still holds it.
    fn base(&self) -> Option<Tensor> {
        match self {
            Self::Followed { base, .. } => Some(base.clone()),
            Self::Silent { base } => base.upgrade(),
            Self::Custom { .. } => None,
        }
    }
}

impl Meta {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl WeakTensor {
    /// The tensor, if somebody still holds it.
    pub fn upgrade(&self) -> Option<Tensor> {
        self.0.upgrade().map(Tensor)
    }
}

impl fmt::Debug for WeakTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakTensor")
    }
}

impl Tensor {
    #[inline(always)]
    fn make(array: Array, requires_grad: bool, edge: Option<Edge>) -> Self {
        Self::make_view(array, requires_grad, edge, None)
    }

    /// The same for a view of another tensor.
    #[inline(always)]
    fn make_view(array: Array, requires_grad: bool, edge: Option<Edge>, view: Option<ViewOf>) -> Self {
        let mut new = Watched::new(Inner {
            array,
            requires_grad: AtomicBool::new(requires_grad),
            view: AtomicU8::new(view.as_ref().map_or(NO_VIEW, ViewOf::kind)),
            generation: AtomicU32::new(0),
            is_cut: AtomicBool::new(false),
            has_history: AtomicBool::new(edge.is_some()),
            accumulator: OnceLock::new(),
            object: AtomicPtr::new(std::ptr::null_mut()),
            meta: Mutex::default(),
        });
        // Moved into the mutex, they would be copied from an odd address right after they were written there.
        if let Some(Ok(meta)) = new.get_mut().map(|inner| inner.meta.get_mut()) {
            (meta.edge, meta.view) = (edge, view);
        }
        Self(new)
    }

    /// A leaf without gradient.
    #[inline]
    pub fn constant(array: Array) -> Self {
        Self::make(array, false, None)
    }

    /// A tensor whose gradient goes along `edge`. Gradient rules link what they saved, which holds no history,
    /// to its own in this way.
    #[inline]
    pub fn with_edge(array: Array, edge: Edge) -> Self {
        Self::make(array, true, Some(edge))
    }

    /// A leaf with the elements of `values` in row-major order.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Self> {
        Ok(Self::constant(Array::from_slice(values, shape)?))
    }

    /// A leaf that asks for a gradient, with the node and the place for its gradient that it had before.
    pub(crate) fn leaf_of(array: Array, slot: Arc<GradSlot>, node: NodeRef) -> Self {
        let leaf = Self::make(array, true, None);
        lock(&leaf.0.meta).rare().slot = Some(slot);
        leaf.set_accumulator(node);
        leaf
    }

    /// Gives a new leaf the node that it had before.
    fn set_accumulator(&self, node: NodeRef) {
        let _ = self.0.accumulator.set(node); // it has none yet
    }

    pub(crate) fn downgrade(&self) -> WeakTensor {
        WeakTensor(self.0.downgrade())
    }

    /// A word in which a binding may keep its own object for this tensor. The core never reads it.
    pub fn object(&self) -> &AtomicPtr<()> {
        &self.0.object
    }

    /// The data.
    #[inline]
    pub fn array(&self) -> &Array {
        &self.0.array
    }

    /// Extents.
    #[inline]
    pub fn shape(&self) -> &[usize] {
        self.0.array.shape()
    }

    /// Number of dims.
    #[inline]
    pub fn rank(&self) -> usize {
        self.0.array.rank()
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        self.0.array.numel()
    }

    /// Type of the elements.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.0.array.dtype()
    }

    /// Whether its memory was made in inference mode: no graph can save it, and it is written in that mode alone.
    pub fn is_inference(&self) -> bool {
        self.0.array.storage().is_inference()
    }

    /// How often the storage was written in place.
    pub fn version(&self) -> u32 {
        self.0.array.storage().version()
    }

    /// Whether both handles name the same tensor.
    pub fn is_same(&self, other: &Tensor) -> bool {
        self.0.is_same(&other.0)
    }

    /// A number that names this tensor as long as it lives.
    pub fn id(&self) -> usize {
        self.0.address()
    }

    /// Whether a gradient for it will be computed.
    #[inline]
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed)
            || (self.is_view()
                && self.view_base().is_some_and(|base| base.requires_grad() && self.is_stale()))
    }

    /// Asks for a gradient, or no longer does. Only leaves can be changed, and only floats asked.
    pub fn set_requires_grad(&self, requires_grad: bool) -> Result<()> {
        ensure!(
            !requires_grad || self.dtype().is_float(),
            Autograd,
            "requires_grad_: only Tensors of floating point dtype can require gradients, not {} (shape {:?}); \
             convert with .float(), or ask for no gradient",
            self.dtype(),
            self.shape()
        );
        ensure!(
            requires_grad || self.is_leaf(),
            Autograd,
            "requires_grad_: you can only change requires_grad flags of leaf variables, not of the result of {} \
             (shape {:?}); use .detach() for a tensor that does not require grad",
            self.grad_fn().map_or_else(String::new, |edge| edge.node.name()),
            self.shape()
        );
        ensure!(
            !requires_grad || !self.is_inference() || mode::is_inference(),
            Autograd,
            "requires_grad_: Setting requires_grad=True on inference tensor outside InferenceMode is not allowed \
             (shape {:?}); clone() it to get a normal tensor",
            self.shape()
        );
        if self.is_leaf() {
            let before = self.0.requires_grad.swap(requires_grad, Ordering::Relaxed);
            self.0.is_cut.fetch_or(before && !requires_grad, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether it has no history: made by the user, or detached.
    pub fn is_leaf(&self) -> bool {
        self.refresh();
        lock(&self.0.meta).edge.is_none()
    }

    /// The node that made it, and which of its outputs it is; none for leaves.
    pub fn grad_fn(&self) -> Option<Edge> {
        self.refresh();
        lock(&self.0.meta).edge.clone()
    }

    /// Where its gradient is sent: to its node, or for a leaf to the node that fills `.grad`. An error if its
    /// history is out of date for good ([`Tensor::check_history`]).
    #[inline]
    pub fn edge(&self) -> Result<Option<Edge>> {
        self.check_history()?;
        Ok(self.edge_unchecked())
    }

    /// Adds the same to the edges of a node, written where it stays.
    #[inline]
    pub(crate) fn push_edge(&self, edges: &mut Edges) -> Result<()> {
        if self.is_view() {
            edges.push(self.edge()?);
            return Ok(());
        }
        if !self.0.requires_grad.load(Ordering::Relaxed) {
            edges.push(None);
            return Ok(());
        }
        if self.0.has_history.load(Ordering::Relaxed) {
            if let Some(edge) = &lock(&self.0.meta).edge {
                edges.push(Some(edge.clone()));
                return Ok(());
            }
        } else if let Some(node) = self.0.accumulator.get() {
            edges.push(Some(Edge { node: node.clone(), output: 0 }));
            return Ok(());
        }
        edges.push(self.edge_unchecked());
        Ok(())
    }

    /// The same for a tensor that comes out of no custom operation.
    #[inline]
    pub(crate) fn edge_unchecked(&self) -> Option<Edge> {
        if !self.requires_grad() {
            return None;
        }
        if !self.0.has_history.load(Ordering::Relaxed) && !self.is_view() {
            if let Some(node) = self.0.accumulator.get() {
                return Some(Edge { node: node.clone(), output: 0 });
            }
        }
        self.refresh();
        let mut meta = lock(&self.0.meta);
        if let Some(edge) = &meta.edge {
            return Some(edge.clone());
        }
        let slot = meta.rare().slot.get_or_insert_default();
        let node = self.0.accumulator.get_or_init(|| {
            let leaf = AccumulateGrad::new(slot.clone(), self.array().clone(), self.downgrade());
            Node::new(leaf, Edges::new(), smallvec![NodeMeta::of(self.array())])
        });
        Some(Edge { node: node.clone(), output: 0 })
    }

    /// The gradient that backward passes have summed up.
    pub fn grad(&self) -> Option<Tensor> {
        let grad = lock(&self.0.meta).rare.as_ref()?.slot.as_ref()?.peek()?;
        if grad.successor().is_some() {
            return self.grad_slot().get();
        }
        Some(grad)
    }

    /// The place of its gradient.
    pub(crate) fn grad_slot(&self) -> Arc<GradSlot> {
        lock(&self.0.meta).rare().slot.get_or_insert_default().clone()
    }

    /// The gradient of this tensor, if nobody else can reach it; the tensor is freed then.
    pub(crate) fn into_sole_grad(self) -> Option<Tensor> {
        let Inner { accumulator, meta, .. } = self.0.into_inner()?;
        drop(accumulator); // a leaf's node holds the slot, too
        let slot = meta.into_inner().ok()?.rare?.slot?;
        Arc::into_inner(slot)?.take()
    }

    /// Replaces or clears the gradient, which must look like the tensor.
    pub fn set_grad(&self, grad: Option<Tensor>) -> Result<()> {
        if let Some(grad) = &grad {
            ensure!(
                grad.shape() == self.shape() && grad.dtype() == self.dtype(),
                Autograd,
                "grad: assigned grad has shape {:?} and dtype {}, the tensor has shape {:?} and dtype {}; they \
                 must be equal: {}",
                grad.shape(),
                grad.dtype(),
                self.shape(),
                self.dtype(),
                if grad.shape() == self.shape() {
                    format!("convert it with .to(torch.{})", self.dtype())
                } else {
                    "sum or expand it to the tensor's shape".into()
                }
            );
            ensure!(
                !grad.is_same(self),
                Autograd,
                "grad: can't assign Variable as its own grad (shape {:?}); assign a .detach().clone() of it",
                self.shape()
            );
        }
        if grad.is_some() || lock(&self.0.meta).rare.as_ref().is_some_and(|rare| rare.slot.is_some()) {
            drop(self.grad_slot().replace(grad));
        }
        Ok(())
    }

    /// As `detach`; itself where nobody else has it and it has nothing but its data.
    pub(crate) fn into_plain(mut self) -> Tensor {
        let is_plain = self.0.get_mut().is_some_and(|inner| {
            let meta = inner.meta.get_mut().ok();
            let has_nothing =
                |meta: &mut Meta| meta.edge.is_none() && meta.view.is_none() && meta.rare.is_none();
            meta.is_some_and(has_nothing)
                && inner.accumulator.get().is_none()
                && !*inner.requires_grad.get_mut()
                && inner.object.get_mut().is_null()
        });
        if is_plain {
            self
        } else {
            self.detach()
        }
    }

    /// The same data without history.
    #[inline]
    pub fn detach(&self) -> Tensor {
        Self::constant(self.array().clone())
    }

    /// Calls `hook` with this tensor's gradient in every backward pass; what it returns replaces the
    /// gradient.
    pub fn register_hook(&self, hook: Hook) -> Result<HookHandle> {
        let Some(edge) = self.edge()? else {
            crate::bail!(
                Autograd,
                "register_hook: cannot register a hook on a tensor that doesn't require gradient (shape {:?}); call \
                 requires_grad_() on it first, or compute it from tensors that require grad",
                self.shape()
            );
        };
        Ok(edge.register_hook(hook))
    }

    /// Calls `hook` with this leaf whenever a backward pass has added to its `.grad`.
    pub fn register_post_accumulate_grad_hook(&self, hook: Hook) -> Result<HookHandle> {
        ensure!(
            self.requires_grad() && self.is_leaf(),
            Autograd,
            "register_post_accumulate_grad_hook: post accumulate grad hooks can only be registered on leaf \
             tensors that require grad, this one (shape {:?}) {}",
            self.shape(),
            if self.is_leaf() {
                "does not require it; call requires_grad_() on it first"
            } else {
                "was computed; use register_hook for results"
            }
        );
        let Some(edge) = self.edge()? else { unreachable!("a leaf that requires grad has an edge") };
        Ok(edge.register_accumulated(hook))
    }

    /// Shows the hooks that live only as long as this handle: nobody else holds the tensor, nor its node
    /// ([`hooks::visit_own_hooks`]).
    pub fn visit_own_hooks(&self, visit: &mut dyn FnMut(&dyn Any)) {
        let Some(meta) = self.own_meta() else { return };
        self.own_nodes(&meta).for_each(|node| hooks::visit_own_hooks(node, visit));
    }

    /// Removes these hooks, which may hold anything: drop them without locks.
    #[must_use]
    pub fn take_own_hooks(&self) -> impl Sized {
        self.own_meta().map(|meta| self.own_nodes(&meta).map(hooks::take_own_hooks).collect::<Vec<_>>())
    }

    /// The node that made it, and the one that fills its gradient.
    fn own_nodes<'a>(&'a self, meta: &'a Meta) -> impl Iterator<Item = &'a NodeRef> {
        meta.edge.iter().map(|edge| &edge.node).chain(self.0.accumulator.get())
    }

    /// Its place in the graph, if this is the only handle to the tensor.
    fn own_meta(&self) -> Option<MutexGuard<'_, Meta>> {
        (self.0.owners() == 1).then(|| node::try_lock(&self.0.meta)).flatten()
    }

    /// Keeps the gradient of a tensor that is not a leaf in `.grad`.
    pub fn retain_grad(&self) -> Result<()> {
        ensure!(
            self.requires_grad(),
            Autograd,
            "retain_grad: can't retain_grad on Tensor that has requires_grad=False (shape {:?}); call \
             requires_grad_() on it first, or compute it from tensors that require grad",
            self.shape()
        );
        if self.is_leaf() || self.retains_grad() {
            return Ok(());
        }
        let Some(edge) = self.edge()? else { return Ok(()) };
        let handle = edge.register_retain(self.downgrade());
        lock(&self.0.meta).rare().retain = Some(handle);
        Ok(())
    }

    /// Whether `retain_grad` was called.
    pub fn retains_grad(&self) -> bool {
        lock(&self.0.meta).rare.as_ref().is_some_and(|rare| rare.retain.is_some())
    }

    /// Whether nobody else can see this tensor or its data.
    pub(crate) fn is_unique(&self) -> bool {
        self.0.owners() == 1 && self.array().is_unique()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor(shape={:?}, dtype={}", self.shape(), self.dtype())?;
        if let Some(edge) = self.grad_fn() {
            write!(f, ", grad_fn={:?}", edge.node)?;
        } else if self.requires_grad() {
            f.write_str(", requires_grad=True")?;
        }
        f.write_str(")")
    }
}
