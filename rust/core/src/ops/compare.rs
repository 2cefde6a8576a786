//! Comparisons: bool results, no gradient. A row is an op.

use super::binary::{operands, result_like};
use super::promote::result_type;
use crate::dtype::Bool;
use crate::kernels::map::{zip, Plain};
use crate::tensor::Tensor;
use crate::{dispatch_compute, DType, Result};

macro_rules! compare_ops {
    ($($(#[doc = $doc:literal])+ $name:ident / $scalar:ident { |$a:ident, $b:ident| $f:expr })*) => {
        /// Names of all rows, for the tests.
        pub const ROWS: &[&str] = &[$(stringify!($name)),*];
        impl Tensor {
            $(
                $(#[doc = $doc])+
                pub fn $name(&self, other: &Tensor) -> Result<Tensor> {
                    let dtype = result_type(self.array(), other.array());
                    let (a, b) = operands(stringify!($name), self.array(), other.array(), dtype)?;
                    let out = result_like(&a, &b, DType::Bool)?;
                    dispatch_compute!(a.dtype(), stringify!($name), T => {
                        zip::<T, Bool, _>(&a, &b, &out, Plain(|$a: T, $b: T| Bool::from($f)))
                    });
                    Ok(Tensor::constant(out))
                }
                #[doc = concat!("`", stringify!($name), "` with a number.")]
                pub fn $scalar(&self, other: f64) -> Result<Tensor> {
                    self.$name(&self.scalar_beside(other)?)
                }
            )*
        }
    };
}

compare_ops! {
    /// Whether `a == b`, element-wise and broadcast.
    eq / eq_scalar { |a, b| a == b }
    /// Whether `a != b`, element-wise and broadcast.
    ne / ne_scalar { |a, b| a != b }
    /// Whether `a < b`, element-wise and broadcast.
    lt / lt_scalar { |a, b| a < b }
    /// Whether `a <= b`, element-wise and broadcast.
    le / le_scalar { |a, b| a <= b }
    /// Whether `a > b`, element-wise and broadcast.
    gt / gt_scalar { |a, b| a > b }
    /// Whether `a >= b`, element-wise and broadcast.
    ge / ge_scalar { |a, b| a >= b }
}
