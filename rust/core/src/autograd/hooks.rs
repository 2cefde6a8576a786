//! Hooks: what is called when gradients pass a tensor, a node or a leaf.

use super::node::{lock, next_id, try_lock, Edge, InputGrads, Node, NodeRef, OutputGrads};
use crate::tensor::{Tensor, WeakTensor};
use crate::{Error, Kind, Result};
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Sees the gradient of a tensor and may replace it. Closures do; a binding has a type of its own, so that
/// its garbage collector finds what the hook holds ([`visit_own_hooks`]).
pub trait GradHook: Any + Send + Sync {
    /// Called with the complete gradient; what it returns takes its place.
    fn call(&self, grad: &Tensor) -> Result<Option<Tensor>>;

    /// Called when the tensor's node has its turn and no gradient has come to the tensor.
    fn call_without(&self) -> Result<()> {
        Ok(())
    }

    /// What messages call it.
    fn name(&self) -> String {
        "hook".into()
    }

    /// Called with a leaf whose node has had its turn, most often since its gradient has been added.
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
    /// What messages call it.
    fn name(&self) -> String {
        "hook".into()
    }

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
pub(super) type Hooks = Mutex<Vec<RegisteredHook>>;

pub(super) struct RegisteredHook {
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

/// Hooks of the tensors that the node made.
impl Node {
    /// The hooks in the order of registration, each with its output: to be called without the lock, a hook
    /// may remove itself.
    fn calls(&self) -> Option<Vec<(usize, Call)>> {
        let hooks = self.hooks()?;
        Some(lock(hooks).iter().map(|hook| (hook.output, hook.call.clone())).collect())
    }

    /// Lets the hooks of tensors see, and replace, the gradients that arrived; then keeps those that are
    /// retained.
    pub(crate) fn run_hooks(&self, grads: &mut OutputGrads) -> Result<()> {
        let Some(calls) = self.calls() else { return Ok(()) };
        for (output, call) in &calls {
            let Call::Hook(hook) = call else { continue };
            let Some(grad) = &mut grads[*output] else {
                hook.call_without()?;
                continue;
            };
            if let Some(replaced) = hook.call(grad)? {
                check_replaced(|| hook.name(), grad, &replaced)?;
                *grad = replaced;
            }
        }
        for (output, call) in &calls {
            let (Call::Retain(tensor), Some(grad)) = (call, &grads[*output]) else { continue };
            // A view of what was written since has another history now.
            if let Some(tensor) = tensor.upgrade().filter(|tensor| !tensor.is_stale()) {
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
        note_kept();
        let id = next_id();
        let hooks = self.hooks_or(Arc::default);
        lock(hooks).push(RegisteredHook { id, output, call });
        HookHandle { hooks: Arc::downgrade(hooks), id }
    }

    /// Lets the hooks of the node see, and replace, the gradients of its outputs.
    pub(crate) fn run_prehooks(&self, grads: &mut OutputGrads) -> Result<()> {
        for (_, call) in self.calls().iter().flatten() {
            let Call::Before(hook) = call else { continue };
            if let Some(replaced) = hook.before(grads)? {
                check_all_replaced(|| hook.name(), grads, &replaced)?;
                *grads = replaced.into();
            }
        }
        Ok(())
    }

    /// Whether something is to see the gradients that the rule gives.
    pub(crate) fn has_posthooks(&self) -> bool {
        self.hooks().is_some_and(|hooks| lock(hooks).iter().any(|hook| matches!(hook.call, Call::After(_))))
    }

    /// Lets the hooks of the node see, and replace, the gradients of its inputs.
    pub(crate) fn run_posthooks(&self, inputs: &mut InputGrads, outputs: &OutputGrads) -> Result<()> {
        for (_, call) in self.calls().iter().flatten() {
            let Call::After(hook) = call else { continue };
            if let Some(replaced) = hook.after(inputs, outputs)? {
                check_all_replaced(|| hook.name(), inputs, &replaced)?;
                *inputs = replaced.into();
            }
        }
        Ok(())
    }

    /// The kinds of its hooks in the order of registration, as the methods that register them are called, each
    /// with the output that it sees.
    pub fn hook_kinds(&self) -> Vec<(&'static str, usize)> {
        let kind = |call: &Call| match call {
            Call::Hook(_) => "hook",
            Call::Retain(_) => "retain_grad",
            Call::Before(_) => "node prehook",
            Call::After(_) => "node hook",
            Call::Accumulated(_) => "post_accumulate_grad_hook",
        };
        let hooks = self.hooks().map(|hooks| lock(hooks));
        hooks.iter().flat_map(|hooks| hooks.iter()).map(|hook| (kind(&hook.call), hook.output)).collect()
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
fn check_all_replaced(
    hook: impl Fn() -> String,
    grads: &[Option<Tensor>],
    replaced: &[Option<Tensor>],
) -> Result<()> {
    crate::ensure!(
        replaced.len() == grads.len(),
        Autograd,
        "{}: it has returned an incorrect number of values: got {}, but expected {}; return a gradient \
         or None for each",
        hook(),
        replaced.len(),
        grads.len()
    );
    for pair in grads.iter().zip(replaced) {
        match pair {
            (Some(grad), Some(replaced)) => check_replaced(&hook, grad, replaced)?,
            (None, Some(replaced)) => return Err(no_gradient(&hook(), replaced.shape())),
            _ => {}
        }
    }
    Ok(())
}

/// The error of a hook that returned a gradient of that shape in place of none.
pub fn no_gradient(hook: &str, shape: &[usize]) -> Error {
    Error::new(
        Kind::Autograd,
        format!(
            "{hook}: can't replace a None gradient with a non-None value (of shape {shape:?}); return None where \
             None is given"
        ),
    )
}

fn check_replaced(hook: impl Fn() -> String, grad: &Tensor, replaced: &Tensor) -> Result<()> {
    crate::ensure!(
        replaced.shape() == grad.shape(),
        Shape,
        "{}: the returned gradient has shape {:?}, the tensor's is {:?}; return one of the same shape",
        hook(),
        replaced.shape(),
        grad.shape()
    );
    crate::ensure!(
        replaced.dtype() == grad.dtype(),
        Autograd,
        "{}: the hook has changed the type of value (was {}, is {}); return a gradient of the same dtype",
        hook(),
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
        let hooks = other.node.hooks_or(Arc::default).clone();
        self.node.hooks_or(|| hooks);
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

/// Nodes that are looked through from one handle: the collector asks for them again and again.
const MOST_OWN_NODES: usize = 10_000;

/// Whether anything has ever been kept at a node that a garbage collector could want to see.
static ANYTHING_KEPT: AtomicBool = AtomicBool::new(false);

/// Notes that something is.
pub(super) fn note_kept() {
    ANYTHING_KEPT.store(true, Ordering::Relaxed);
}

/// Calls `look` with the nodes that live only as long as the handle `node`: itself and those behind it, each
/// kept by one edge alone. The same nodes as long as nobody has got at `node` through this handle.
fn for_own_nodes(node: &NodeRef, mut look: impl FnMut(&NodeRef)) {
    if !ANYTHING_KEPT.load(Ordering::Relaxed) || node.owners() != 1 {
        return;
    }
    let mut waiting = vec![node];
    let mut left = MOST_OWN_NODES;
    while let Some(node) = waiting.pop() {
        look(node);
        left -= 1;
        if left == 0 {
            return;
        }
        let behind = node.edges().iter().flatten().map(|edge| &edge.node);
        waiting.extend(behind.filter(|behind| behind.owners() == 1));
    }
}

/// Shows the hooks, the metadata and the payloads that live only as long as the handle `node`: for a binding's
/// garbage collector, which may follow a reference only if nothing else would keep alive what it finds. It
/// never waits for a lock.
///
/// What is shown once is shown again as long as nobody has got at `node` through this handle: there is no
/// other way to it, so no other thread can come to hold it, its hooks or their lock.
pub fn visit_own_hooks(node: &NodeRef, visit: &mut dyn FnMut(&dyn Any)) {
    for_own_nodes(node, |node| {
        node.kept_metadata().into_iter().for_each(|metadata| visit(metadata));
        node.op().payload().into_iter().for_each(&mut *visit);
        node.op().visit_packed(visit);
        let Some(hooks) = own_hooks(node) else { return };
        for hook in hooks.iter() {
            match &hook.call {
                Call::Hook(hook) | Call::Accumulated(hook) if Arc::strong_count(hook) == 1 => visit(&**hook),
                Call::Before(hook) | Call::After(hook) if Arc::strong_count(hook) == 1 => visit(&**hook),
                _ => {}
            }
        }
    });
}

/// Removes these hooks, and frees what other hooks keep of what the nodes saved. The former may hold anything:
/// drop them without locks.
#[must_use]
pub fn take_own_hooks(node: &NodeRef) -> impl Sized {
    let mut taken = Vec::new();
    for_own_nodes(node, |node| {
        let mut is_packed = false;
        node.op().visit_packed(&mut |_| is_packed = true);
        if is_packed {
            node.op().free();
        }
        taken.extend(own_hooks(node).map(|mut hooks| std::mem::take(&mut *hooks)));
    });
    taken
}

/// The hooks of a node that is held by the handle `node` alone, and shares them with no other node.
fn own_hooks(node: &NodeRef) -> Option<MutexGuard<'_, Vec<RegisteredHook>>> {
    let hooks = node.hooks()?;
    if node.owners() != 1 || Arc::strong_count(hooks) != 1 {
        return None;
    }
    try_lock(hooks)
}

impl fmt::Debug for HookHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookHandle({})", self.id)
    }
}
