//! Overwriting in place: `copy_`, `fill_`, `zero_`.

use super::promote::Scalar;
use crate::array::Array;
use crate::autograd::{inplace::apply_inplace, Grads, Op, Saved};
use crate::kernels::copy;
use crate::tensor::Tensor;
use crate::Result;

/// The gradient of an overwritten value: zeros, so that what it was computed from has a gradient.
///
/// None for a view: its base's history has the region cleared (`ops/region.rs`), and says so already.
#[derive(Debug, Clone, Copy)]
struct Overwritten {
    is_view: bool,
}

impl Overwritten {
    fn of(target: &Tensor) -> Self {
        Self { is_view: target.is_view() }
    }

    fn grad<const N: usize>(self, saved: &Saved<N>, grad: &Tensor) -> Result<Option<Tensor>> {
        if self.is_view || !saved.needs(0) {
            return Ok(None);
        }
        Ok(Some(Tensor::zeros(&saved.shape(0), grad.dtype())?))
    }
}

/// The target takes the source's values, broadcast and converted.
#[derive(Debug)]
struct CopyFrom(Overwritten);

impl Op<2> for CopyFrom {
    const NAME: &'static str = "copy_";

    fn only_moves(&self) -> bool {
        true
    }

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
        Ok([self.0.grad(saved, grad)?, saved.needs(1).then(|| grad.clone())])
    }
}

/// Every element becomes the same number.
#[derive(Debug)]
struct Fill(Scalar, Overwritten);

impl Op<1> for Fill {
    const NAME: &'static str = "fill_";

    fn only_moves(&self) -> bool {
        true
    }

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

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([self.1.grad(saved, grad)?])
    }
}

impl Tensor {
    /// Overwrites this tensor with `source`, broadcast and converted.
    pub fn copy_(&self, source: &Tensor) -> Result<()> {
        apply_inplace(CopyFrom(Overwritten::of(self)), [self, source])
    }

    /// Sets every element to `value`.
    pub fn fill_(&self, value: impl Into<Scalar>) -> Result<()> {
        let value = value.into();
        if !self.dtype().is_half() {
            value.check_fits("fill_", self.dtype())?; // 16-bit floats become infinite: `x[i] = 1e10` may
        }
        apply_inplace(Fill(value, Overwritten::of(self)), [self])
    }

    /// Sets every element to 0.
    pub fn zero_(&self) -> Result<()> {
        self.fill_(0i64)
    }
}
