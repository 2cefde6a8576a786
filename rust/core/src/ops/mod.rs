//! What each operation means: shapes, dtypes, forward, gradient rule.
//!
//! Where does a new operation go?
//! - Made of other operations and not hot: Python, `functional.py`.
//! - Element-wise without arguments: a row of `unary.rs`, `binary.rs` or `compare.rs`.
//! - A loop of its own: a file here that implements [`crate::autograd::Op`].
//! - A hot composition: the same, with fused forward and backward kernels whose rule for second
//!   derivatives is written in primitive operations.

pub mod activation;
pub mod attention;
pub mod binary;
pub mod cast;
pub mod clamp;
pub mod compare;
pub mod conv;
mod conv_transpose;
pub mod copy;
pub mod create;
pub mod diagonal;
pub mod dropout;
pub mod einsum;
pub mod extremum;
mod fused;
pub mod gather;
pub mod index;
pub mod join;
pub mod linear;
pub mod logical;
pub mod loss;
pub mod matmul;
pub mod moments;
mod multinomial;
pub mod norm;
mod one_hot;
pub mod operators;
pub mod pad;
pub mod pointwise;
pub mod pool;
pub mod pow;
pub mod promote;
pub mod random;
pub mod rearrange;
pub mod recurrent;
pub mod reduce;
pub(crate) mod region;
pub mod registry;
pub mod scan;
pub(crate) mod selected;
pub mod shrink;
pub mod softmax;
pub mod unary;
pub mod view;
mod winner;
