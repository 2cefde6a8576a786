//! Tensors, kernels and reverse-mode automatic differentiation for training neural networks on CPUs.

pub mod alloc;
pub mod array;
pub mod autograd;
pub mod dtype;
mod error;
pub mod format;
pub mod io;
#[doc(hidden)] // loops that trust their callers: for the tests and benchmarks of this repository alone
pub mod kernels;
pub mod layout;
pub mod mode;
pub mod ops;
pub mod optim;
pub mod par;
pub mod random;
pub mod shared;
pub mod simd;
mod stack;
pub mod storage;
pub mod tensor;
mod watched;

pub use array::Array;
pub use dtype::DType;
pub use error::{Error, Kind, Result};
pub use layout::Layout;
pub use ops::promote::Scalar;
pub use tensor::Tensor;
