//! The graph: nodes, edges, and how they are freed without recursion.

use super::anomaly::{self, FreedBy, Origin};
use super::arrivals::Mark;
use super::hooks::{note_kept, Hooks};
use super::saved::SavedArray;
use crate::array::Array;
use crate::dtype::DType;
use crate::layout::{small, Dims};
use crate::shared::{coerced, Shared, Uninit};
use crate::tensor::Tensor;
use crate::Result;
use smallvec::SmallVec;
use std::any::Any;
use std::fmt;
use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};

/// Gradients of a node's outputs; `None` where none arrived.
pub type OutputGrads = SmallVec<[Option<Tensor>; 1]>;
/// Gradients of a node's inputs, in the order of its edges.
pub type InputGrads = SmallVec<[Option<Tensor>; 2]>;
/// A node's inputs; `None` where no gradient is asked for.
pub type Edges = SmallVec<[Option<Edge>; 2]>;

/// What the engine asks of a node, whatever its operation.
pub trait Backward: fmt::Debug + Send + Sync {
    /// PyTorch's name of the node: `MulBackward0`.
    fn name(&self) -> String;
    /// A gradient per edge, where `needs` asks for it. `node` is the node itself, to link saved outputs to.
    fn backward(&self, node: &NodeRef, needs: Needs<'_>, grads: OutputGrads) -> Result<InputGrads>;
    /// As [`Op::only_moves`](super::op::Op::only_moves).
    fn only_moves(&self) -> bool {
        false
    }
    /// Frees what was saved; a later `backward` is an error if it needs that.
    fn free(&self) {}
    /// What is saved at present: its part in the operation, and the data or what a hook made of it.
    fn saved(&self) -> Vec<(String, SavedArray)> {
        Vec::new()
    }
    /// Whether a backward pass has freed what was saved.
    fn is_freed(&self) -> bool {
        false
    }
    /// What a binding's operation holds, for its garbage collector.
    fn payload(&self) -> Option<&dyn Any> {
        None
    }
    /// What hooks keep of what was saved, and nothing else does: for the same. It never waits for a lock.
    fn visit_packed(&self, visit: &mut dyn FnMut(&dyn Any)) {
        let _ = visit;
    }
    /// The operation with its attributes, for people.
    fn describe(&self) -> String {
        format!("{self:?}")
    }
    /// The leaf whose `.grad` this node fills, if it is such a node.
    fn leaf(&self, node: &NodeRef) -> Option<Tensor> {
        let _ = node;
        None
    }
    /// Tells such a node that its leaf is another tensor now.
    fn moved_to(&self, leaf: &Tensor) {
        let _ = leaf;
    }
}

/// Which gradients a rule is asked for: those of all inputs that have an edge, or of fewer in a run that
/// looks for the gradients of some tensors alone.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    edges: &'a [Option<Edge>],
    wanted: Option<&'a [bool]>,
    is_last: bool,
}

impl<'a> Needs<'a> {
    /// What `node` is asked for: `wanted` has a word for each edge. What it has saved is freed afterwards if
    /// `is_last`.
    pub(crate) fn new(node: &'a NodeRef, wanted: Option<&'a [bool]>, is_last: bool) -> Self {
        Self { edges: node.edges(), wanted, is_last }
    }

    /// Whether the rule may take what was saved, for it is freed afterwards.
    pub(super) fn is_last(self) -> bool {
        self.is_last
    }

    /// Whether the gradient of input `i` is asked for.
    #[inline]
    pub fn of(self, i: usize) -> bool {
        self.edges[i].is_some() && self.wanted.is_none_or(|wanted| wanted[i])
    }
}

/// One recorded operation, or the place where a leaf's gradient arrives.
pub struct Node<O: ?Sized = dyn Backward> {
    id: u64,
    edges: Edges,
    outputs: SmallVec<[Meta; 1]>,
    mark: Mark,
    extras: OnceLock<Box<Extras>>,
    op: O,
}

/// What few nodes have.
#[derive(Default)]
struct Extras {
    hooks: OnceLock<Arc<Hooks>>,
    metadata: OnceLock<Metadata>,
    origin: OnceLock<Arc<Origin>>,
    freed_by: OnceLock<Arc<FreedBy>>,
}

/// What a binding keeps at a node.
pub type Metadata = Box<dyn Any + Send + Sync>;

/// A shared node of any operation.
pub type NodeRef = Shared<Node<dyn Backward>>;

/// An output of a node: where a tensor's gradient is sent.
#[derive(Clone)]
pub struct Edge {
    /// The node that made the tensor.
    pub node: NodeRef,
    /// Which of its outputs.
    pub output: usize,
}

/// What the gradient of an output must look like.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Extents of the output.
    pub shape: Dims,
    /// Its dtype.
    pub dtype: DType,
}

impl Meta {
    /// As `array` looks.
    #[inline]
    pub(crate) fn of(array: &Array) -> Self {
        Self { shape: small(array.shape()), dtype: array.dtype() }
    }
}

/// A node that is being made where it stays.
pub(super) struct NewNode<O>(Shared<Node<O>>);

/// What is still to be filled in.
pub(super) struct Parts<'a, O> {
    pub edges: &'a mut Edges,
    pub outputs: &'a mut SmallVec<[Meta; 1]>,
    pub op: &'a mut O,
}

impl<O: Backward + 'static> NewNode<O> {
    #[inline(always)]
    pub fn begin(op: O) -> Self {
        Self(Uninit::new().fill(Node {
            id: 0,
            edges: Edges::new(),
            outputs: SmallVec::new(),
            mark: Mark::default(),
            extras: OnceLock::new(),
            op,
        }))
    }

    #[inline(always)]
    pub fn parts(&mut self) -> Parts<'_, O> {
        let Some(Node { edges, outputs, op, .. }) = self.0.get_mut() else {
            unreachable!("nobody else has it")
        };
        Parts { edges, outputs, op }
    }

    /// The node of an operation that has run, newer than all others.
    #[inline(always)]
    pub fn finish(self) -> NodeRef {
        noted(self.numbered())
    }

    #[inline(always)]
    fn numbered(mut self) -> NodeRef {
        if let Some(node) = self.0.get_mut() {
            node.id = next_id();
        }
        coerced!(self.0, Node)
    }
}

/// `node`, of an operation that has run: in anomaly mode it is noted where.
#[inline(always)]
fn noted(node: NodeRef) -> NodeRef {
    if anomaly::is_on() {
        anomaly::note_origin(&node);
    }
    node
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number larger than all given out before.
pub(crate) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Locks, also after a panic elsewhere: the data is valid after every statement that changes it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Node {
    /// The node of an operation that has run, newer than all others.
    pub(crate) fn record<O: Backward + 'static>(
        op: O,
        edges: Edges,
        outputs: SmallVec<[Meta; 1]>,
    ) -> NodeRef {
        noted(Self::new(op, edges, outputs))
    }

    /// A node newer than all others.
    pub(crate) fn new<O: Backward + 'static>(op: O, edges: Edges, outputs: SmallVec<[Meta; 1]>) -> NodeRef {
        let mut new = NewNode::begin(op);
        let parts = new.parts();
        (*parts.edges, *parts.outputs) = (edges, outputs);
        new.numbered()
    }

    /// Creation number: inputs of a node always have smaller ones.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// PyTorch's name: `MulBackward0`.
    pub fn name(&self) -> String {
        self.op.name()
    }

    /// Where the gradients of the inputs go.
    #[inline]
    pub fn edges(&self) -> &[Option<Edge>] {
        &self.edges
    }

    /// What its outputs look like.
    pub fn outputs(&self) -> &[Meta] {
        &self.outputs
    }

    /// The operation's side of the node.
    #[inline]
    pub fn op(&self) -> &dyn Backward {
        &self.op
    }

    /// Where backward passes find what has arrived here.
    #[inline]
    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// What a binding keeps here, made when it is first asked for.
    pub fn metadata(&self, make: impl FnOnce() -> Metadata) -> &(dyn Any + Send + Sync) {
        note_kept();
        &**self.extras().metadata.get_or_init(make)
    }

    fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
    }

    /// The same, if it has been asked for.
    pub(super) fn kept_metadata(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&**self.extras.get()?.metadata.get()?)
    }

    /// The hooks, if there have ever been any.
    pub(super) fn hooks(&self) -> Option<&Arc<Hooks>> {
        self.extras.get()?.hooks.get()
    }

    /// The place of the hooks.
    pub(super) fn hooks_or(&self, make: impl FnOnce() -> Arc<Hooks>) -> &Arc<Hooks> {
        self.extras().hooks.get_or_init(make)
    }

    /// Where it was recorded, if that was noted.
    pub fn origin(&self) -> Option<&Arc<Origin>> {
        self.extras.get()?.origin.get()
    }

    pub(super) fn set_origin(&self, origin: Arc<Origin>) {
        let _ = self.extras().origin.set(origin);
    }

    /// What freed it, if that was noted.
    pub(super) fn freed_by(&self) -> Option<&FreedBy> {
        self.extras.get()?.freed_by.get().map(|freed_by| &**freed_by)
    }

    pub(super) fn set_freed_by(&self, freed_by: Arc<FreedBy>) {
        let _ = self.extras().freed_by.set(freed_by);
    }
}

impl Edge {
    /// Shape and dtype of the tensor that it stands for.
    #[inline]
    pub fn meta(&self) -> &Meta {
        &self.node.outputs[self.output]
    }
}

/// The content of `mutex` if nobody is at it, for the only holder of what it stands in: what others did
/// before they let go of it has been done.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    fence(Ordering::Acquire);
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Moves the edges that alone keep their nodes to `stack`, and drops the others: their nodes live on.
/// One after the other: of two edges to one node (`y * y`) the second is its last.
fn take_last_edges(edges: &mut Edges, stack: &mut SmallVec<[Edge; 2]>) {
    for edge in edges.iter_mut().filter_map(Option::take) {
        if edge.node.owners() == 1 {
            stack.push(edge);
        }
    }
    edges.clear();
}

/// A chain of a million nodes is freed in a loop: each node hands its edges to the stack of the
/// first before it goes.
impl<O: ?Sized> Drop for Node<O> {
    fn drop(&mut self) {
        let mut stack: SmallVec<[Edge; 2]> = SmallVec::new();
        take_last_edges(&mut self.edges, &mut stack);
        while let Some(mut edge) = stack.pop() {
            if let Some(node) = edge.node.get_mut() {
                take_last_edges(&mut node.edges, &mut stack);
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.name())
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.node, self.output)
    }
}
