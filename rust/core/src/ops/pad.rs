//! Elements of one value around a tensor.

use super::promote::Scalar;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::kernels::pad;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{ensure, Result};

/// The tensor in the midst of equal elements.
#[derive(Debug)]
struct ConstantPad {
    before: Dims,
    after: Dims,
    value: f64,
}

impl Op<1> for ConstantPad {
    const NAME: &'static str = "constant_pad_nd";

    fn only_moves(&self) -> bool {
        true
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let mut shape = Dims::from_slice(x.shape());
        for (extent, more) in shape.iter_mut().zip(self.before.iter().zip(&self.after)) {
            *extent = extent.saturating_add(*more.0).saturating_add(*more.1);
        }
        let out = Array::empty(&shape, x.dtype())?;
        pad::pad(&x.contiguous()?, &out, &self.before, self.value)?;
        Ok(out)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let mut middle = grad.clone();
        for (d, (&start, &extent)) in self.before.iter().zip(&saved.shape(0)).enumerate() {
            if middle.shape()[d] != extent {
                middle = middle.narrow(d as isize, start as isize, extent)?;
            }
        }
        Ok([Some(middle)])
    }
}

impl Tensor {
    /// A copy with `before[d]` and `after[d]` elements of `value` at the ends of each dim `d`.
    pub fn constant_pad(&self, before: &[usize], after: &[usize], value: f64) -> Result<Tensor> {
        ensure!(
            before.len() == self.rank() && after.len() == self.rank(),
            Shape,
            "constant_pad_nd: {before:?} and {after:?} must have a number for each dim of shape {:?}; give 0 for dims \
             that stay",
            self.shape()
        );
        Scalar::Float(value).check_fits("pad", self.dtype())?;
        apply(ConstantPad { before: before.into(), after: after.into(), value }, [self])
    }
}
