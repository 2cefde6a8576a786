//! The graph and the backward pass. Reading order: `op`, `saved`, `apply`, `node`, `hooks`,
//! `leaf`, `engine`, `arrivals`, `search`, `nested`, `tied`, `anomaly`.

pub mod anomaly;
pub(crate) mod apply;
mod arrivals;
mod custom;
pub mod engine;
pub mod hooks;
pub(crate) mod inplace;
pub(crate) mod leaf;
mod nested;
pub mod node;
pub mod op;
pub mod saved;
mod search;
mod tied;

pub use crate::mode::{self, is_grad_enabled, is_recording, GradMode};
pub use apply::{apply, apply_many};
pub use custom::{record_custom, Produced};
pub use engine::{backward, grad, set_interrupt_check, Options};
pub use hooks::{GradHook, Hook, HookHandle, NodeHook};
pub use inplace::{apply_inplace, check_inference, check_not_leaf, check_writable};
pub use nested::looks_for_inputs;
pub use node::{Edge, Needs, NodeRef};
pub use op::{Grads, Op, Saved, Saves};
pub use saved::{freed_error, pop_saved_hooks, push_saved_hooks, Kept, Packed, SavedHooks};
pub use tied::Ties;
