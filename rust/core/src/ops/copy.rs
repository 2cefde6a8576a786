//! Overwriting in place: `copy_`, `fill_`, `zero_`.

use super::promote::Scalar;
use crate::array::Array;
use crate::autograd::{inplace::apply_inplace, Grads, Op, Saved};
use crate::kernels::copy;
use crate::tensor::Tensor;
use crate::{ensure, Result};

/// The target takes the source's values, broadcast and converted.
#[derive(Debug)]
struct CopyFrom;

impl Op<2> for CopyFrom {
    const NAME: &'static str = "copy_";

    fn grad_fn_name(&self) -> String {
        "CopyBackwards".into()
    }

    fn forward(&mut self, [target, source]: [&Array; 2]) -> Result<Array> {
        source.broadcast_to(Self::NAME, target.shape())?.to_dtype(target.dtype())?.copied()
    }

    fn forward_into(&mut self, [_, source]: [&Array; 2], out: &Array) -> Result<()> {
        out.copy_from(source)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        Ok([None, saved.needs(1).then(|| grad.clone())])
    }
}

/// Every element becomes the same number.
#[derive(Debug)]
struct Fill(Scalar);

impl Op<1> for Fill {
    const NAME: &'static str = "fill_";

    fn grad_fn_name(&self) -> String {
        "FillBackward0".into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let out = Array::empty_like(x.layout(), x.dtype())?;
        self.forward_into([x], &out)?;
        Ok(out)
    }

    fn forward_into(&mut self, _: [&Array; 1], out: &Array) -> Result<()> {
        match self.0 {
            Scalar::Int(value) => copy::fill_i64(out, value),
            value => copy::fill(out, value.to_f64()),
        }
        Ok(())
    }

    fn backward(&self, _saved: &Saved<1>, _grad: &Tensor) -> Result<Grads<1>> {
        Ok([None])
    }
}

impl Tensor {
    /// Overwrites this tensor with `source`, broadcast and converted.
    pub fn copy_(&self, source: &Tensor) -> Result<()> {
        apply_inplace(CopyFrom, [self, source])
    }

    /// Sets every element to `value`.
    pub fn fill_(&self, value: impl Into<Scalar>) -> Result<()> {
        let value = value.into();
        ensure!(
            value.category() <= self.dtype().category() || !matches!(value, Scalar::Float(f) if f.is_nan()),
            Value,
            "fill_: cannot convert float nan to {}",
            self.dtype()
        );
        apply_inplace(Fill(value), [self])
    }

    /// Sets every element to 0.
    pub fn zero_(&self) -> Result<()> {
        self.fill_(0i64)
    }
}
