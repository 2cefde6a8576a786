//! Loops on slices and strides: no history, no checks of what the caller has checked.

pub mod batch_norm;
pub mod copy;
pub mod gather;
pub mod loss;
pub mod map;
pub mod math;
pub mod nest;
pub mod norm;
pub mod num;
pub mod region;
pub mod rows;
pub mod softmax;
