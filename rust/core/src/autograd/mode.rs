//! Whether operations are recorded: a flag of the thread.

use std::cell::Cell;

thread_local! {
    static GRAD_ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Whether operations on this thread are recorded for a backward pass.
#[inline]
pub fn is_grad_enabled() -> bool {
    GRAD_ENABLED.get()
}

/// Turns recording on or off for this thread.
#[inline]
pub fn set_grad_enabled(enabled: bool) {
    GRAD_ENABLED.set(enabled);
}

/// Recording on or off until this value is dropped.
#[derive(Debug)]
pub struct GradMode {
    previous: bool,
}

impl GradMode {
    /// Sets the mode of this thread; dropping the guard restores the previous one.
    pub fn set(enabled: bool) -> Self {
        Self { previous: GRAD_ENABLED.replace(enabled) }
    }

    /// No recording, as PyTorch's `no_grad`.
    pub fn disabled() -> Self {
        Self::set(false)
    }
}

impl Drop for GradMode {
    fn drop(&mut self) {
        GRAD_ENABLED.set(self.previous);
    }
}
