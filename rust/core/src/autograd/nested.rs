//! Backward passes that run inside of others: in hooks and custom operations.

use crate::{ensure, stack, Result};
use std::cell::Cell;

/// Backward passes that may run inside each other, in hooks and custom operations: each takes its part of
/// the thread's stack, about 4 kB with a hook written in Python.
const DEEPEST: usize = 1000;
/// Bytes of stack that a pass inside of another must find: for its rules, and for what its hooks call.
const STACK_NEEDED: usize = 96 << 10;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static LOOKS_FOR_INPUTS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the backward pass that runs in this thread, the innermost, looks for the gradients of some tensors
/// alone.
pub fn looks_for_inputs() -> bool {
    LOOKS_FOR_INPUTS.get()
}

/// One backward pass that runs, perhaps inside of others.
pub(super) struct Nested {
    outer_looks_for_inputs: bool,
}

impl Nested {
    pub fn enter(looks_for_inputs: bool) -> Result<Self> {
        let depth = DEPTH.get();
        let fits = depth == 0 || depth < DEEPEST && stack::left().is_none_or(|left| left >= STACK_NEEDED);
        ensure!(
            fits,
            Autograd,
            "backward: {depth} backward passes run inside each other, called by hooks or custom functions; a \
             deeper nest would overflow the stack: begin them after one another, or in a thread with a larger \
             stack"
        );
        DEPTH.set(depth + 1);
        Ok(Self { outer_looks_for_inputs: LOOKS_FOR_INPUTS.replace(looks_for_inputs) })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        LOOKS_FOR_INPUTS.set(self.outer_looks_for_inputs);
    }
}
