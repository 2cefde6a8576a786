//! What operations save for their gradient rules: data with its version, or what a hook made of it.

use super::anomaly::{changed_by, is_on};
use super::apply::without_recording;
use super::hooks::note_kept;
use super::node::{lock, try_lock, Meta};
use super::op::Op;
use crate::array::Array;
use crate::mode::{self, has_saved_hooks};
use crate::tensor::Tensor;
use crate::{bail, ensure, Result};
use std::any::Any;
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};

/// An array as it was when an operation saved it. It holds no history: that is in the node's edges.
#[derive(Debug, Clone)]
pub enum SavedArray {
    /// The data, and the version that it must still have.
    Plain(Array, u32),
    /// What a hook keeps in its stead.
    Packed(Arc<PackedArray>),
}

/// What a hook made of saved data, and how the data looked.
pub struct PackedArray {
    packed: Box<dyn Packed>,
    meta: Meta,
}

impl fmt::Debug for PackedArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({:?})", self.meta)
    }
}

impl SavedArray {
    /// What `op` saves of `array`; an error if that was made in inference mode.
    #[inline]
    pub(crate) fn new(op: &str, array: &Array) -> Result<Self> {
        check_savable(op, array)?;
        Ok(Self::plain_of(array))
    }

    fn plain_of(array: &Array) -> Self {
        Self::Plain(array.clone(), array.storage().version())
    }

    /// What the thread's hooks make of `tensor`, which `op` saves.
    fn pack(op: &str, tensor: &Tensor) -> Result<Self> {
        let plain = Self::new(op, tensor.array())?;
        let hooks = HOOKS.with_borrow(|hooks| hooks.last().cloned());
        let Some(hooks) = hooks else { return Ok(plain) };
        let version = tensor.version();
        let packed = without_recording(|| hooks.pack(tensor))?;
        ensure!(
            tensor.version() == version,
            Autograd,
            "saved_tensors_hooks: A saved tensor pack hook is modifying its input in place (shape {:?}); change \
             a .clone() of it",
            tensor.shape()
        );
        Ok(Self::Packed(Arc::new(PackedArray { packed, meta: Meta::of(tensor.array()) })))
    }

    /// Shows what a hook keeps, if nothing else would keep it.
    pub(super) fn visit_packed(&self, visit: &mut dyn FnMut(&dyn Any)) {
        if let Self::Packed(packed) = self {
            if Arc::strong_count(packed) == 1 {
                visit(&*packed.packed);
            }
        }
    }

    /// The data, if no hook keeps it.
    pub(crate) fn plain(&self) -> Option<&Array> {
        match self {
            Self::Plain(array, _) => Some(array),
            Self::Packed(_) => None,
        }
    }

    /// The same, as data: what a hook keeps is asked for.
    fn unpacked(&self, op: &str, role: impl Display) -> Result<Self> {
        Ok(match self {
            Self::Plain(..) => self.clone(),
            Self::Packed(packed) => Self::plain_of(&packed.unpack(op, role)?),
        })
    }

    /// The data, if nobody has written to it since.
    pub fn unchanged(&self, op: &str, role: impl Display) -> Result<Array> {
        let (array, expected) = match self {
            Self::Plain(array, version) => (array, *version),
            Self::Packed(packed) => return packed.unpack(op, role),
        };
        let version = array.storage().version();
        if version != expected {
            bail!(
                Autograd,
                "{op}: one of the variables needed for gradient computation has been modified by an \
                 inplace operation: {role} of shape {:?} ({}) is at version {version}; expected version \
                 {expected} instead; use an out-of-place operation, or change a .clone() of it{}",
                array.shape(),
                array.dtype(),
                changed_by(array, expected)
            );
        }
        Ok(array.clone())
    }
}

impl PackedArray {
    /// Shape and dtype of what was packed.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The arrays among what is kept in its stead, as far as the hook tells.
    pub fn arrays(&self) -> Vec<Array> {
        self.packed.arrays()
    }

    /// Kernels trust what was saved: it must look as it did.
    fn unpack(&self, op: &str, role: impl Display) -> Result<Array> {
        let tensor = self.packed.unpack()?;
        let Meta { shape, dtype } = &self.meta;
        ensure!(
            tensor.shape() == shape.as_slice() && tensor.dtype() == *dtype,
            Shape,
            "{op}: the unpack hook returned a tensor of shape {:?} ({}) for {role} of shape {:?} ({dtype}); \
             return one like the tensor that was packed",
            tensor.shape(),
            tensor.dtype(),
            shape.as_slice()
        );
        Ok(tensor.array().clone())
    }
}

/// What an operation on `N` tensors has saved.
#[derive(Debug, Clone)]
pub(crate) struct SavedSet<const N: usize> {
    pub(super) inputs: [Option<SavedArray>; N],
    pub(super) output: Option<SavedArray>,
}

impl<const N: usize> Default for SavedSet<N> {
    #[inline(always)]
    fn default() -> Self {
        Self { inputs: [const { None }; N], output: None }
    }
}

impl<const N: usize> SavedSet<N> {
    /// The same for one call of the rule, which may read a part more than once: hooks are asked here, once.
    pub(crate) fn unpacked(mut self, op: &str) -> Result<Self> {
        for (i, input) in self.inputs.iter_mut().enumerate() {
            if let Some(saved @ SavedArray::Packed(_)) = input {
                *input = Some(saved.unpacked(op, format_args!("input {i}"))?);
            }
        }
        if let Some(saved @ SavedArray::Packed(_)) = &self.output {
            self.output = Some(saved.unpacked(op, "the output")?);
        }
        Ok(self)
    }

    /// Whether hooks keep any of its parts.
    pub(super) fn is_packed(&self) -> bool {
        self.inputs.iter().chain([&self.output]).flatten().any(|saved| saved.plain().is_none())
    }

    /// What hooks keep of its parts.
    pub(super) fn visit_packed(&self, visit: &mut dyn FnMut(&dyn Any)) {
        let parts = self.inputs.iter().chain([&self.output]).flatten();
        parts.for_each(|saved| saved.visit_packed(visit));
    }

    /// Holds on to the output, which did not exist when the inputs were saved.
    pub(crate) fn keep_output(&mut self, op: &str, output: &Array) -> Result<()> {
        let saved = if has_saved_hooks() {
            SavedArray::pack(op, &Tensor::constant(output.clone()))?
        } else {
            SavedArray::new(op, output)?
        };
        self.output = Some(saved);
        Ok(())
    }
}

/// An intermediate result in an operation's field, with its version; freed with the graph.
#[derive(Default)]
pub struct Kept(Mutex<Option<SavedArray>>);

impl Kept {
    /// One that keeps `array` from the start.
    pub fn of(array: Array) -> Self {
        Self(Mutex::new(Some(SavedArray::plain_of(&array))))
    }

    /// One that keeps the data of `tensor`, which `op` saves, or what the thread's hooks make of it.
    pub fn packed(op: &str, tensor: &Tensor) -> Result<Self> {
        Ok(Self(Mutex::new(Some(SavedArray::pack(op, tensor)?))))
    }

    /// Keeps `array`.
    pub fn set(&mut self, array: Array) {
        *self = Self::of(array);
    }

    /// What `op` kept; an error after the graph was freed, or after somebody has written to it.
    pub fn get(&self, op: &str) -> Result<Array> {
        self.get_part(op, "an intermediate result")
    }

    /// The same for what errors call `role`.
    pub fn get_part(&self, op: &str, role: impl Display) -> Result<Array> {
        // Without the lock: an unpack hook may do anything.
        let saved = lock(&self.0).clone();
        saved.ok_or_else(freed_error)?.unchanged(op, role)
    }

    /// What is kept, if anything is and no hook keeps it.
    pub fn array(&self) -> Option<Array> {
        lock(&self.0).as_ref().and_then(SavedArray::plain).cloned()
    }

    /// What is kept, if anything is: the data, or what a hook made of it.
    pub fn saved(&self) -> Option<SavedArray> {
        lock(&self.0).clone()
    }

    /// Hands what is kept to the thread's hooks.
    fn pack(&self, op: &str) -> Result<()> {
        let Some(array) = self.array() else { return Ok(()) };
        let packed = SavedArray::pack(op, &Tensor::constant(array))?;
        let old = lock(&self.0).replace(packed);
        drop(old); // without the lock
        Ok(())
    }

    /// Shows what a hook keeps, if nothing else would keep it; never waits for a lock.
    pub fn visit_packed(&self, visit: &mut dyn FnMut(&dyn Any)) {
        if let Some(saved) = try_lock(&self.0).as_deref().and_then(Option::as_ref) {
            saved.visit_packed(visit);
        }
    }

    /// Frees it.
    pub fn clear(&self) {
        let old = lock(&self.0).take();
        drop(old); // without the lock
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.array() {
            Some(array) => write!(f, "<{} of shape {:?}>", array.dtype(), array.shape()),
            None => f.write_str("<nothing>"),
        }
    }
}

/// An error if `array`, which `op` is to save, was made in inference mode.
#[inline]
pub(crate) fn check_savable(op: &str, array: &Array) -> Result<()> {
    if array.storage().is_inference() {
        return Err(inference_error(op, array.shape()));
    }
    Ok(())
}

#[cold]
fn inference_error(op: &str, shape: &[usize]) -> crate::Error {
    let text = format!(
        "{op}: Inference tensors cannot be saved for backward (shape {shape:?}). To work around this, you can make \
         a clone() to get a normal tensor and use it in autograd, or use `no_grad()` instead of `inference_mode()`"
    );
    crate::Error::new(crate::Kind::Autograd, text)
}

/// What a node says whose graph was freed.
#[cold]
pub fn freed_error() -> crate::Error {
    crate::Error::new(
        crate::Kind::Autograd,
        format!(
            "Trying to backward through the graph a second time (or directly access saved tensors after \
             they have already been freed): the first backward freed them. Specify retain_graph=True in \
             the first .backward() or autograd.grad() call to go through the graph again{}",
            if is_on() { "" } else { "; torch.autograd.set_detect_anomaly(True) names its line" }
        ),
    )
}

/// Decides how what operations save is kept: elsewhere, compressed, or not at all.
pub trait SavedHooks: Send + Sync {
    /// What is kept of `tensor` instead of its data. Called without recording.
    fn pack(&self, tensor: &Tensor) -> Result<Box<dyn Packed>>;
}

/// What a pack hook kept.
pub trait Packed: Any + Send + Sync {
    /// The tensor again: of the same shape and dtype.
    fn unpack(&self) -> Result<Tensor>;

    /// The arrays that it holds, for those who count memory.
    fn arrays(&self) -> Vec<Array> {
        Vec::new()
    }
}

thread_local! {
    /// The hooks of this thread; the last ones are asked.
    static HOOKS: RefCell<Vec<Arc<dyn SavedHooks>>> = const { RefCell::new(Vec::new()) };
}

/// Hands what operations of this thread save to `hooks` until [`pop_saved_hooks`].
pub fn push_saved_hooks(hooks: Arc<dyn SavedHooks>) {
    note_kept();
    HOOKS.with_borrow_mut(|all| all.push(hooks));
    mode::set_saved_hooks(true);
}

/// Removes, and returns, the hooks that were pushed last.
pub fn pop_saved_hooks() -> Option<Arc<dyn SavedHooks>> {
    HOOKS.with_borrow_mut(|all| {
        let last = all.pop();
        mode::set_saved_hooks(!all.is_empty());
        last
    })
}

/// Hands what `op` has saved in `set` to the thread's hooks.
#[cold]
pub(crate) fn pack_set<const N: usize>(op: &str, set: &mut SavedSet<N>, inputs: [&Tensor; N]) -> Result<()> {
    for (saved, input) in set.inputs.iter_mut().zip(inputs) {
        let Some(array) = saved.as_ref().and_then(SavedArray::plain) else { continue };
        let is_input = array.is_same_memory(input.array());
        let tensor = if is_input { input.clone() } else { Tensor::constant(array.clone()) };
        *saved = Some(SavedArray::pack(op, &tensor)?);
    }
    if let Some(array) = set.output.as_ref().and_then(SavedArray::plain) {
        set.output = Some(SavedArray::pack(op, &Tensor::constant(array.clone()))?);
    }
    Ok(())
}

/// Hands what `op` keeps in its fields to the thread's hooks.
#[cold]
pub(crate) fn pack_kept<O: Op<N>, const N: usize>(op: &O) -> Result<()> {
    let mut result = Ok(());
    op.visit_kept(&mut |kept| {
        if result.is_ok() {
            result = kept.pack(O::NAME);
        }
    });
    result
}
