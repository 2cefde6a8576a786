//! The graph: nodes, edges, and how they are freed without recursion.

use crate::array::Array;
use crate::dtype::DType;
use crate::layout::{small, Dims};
use crate::tensor::{Tensor, WeakTensor};
use crate::Result;
use smallvec::SmallVec;
use std::any::Any;
use std::fmt;
use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError, Weak};

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
    /// Frees what was saved; a later `backward` is an error if it needs that.
    fn free(&self) {}
    /// What is saved at present: its part in the operation, and the data.
    fn saved(&self) -> Vec<(String, Array)> {
        Vec::new()
    }
    /// What a binding's operation holds, for its garbage collector.
    fn payload(&self) -> Option<&dyn Any> {
        None
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
}

impl<'a> Needs<'a> {
    /// What `node` is asked for: `wanted` has a word for each edge.
    pub(crate) fn new(node: &'a NodeRef, wanted: Option<&'a [bool]>) -> Self {
        Self { edges: node.edges(), wanted }
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
    pending: Mutex<SmallVec<[Pending; 1]>>,
    hooks: OnceLock<Arc<Hooks>>,
    metadata: OnceLock<Metadata>,
    op: O,
}

/// What a binding keeps at a node.
pub type Metadata = Box<dyn Any + Send + Sync>;

/// A shared node of any operation.
pub type NodeRef = Arc<Node<dyn Backward>>;

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

/// Gradients that have arrived at a node in one backward run.
#[derive(Debug)]
struct Pending {
    run: u64,
    grads: OutputGrads,
}

/// Sees the gradient of a tensor and may replace it. Closures do; a binding has a type of its own, so that
/// its garbage collector finds what the hook holds ([`visit_own_hooks`]).
pub trait GradHook: Any + Send + Sync {
    /// Called with the complete gradient; what it returns takes its place.
    fn call(&self, grad: &Tensor) -> Result<Option<Tensor>>;

    /// Called with a leaf whose gradient has been added.
    fn tell(&self, leaf: &Tensor) -> Result<()> {
        self.call(leaf).map(drop)
    }
}

impl<F: Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync + 'static> GradHook for F {
    fn call(&self, grad: &Tensor) -> Result<Option<Tensor>> {
        self(grad)
    }
}

/// A shared hook.
pub type Hook = Arc<dyn GradHook>;

/// Sees a node at work: its gradients, before or after its rule runs.
pub trait NodeHook: Any + Send + Sync {
    /// Called with the gradients of the outputs before the rule runs; what it returns takes their place.
    fn before(&self, outputs: &[Option<Tensor>]) -> Result<Option<Vec<Option<Tensor>>>> {
        let _ = outputs;
        Ok(None)
    }

    /// Called with the gradients of the inputs, and those of the outputs that they were computed from; what
    /// it returns takes the place of the former.
    fn after(
        &self,
        inputs: &[Option<Tensor>],
        outputs: &[Option<Tensor>],
    ) -> Result<Option<Vec<Option<Tensor>>>> {
        let _ = (inputs, outputs);
        Ok(None)
    }
}

/// The hooks of a node's outputs, in the order of registration.
type Hooks = Mutex<Vec<RegisteredHook>>;

struct RegisteredHook {
    id: u64,
    output: usize,
    call: Call,
}

#[derive(Clone)]
enum Call {
    Hook(Hook),
    /// Keeps the gradient that the hooks leave in the tensor's `.grad`.
    Retain(WeakTensor),
    /// Sees the gradients of all outputs before the rule runs.
    Before(Arc<dyn NodeHook>),
    /// Sees the gradients of all inputs after the rule has run.
    After(Arc<dyn NodeHook>),
    /// Sees the leaf when its gradient has been added to `.grad`.
    Accumulated(Hook),
}

/// Names a registered hook, to remove it. It keeps neither the hook nor the graph alive.
#[derive(Clone)]
pub struct HookHandle {
    hooks: Weak<Hooks>,
    id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number larger than all given out before.
pub(crate) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Locks, also after a panic elsewhere: the data is valid after every statement that changes it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<O> Node<O> {
    fn with_op(op: O, edges: Edges, outputs: SmallVec<[Meta; 1]>) -> Self {
        Self {
            id: next_id(),
            edges,
            outputs,
            pending: Mutex::new(SmallVec::new()),
            hooks: OnceLock::new(),
            metadata: OnceLock::new(),
            op,
        }
    }
}

impl Node {
    /// A node newer than all others.
    pub(crate) fn new<O: Backward + 'static>(op: O, edges: Edges, outputs: SmallVec<[Meta; 1]>) -> NodeRef {
        Arc::new(Node::with_op(op, edges, outputs))
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

    /// Adds a gradient of output `output` that arrived in `run`; true if it is the run's first here.
    pub(crate) fn receive(
        &self,
        run: u64,
        output: usize,
        grad: Tensor,
        add: impl FnOnce(Tensor, Tensor) -> Result<Tensor>,
    ) -> Result<bool> {
        let mut pending = lock(&self.pending);
        if let Some(entry) = pending.iter_mut().find(|p| p.run == run) {
            let Some(held) = entry.grads[output].take() else {
                entry.grads[output] = Some(grad);
                return Ok(false);
            };
            // Added without the lock; a run has one thread, so the entry is still its own afterwards.
            drop(pending);
            let sum = add(held, grad)?;
            let mut pending = lock(&self.pending);
            if let Some(entry) = pending.iter_mut().find(|p| p.run == run) {
                entry.grads[output] = Some(sum);
            }
            return Ok(false);
        }
        let mut grads = OutputGrads::new();
        grads.resize(self.outputs.len(), None);
        grads[output] = Some(grad);
        pending.push(Pending { run, grads });
        Ok(true)
    }

    /// Takes what arrived in `run`.
    pub(crate) fn take_pending(&self, run: u64) -> OutputGrads {
        let mut pending = lock(&self.pending);
        match pending.iter().position(|p| p.run == run) {
            Some(i) => pending.swap_remove(i).grads,
            None => OutputGrads::new(),
        }
    }

    /// What a binding keeps here, made when it is first asked for.
    pub fn metadata(&self, make: impl FnOnce() -> Metadata) -> &(dyn Any + Send + Sync) {
        &**self.metadata.get_or_init(make)
    }

    /// The hooks in the order of registration, each with its output: to be called without the lock, a hook
    /// may remove itself.
    fn calls(&self) -> Option<Vec<(usize, Call)>> {
        let hooks = self.hooks.get()?;
        Some(lock(hooks).iter().map(|hook| (hook.output, hook.call.clone())).collect())
    }

    /// Lets the hooks of tensors see, and replace, the gradients that arrived; then keeps those that are
    /// retained.
    pub(crate) fn run_hooks(&self, grads: &mut OutputGrads) -> Result<()> {
        let Some(calls) = self.calls() else { return Ok(()) };
        for (output, call) in &calls {
            let (Call::Hook(hook), Some(grad)) = (call, &mut grads[*output]) else { continue };
            if let Some(replaced) = hook.call(grad)? {
                check_replaced(grad, &replaced)?;
                *grad = replaced;
            }
        }
        for (output, call) in &calls {
            let (Call::Retain(tensor), Some(grad)) = (call, &grads[*output]) else { continue };
            if let Some(tensor) = tensor.upgrade() {
                tensor.grad_slot().retain(grad)?;
            }
        }
        Ok(())
    }
}

/// Hooks of the node as a whole, and of the leaf that it fills.
impl Node {
    /// Calls `hook` before the node's rule runs, in every backward run.
    pub fn register_prehook(&self, hook: Arc<dyn NodeHook>) -> HookHandle {
        self.register(0, Call::Before(hook))
    }

    /// Calls `hook` after the node's rule has run, in every backward run.
    pub fn register_hook(&self, hook: Arc<dyn NodeHook>) -> HookHandle {
        self.register(0, Call::After(hook))
    }

    fn register(&self, output: usize, call: Call) -> HookHandle {
        let id = next_id();
        let hooks = self.hooks.get_or_init(Arc::default);
        lock(hooks).push(RegisteredHook { id, output, call });
        HookHandle { hooks: Arc::downgrade(hooks), id }
    }

    /// Lets the hooks of the node see, and replace, the gradients of its outputs.
    pub(crate) fn run_prehooks(&self, grads: &mut OutputGrads) -> Result<()> {
        for (_, call) in self.calls().iter().flatten() {
            let Call::Before(hook) = call else { continue };
            if let Some(replaced) = hook.before(grads)? {
                check_all_replaced("prehook", grads, &replaced)?;
                *grads = replaced.into();
            }
        }
        Ok(())
    }

    /// Whether something is to see the gradients that the rule gives.
    pub(crate) fn has_posthooks(&self) -> bool {
        self.hooks
            .get()
            .is_some_and(|hooks| lock(hooks).iter().any(|hook| matches!(hook.call, Call::After(_))))
    }

    /// Lets the hooks of the node see, and replace, the gradients of its inputs.
    pub(crate) fn run_posthooks(&self, inputs: &mut InputGrads, outputs: &OutputGrads) -> Result<()> {
        for (_, call) in self.calls().iter().flatten() {
            let Call::After(hook) = call else { continue };
            if let Some(replaced) = hook.after(inputs, outputs)? {
                check_all_replaced("hook", inputs, &replaced)?;
                *inputs = replaced.into();
            }
        }
        Ok(())
    }

    /// Tells the hooks of `leaf`, whose node this is, that its gradient has been added.
    pub(crate) fn run_accumulated(&self, leaf: impl FnOnce() -> Option<Tensor>) -> Result<()> {
        let Some(calls) = self.calls() else { return Ok(()) };
        let hooks: Vec<_> = calls
            .iter()
            .filter_map(|(_, call)| if let Call::Accumulated(hook) = call { Some(hook) } else { None })
            .collect();
        if hooks.is_empty() {
            return Ok(());
        }
        let Some(leaf) = leaf() else { return Ok(()) };
        hooks.into_iter().try_for_each(|hook| hook.tell(&leaf))
    }
}

/// Gradients that a hook of a node returned: as many, and of the same shapes and dtypes.
fn check_all_replaced(hook: &str, grads: &[Option<Tensor>], replaced: &[Option<Tensor>]) -> Result<()> {
    crate::ensure!(
        replaced.len() == grads.len(),
        Autograd,
        "{hook}: hook has returned an incorrect number of values: got {}, but expected {}; return a gradient \
         or None for each",
        replaced.len(),
        grads.len()
    );
    for pair in grads.iter().zip(replaced) {
        if let (Some(grad), Some(replaced)) = pair {
            check_replaced(grad, replaced)?;
        }
    }
    Ok(())
}

fn check_replaced(grad: &Tensor, replaced: &Tensor) -> Result<()> {
    crate::ensure!(
        replaced.shape() == grad.shape(),
        Shape,
        "hook: the returned gradient has shape {:?}, the tensor's is {:?}; return one of the same shape",
        replaced.shape(),
        grad.shape()
    );
    crate::ensure!(
        replaced.dtype() == grad.dtype(),
        Autograd,
        "hook: the hook has changed the type of value (was {}, is {}); return a gradient of the same dtype",
        grad.dtype(),
        replaced.dtype()
    );
    Ok(())
}

impl Edge {
    /// Calls `hook` with the complete gradient of this output in every backward run.
    pub(crate) fn register_hook(&self, hook: Hook) -> HookHandle {
        self.register(Call::Hook(hook))
    }

    /// Keeps the gradient of this output in `tensor`'s `.grad` in every backward run, after all hooks.
    pub(crate) fn register_retain(&self, tensor: WeakTensor) -> HookHandle {
        self.register(Call::Retain(tensor))
    }

    /// Calls `hook` with the leaf that it stands for, whenever a backward run has added to its `.grad`.
    pub(crate) fn register_accumulated(&self, hook: Hook) -> HookHandle {
        self.register(Call::Accumulated(hook))
    }

    fn register(&self, call: Call) -> HookHandle {
        self.node.register(self.output, call)
    }

    /// Takes the hooks of `other` over.
    pub(crate) fn share_hooks_of(&self, other: &Edge) {
        let hooks = other.node.hooks.get_or_init(Arc::default);
        let _ = self.node.hooks.set(hooks.clone());
    }

    /// Shape and dtype of the tensor that it stands for.
    #[inline]
    pub fn meta(&self) -> &Meta {
        &self.node.outputs[self.output]
    }
}

impl HookHandle {
    /// Stops the hook from being called.
    pub fn remove(&self) {
        let Some(hooks) = self.hooks.upgrade() else { return };
        let removed = {
            let mut hooks = lock(&hooks);
            hooks.iter().position(|h| h.id == self.id).map(|i| hooks.remove(i))
        };
        drop(removed); // without the lock: what the closure holds may reach these hooks again
    }
}

/// Shows the hooks, the metadata and the payload that live only as long as the handle `node`: for a binding's garbage collector, which may
/// follow a reference only if nothing else would keep alive what it finds. It never waits for a lock.
///
/// What is shown once is shown again as long as nobody has got at `node` through this handle: there is no
/// other way to it, so no other thread can come to hold it, its hooks or their lock.
pub fn visit_own_hooks(node: &NodeRef, visit: &mut dyn FnMut(&dyn Any)) {
    if Arc::strong_count(node) == 1 {
        node.metadata.get().into_iter().for_each(|metadata| visit(&**metadata));
        node.op.payload().into_iter().for_each(&mut *visit);
    }
    let Some(hooks) = own_hooks(node) else { return };
    for hook in hooks.iter() {
        match &hook.call {
            Call::Hook(hook) | Call::Accumulated(hook) if Arc::strong_count(hook) == 1 => visit(&**hook),
            Call::Before(hook) | Call::After(hook) if Arc::strong_count(hook) == 1 => visit(&**hook),
            _ => {}
        }
    }
}

/// Removes these hooks. They may hold anything: drop them without locks.
#[must_use]
pub fn take_own_hooks(node: &NodeRef) -> impl Sized {
    own_hooks(node).map(|mut hooks| std::mem::take(&mut *hooks))
}

/// The hooks of a node that is held by the handle `node` alone, and shares them with no other node.
fn own_hooks(node: &NodeRef) -> Option<MutexGuard<'_, Vec<RegisteredHook>>> {
    let hooks = node.hooks.get()?;
    if Arc::strong_count(node) != 1 || Arc::strong_count(hooks) != 1 {
        return None;
    }
    try_lock(hooks)
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
        if Arc::strong_count(&edge.node) == 1 {
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
            if let Some(node) = Arc::get_mut(&mut edge.node) {
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

impl fmt::Debug for HookHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookHandle({})", self.id)
    }
}
