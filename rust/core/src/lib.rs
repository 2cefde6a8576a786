//! Tensors, kernels and reverse-mode automatic differentiation for training neural networks on CPUs.

pub mod alloc;
pub mod dtype;
mod error;
pub mod kernels;
pub mod par;
pub mod random;
pub mod simd;

pub use dtype::DType;
pub use error::{Error, Kind, Result};
