//! Loops on slices and pointers: no tensor, no graph.

pub mod conv;
pub mod pool;
mod shared;
