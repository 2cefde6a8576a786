//! Elements picked along one dim by an index tensor of the result's shape, and written back.

use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved};
use crate::kernels::gather;
use crate::layout::{normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{ensure, DType, Result};

/// `out[i] = x[.., index[i], ..]`.
#[derive(Debug)]
struct Gather {
    dim: usize,
    index: Array,
}

impl Op<1> for Gather {
    const NAME: &'static str = "gather";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let out = Array::empty(self.index.shape(), x.dtype())?;
        gather::gather(x, self.dim, &self.index, &out);
        Ok(out)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let zeros = Tensor::zeros(&saved.shape(0), grad.dtype())?;
        let op = Scatter { dim: self.dim, index: self.index.clone(), accumulate: true };
        Ok([Some(apply(op, [&zeros, grad])?)])
    }
}

/// The target with `src` written, or added, at the indices.
#[derive(Debug)]
struct Scatter {
    dim: usize,
    index: Array,
    accumulate: bool,
}

impl Scatter {
    /// The part of `src` that is used: as many positions as `index` has.
    fn used(&self, src: &Array) -> Array {
        let mut layout = src.layout().clone();
        for (d, &extent) in self.index.shape().iter().enumerate() {
            layout = layout.slice(d, 0, extent, 1);
        }
        src.with_layout(layout)
    }

    fn write(&self, out: &Array, src: &Array) -> Result<()> {
        let src = self.used(src).to_dtype(out.dtype())?;
        gather::scatter(out, self.dim, &self.index, &src, self.accumulate);
        Ok(())
    }
}

impl Op<2> for Scatter {
    const NAME: &'static str = "scatter";

    fn grad_fn_name(&self) -> String {
        if self.accumulate { "ScatterAddBackward0" } else { "ScatterBackward0" }.into()
    }

    fn forward(&mut self, [x, src]: [&Array; 2]) -> Result<Array> {
        let out = x.copied()?;
        self.write(&out, src)?;
        Ok(out)
    }

    fn forward_into(&mut self, [_, src]: [&Array; 2], out: &Array) -> Result<()> {
        let shared = std::sync::Arc::ptr_eq(src.storage(), out.storage());
        self.write(out, &if shared { src.copied()? } else { src.clone() })
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let target = match (saved.needs(0), self.accumulate) {
            (false, _) => None,
            (true, true) => Some(grad.clone()),
            (true, false) => {
                let zeros = Tensor::zeros(self.index.shape(), grad.dtype())?;
                let op = Scatter { dim: self.dim, index: self.index.clone(), accumulate: false };
                Some(apply(op, [grad, &zeros])?)
            }
        };
        let src = if saved.needs(1) {
            let picked = apply(Gather { dim: self.dim, index: self.index.clone() }, [grad])?;
            Some(picked.pad_to(&saved.shape(1))?)
        } else {
            None
        };
        Ok([target, src])
    }
}

/// The index as int64, checked against the extent along `dim` and against the other extents.
fn check_index(op: &str, x: &Tensor, dim: isize, index: &Tensor) -> Result<(usize, Array)> {
    ensure!(
        matches!(index.dtype(), DType::I64 | DType::I32),
        DType,
        "{op}(): Expected dtype int64 for index, not {}",
        index.dtype()
    );
    let dim = normalize_dim(op, dim, x.rank())?;
    ensure!(
        x.rank().max(1) == index.rank().max(1) || index.numel() == 0,
        Shape,
        "{op}(): Index tensor must have the same number of dimensions as self tensor: {:?} and {:?}",
        index.shape(),
        x.shape()
    );
    for (d, &extent) in index.shape().iter().enumerate() {
        let own = x.shape().get(d).copied().unwrap_or(1);
        ensure!(
            d == dim || extent <= own || index.numel() == 0,
            Shape,
            "{op}(): Size does not match at dimension {d}: expected index {:?} to be no larger than self {:?} \
             apart from dimension {dim}",
            index.shape(),
            x.shape()
        );
    }
    let extent = x.shape().get(dim).copied().unwrap_or(1) as i64;
    let index = index.array().to_dtype(DType::I64)?;
    if let Some(i) = index.to_vec::<i64>()?.into_iter().find(|i| !(0..extent).contains(i)) {
        crate::bail!(Index, "{op}: index {i} is out of bounds for dimension {dim} with size {extent}");
    }
    Ok((dim, index))
}

impl Tensor {
    /// `out[i] = x[.., index[i], ..]` along `dim`; the result has `index`'s shape.
    pub fn gather(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        let (dim, index) = check_index("gather", self, dim, index)?;
        apply(Gather { dim, index }, [self])
    }

    /// A copy with `src` written at the indices along `dim`.
    pub fn scatter(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        apply(self.scatter_op("scatter", dim, index, src, false)?, [self, src])
    }

    /// In-place `scatter`.
    pub fn scatter_(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<()> {
        apply_inplace(self.scatter_op("scatter_", dim, index, src, false)?, [self, src])
    }

    /// A copy with `src` added at the indices along `dim`.
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        apply(self.scatter_op("scatter_add", dim, index, src, true)?, [self, src])
    }

    /// In-place `scatter_add`.
    pub fn scatter_add_(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<()> {
        apply_inplace(self.scatter_op("scatter_add_", dim, index, src, true)?, [self, src])
    }

    fn scatter_op(
        &self,
        op: &str,
        dim: isize,
        index: &Tensor,
        src: &Tensor,
        accumulate: bool,
    ) -> Result<Scatter> {
        ensure!(
            self.dtype() == src.dtype(),
            DType,
            "{op}(): Expected self.dtype to be equal to src.dtype, got {} and {}",
            self.dtype(),
            src.dtype()
        );
        let (dim, index) = check_index(op, self, dim, index)?;
        let fits = src.rank() == index.rank() && index.shape().iter().zip(src.shape()).all(|(i, s)| i <= s);
        ensure!(
            fits || index.numel() == 0,
            Shape,
            "{op}(): Expected index {:?} to be no larger than src {:?}",
            index.shape(),
            src.shape()
        );
        Ok(Scatter { dim, index, accumulate })
    }

    /// Zeros after the end of each dim, up to `shape`.
    fn pad_to(&self, shape: &[usize]) -> Result<Tensor> {
        let mut out = self.clone();
        for (d, &extent) in shape.iter().enumerate() {
            if out.shape()[d] < extent {
                let mut missing = Dims::from_slice(out.shape());
                missing[d] = extent - missing[d];
                out = Tensor::cat(&[&out, &Tensor::zeros(&missing, out.dtype())?], d as isize)?;
            }
        }
        Ok(out)
    }
}
