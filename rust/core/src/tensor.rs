//! A tensor: an array and its place in the graph. What can be done with it is in `ops/`.

use crate::array::Array;
use crate::autograd::node::{lock, Backward, InputGrads, Meta as NodeMeta, Node, NodeRef, OutputGrads};
use crate::autograd::{Edge, Hook, HookHandle};
use crate::dtype::Element;
use crate::layout::small;
use crate::ops::region;
use crate::{ensure, DType, Result};
use smallvec::smallvec;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// An n-dimensional array that can take part in a graph. Cloning gives another handle to the same
/// tensor, as in Python.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

pub(crate) struct Inner {
    array: Array,
    /// A leaf that asks for a gradient, or a tensor with a history.
    requires_grad: AtomicBool,
    is_view: AtomicBool,
    /// Counts new histories by in-place writes, so that views know when theirs is out of date.
    generation: AtomicU32,
    pub(crate) meta: Mutex<Meta>,
}

/// What only some tensors have.
#[derive(Default)]
pub(crate) struct Meta {
    edge: Option<Edge>,
    rare: Option<Box<Rare>>,
}

/// What few tensors have.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) grad: Option<Tensor>,
    /// The node that fills `grad`; it holds this tensor, so only weakly held here.
    accumulator: Option<Weak<Node<AccumulateGrad>>>,
    view: Option<ViewOf>,
    retain: Option<HookHandle>,
}

/// The tensor that a view was taken of, and which of its histories the view's edge belongs to.
struct ViewOf {
    base: Tensor,
    generation: u32,
}

impl Meta {
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// The node at which a leaf's gradient arrives.
#[derive(Debug)]
struct AccumulateGrad(Tensor);

impl Backward for AccumulateGrad {
    fn name(&self) -> String {
        "AccumulateGrad".into()
    }

    fn backward(&self, _node: &NodeRef, mut grads: OutputGrads) -> Result<InputGrads> {
        if let Some(grad) = grads.pop().flatten() {
            self.0.accumulate_grad(grad)?;
        }
        Ok(InputGrads::new())
    }

    fn leaf(&self) -> Option<&Tensor> {
        Some(&self.0)
    }
}

impl Tensor {
    #[inline]
    fn make(array: Array, requires_grad: bool, edge: Option<Edge>) -> Self {
        Self(Arc::new(Inner {
            array,
            requires_grad: AtomicBool::new(requires_grad),
            is_view: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            meta: Mutex::new(Meta { edge, rare: None }),
        }))
    }

    /// A leaf without gradient.
    #[inline]
    pub fn constant(array: Array) -> Self {
        Self::make(array, false, None)
    }

    /// A tensor whose gradient goes along `edge`.
    #[inline]
    pub(crate) fn with_edge(array: Array, edge: Edge) -> Self {
        Self::make(array, true, Some(edge))
    }

    /// A leaf with the elements of `values` in row-major order.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Self> {
        Ok(Self::constant(Array::from_slice(values, shape)?))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
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

    /// How often the storage was written in place.
    pub fn version(&self) -> u32 {
        self.0.array.storage().version()
    }

    /// Whether both handles name the same tensor.
    pub fn is_same(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A number that names this tensor as long as it lives.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
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
            "requires_grad_: only Tensors of floating point dtype can require gradients, not {}",
            self.dtype()
        );
        ensure!(
            requires_grad || self.is_leaf(),
            Autograd,
            "requires_grad_: you can only change requires_grad flags of leaf variables; use .detach() for a \
             tensor that does not require grad"
        );
        if self.is_leaf() {
            self.0.requires_grad.store(requires_grad, Ordering::Relaxed);
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

    /// Where its gradient is sent: to its node, or for a leaf to the node that fills `.grad`.
    #[inline]
    pub(crate) fn edge(&self) -> Option<Edge> {
        if !self.requires_grad() {
            return None;
        }
        self.refresh();
        let mut meta = lock(&self.0.meta);
        if let Some(edge) = &meta.edge {
            return Some(edge.clone());
        }
        let rare = meta.rare();
        if let Some(node) = rare.accumulator.as_ref().and_then(Weak::upgrade) {
            return Some(Edge { node, output: 0 });
        }
        let outputs = smallvec![NodeMeta { shape: small(self.shape()), dtype: self.dtype() }];
        let node = Node::leaf(AccumulateGrad(self.clone()), outputs);
        rare.accumulator = Some(Arc::downgrade(&node));
        Some(Edge { node, output: 0 })
    }

    /// The gradient that backward passes have summed up.
    pub fn grad(&self) -> Option<Tensor> {
        lock(&self.0.meta).rare.as_ref().and_then(|rare| rare.grad.clone())
    }

    /// Replaces or clears the gradient, which must look like the tensor.
    pub fn set_grad(&self, grad: Option<Tensor>) -> Result<()> {
        if let Some(grad) = &grad {
            ensure!(
                grad.shape() == self.shape() && grad.dtype() == self.dtype(),
                Autograd,
                "grad: assigned grad has shape {:?} and dtype {}, the tensor has shape {:?} and dtype {}; they \
                 must be equal",
                grad.shape(),
                grad.dtype(),
                self.shape(),
                self.dtype()
            );
            ensure!(!grad.is_same(self), Autograd, "grad: can't assign Variable as its own grad");
        }
        let old = match grad {
            None => lock(&self.0.meta).rare.as_mut().and_then(|rare| rare.grad.take()),
            grad => std::mem::replace(&mut lock(&self.0.meta).rare().grad, grad),
        };
        drop(old); // after the lock: freeing a graph may reach this tensor again
        Ok(())
    }

    /// The same data without history.
    #[inline]
    pub fn detach(&self) -> Tensor {
        Self::constant(self.array().clone())
    }

    /// Calls `hook` with this tensor's gradient in every backward pass; what it returns replaces the
    /// gradient.
    pub fn register_hook(&self, hook: Hook) -> Result<HookHandle> {
        let Some(edge) = self.edge() else {
            crate::bail!(
                Autograd,
                "register_hook: cannot register a hook on a tensor that doesn't require gradient"
            );
        };
        Ok(edge.register_hook(hook))
    }

    /// Keeps the gradient of a tensor that is not a leaf in `.grad`.
    pub fn retain_grad(&self) -> Result<()> {
        ensure!(
            self.requires_grad(),
            Autograd,
            "retain_grad: can't retain_grad on Tensor that has requires_grad=False"
        );
        if self.is_leaf() || self.retains_grad() {
            return Ok(());
        }
        let this = Arc::downgrade(&self.0);
        let handle = self.register_hook(Arc::new(move |grad| {
            if let Some(inner) = this.upgrade() {
                Tensor(inner).accumulate_grad(grad.clone())?;
            }
            Ok(None)
        }))?;
        lock(&self.0.meta).rare().retain = Some(handle);
        Ok(())
    }

    /// Whether `retain_grad` was called.
    pub fn retains_grad(&self) -> bool {
        lock(&self.0.meta).rare.as_ref().is_some_and(|rare| rare.retain.is_some())
    }

    /// Whether nobody else can see this tensor or its data.
    pub(crate) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.array().is_unique()
    }
}

/// Views and in-place writes: whose history is whose.
impl Tensor {
    pub(crate) fn is_view(&self) -> bool {
        self.0.is_view.load(Ordering::Relaxed)
    }

    /// The tensor that this is a view of.
    pub fn view_base(&self) -> Option<Tensor> {
        if !self.is_view() {
            return None;
        }
        lock(&self.0.meta).rare.as_ref().and_then(|rare| rare.view.as_ref()).map(|view| view.base.clone())
    }

    /// Notes that this tensor shares `source`'s memory.
    pub(crate) fn set_view_of(&self, source: &Tensor) {
        let base = source.view_base().unwrap_or_else(|| source.clone());
        let generation = base.0.generation.load(Ordering::Relaxed);
        lock(&self.0.meta).rare().view = Some(ViewOf { base, generation });
        self.0.is_view.store(true, Ordering::Relaxed);
    }

    /// A new history, after an in-place write.
    pub(crate) fn set_history(&self, edge: Edge) {
        let old = lock(&self.0.meta).edge.replace(edge);
        self.0.requires_grad.store(true, Ordering::Relaxed);
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        drop(old);
    }

    fn is_stale(&self) -> bool {
        let meta = lock(&self.0.meta);
        let view = meta.rare.as_ref().and_then(|rare| rare.view.as_ref());
        view.is_some_and(|view| view.generation != view.base.0.generation.load(Ordering::Relaxed))
    }

    /// Brings a view's history up to date when its base was written in place since.
    fn refresh(&self) {
        if !self.is_view() || !self.is_stale() {
            return;
        }
        let Some(base) = self.view_base() else { return };
        let generation = base.0.generation.load(Ordering::Relaxed);
        let edge = region::record_read(&base, self.array().layout());
        let mut meta = lock(&self.0.meta);
        let old = std::mem::replace(&mut meta.edge, edge);
        if let Some(view) = &mut meta.rare().view {
            view.generation = generation;
        }
        self.0.requires_grad.store(meta.edge.is_some(), Ordering::Relaxed);
        drop(meta);
        drop(old);
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
