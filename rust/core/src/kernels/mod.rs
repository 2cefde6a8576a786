//! Loops on slices and strides: no history, no checks of what the caller has checked.

pub mod copy;
pub mod extremum;
pub mod gather;
pub mod map;
pub mod math;
pub mod nest;
pub mod num;
pub mod power;
pub mod reduce;
pub mod region;
pub mod scan;
pub mod sort;
