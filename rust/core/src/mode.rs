//! What holds for a thread: whether operations are recorded, whether this is inference, and whether hooks see
//! what is saved.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Grad mode is on.
const GRAD: u8 = 1;
/// Inference mode is on.
const INFERENCE: u8 = 2;
/// Hooks are asked what to keep of what operations save.
const SAVED_HOOKS: u8 = 4;

thread_local! {
    /// All in one place, so that an operation reads it once.
    static MODE: Cell<u8> = const { Cell::new(GRAD) };
}

/// Whether any thread has been in inference mode. Until then an allocation need not look for its thread's cell,
/// which costs a call in a shared library.
static INFERENCE_USED: AtomicBool = AtomicBool::new(false);

/// Whether any thread has had such hooks: likewise.
static SAVED_HOOKS_USED: AtomicBool = AtomicBool::new(false);

/// Whether operations on this thread are recorded for a backward pass: grad mode is on, and inference mode off.
#[inline]
pub fn is_recording() -> bool {
    MODE.get() & (GRAD | INFERENCE) == GRAD
}

/// Whether grad mode is on for this thread.
#[inline]
pub fn is_grad_enabled() -> bool {
    MODE.get() & GRAD != 0
}

/// Whether inference mode is on for this thread: what is allocated in it belongs to tensors that no graph will
/// save, and that are written in it alone.
#[inline]
pub fn is_inference() -> bool {
    INFERENCE_USED.load(Ordering::Relaxed) && MODE.get() & INFERENCE != 0
}

/// Turns grad mode on or off for this thread.
#[inline]
pub fn set_grad_enabled(enabled: bool) {
    let others = MODE.get() & !GRAD;
    MODE.set(if enabled { others | GRAD } else { others });
}

/// Turns inference mode on or off for this thread.
#[inline]
pub fn set_inference(enabled: bool) {
    let others = MODE.get() & !INFERENCE;
    MODE.set(if enabled { others | INFERENCE } else { others });
    note_use(enabled);
}

/// Whether hooks of this thread see what operations save.
#[inline]
pub fn has_saved_hooks() -> bool {
    SAVED_HOOKS_USED.load(Ordering::Relaxed) && MODE.get() & SAVED_HOOKS != 0
}

/// Notes whether there are such hooks.
pub(crate) fn set_saved_hooks(any: bool) {
    SAVED_HOOKS_USED.fetch_or(any, Ordering::Relaxed);
    let others = MODE.get() & !SAVED_HOOKS;
    MODE.set(if any { others | SAVED_HOOKS } else { others });
}

/// Every thread notes its own use before it depends on it: no order among threads is needed.
fn note_use(enabled: bool) {
    if enabled {
        INFERENCE_USED.store(true, Ordering::Relaxed);
    }
}

/// A mode of the thread until this value is dropped.
#[derive(Debug)]
pub struct GradMode {
    previous: u8,
}

impl GradMode {
    /// Grad mode on or off; dropping the guard restores the previous mode.
    pub fn set(enabled: bool) -> Self {
        let guard = Self { previous: MODE.get() & !SAVED_HOOKS };
        set_grad_enabled(enabled);
        guard
    }

    /// No recording, as PyTorch's `no_grad`.
    pub fn disabled() -> Self {
        Self::set(false)
    }

    /// PyTorch's `inference_mode`: without it, operations are recorded, whatever the mode was.
    pub fn inference(enabled: bool) -> Self {
        note_use(enabled);
        let hooks = MODE.get() & SAVED_HOOKS;
        let previous = MODE.replace(hooks | if enabled { INFERENCE } else { GRAD });
        Self { previous: previous & !SAVED_HOOKS }
    }
}

impl Drop for GradMode {
    fn drop(&mut self) {
        MODE.set(self.previous | MODE.get() & SAVED_HOOKS);
    }
}
