//! Loops on slices and pointers: no tensor, no graph.

pub mod optim;
pub mod random;
