//! Loops on slices and strides: no history, no checks of what the caller has checked.

pub mod batch_norm;
pub mod conv;
pub mod copy;
pub mod extremum;
pub mod gather;
pub mod gemm;
pub mod group_norm;
pub mod loss;
pub mod map;
pub mod math;
pub mod matmul;
pub mod nest;
pub mod norm;
pub mod num;
pub mod optim;
pub mod pair;
pub mod pool;
pub mod power;
pub mod ramp;
pub mod random;
pub mod reduce;
pub mod region;
pub mod rows;
pub mod scan;
mod shared;
pub mod softmax;
pub mod sort;
