//! The diagonal of two dims, as a view.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::layout::{normalize_dim, Dims, Strides};
use crate::tensor::Tensor;
use crate::{ensure, Layout, Result};

/// Elements whose positions in two dims differ by `offset`: the dims go, a last one comes.
#[derive(Debug, Clone, Copy)]
struct Diagonal {
    offset: isize,
    dims: [usize; 2],
}

impl Diagonal {
    fn of(&self, x: &Array) -> Array {
        let ([row, col], layout) = (self.dims, x.layout());
        let far = self.offset.unsigned_abs();
        let (down, right) = if self.offset < 0 { (far, 0) } else { (0, far) };
        let len = layout.shape()[row].saturating_sub(down).min(layout.shape()[col].saturating_sub(right));
        let kept = || (0..x.rank()).filter(|d| !self.dims.contains(d));
        let mut shape: Dims = kept().map(|d| layout.shape()[d]).collect();
        let mut strides: Strides = kept().map(|d| layout.strides()[d]).collect();
        shape.push(len);
        strides.push(layout.strides()[row] + layout.strides()[col]);
        let mut start = layout.offset() as isize;
        if len > 0 {
            start += down as isize * layout.strides()[row] + right as isize * layout.strides()[col];
        }
        x.with_layout(Layout::new(shape, strides, start as usize))
    }
}

impl Op<1> for Diagonal {
    const NAME: &'static str = "diagonal";
    const IS_VIEW: bool = true;

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(self.of(x))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(DiagonalScatter { diagonal: *self, shape: saved.shape(0) }, [grad])?)])
    }
}

/// Zeros with a diagonal set.
#[derive(Debug)]
struct DiagonalScatter {
    diagonal: Diagonal,
    shape: Dims,
}

impl Op<1> for DiagonalScatter {
    const NAME: &'static str = "diagonal_scatter";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let out = Array::full(&self.shape, 0.0, x.dtype())?;
        self.diagonal.of(&out).copy_from(x)?;
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(self.diagonal, [grad])?)])
    }
}

impl Tensor {
    /// The elements at `(i, i + offset)` of two dims, along a new last dim: a view.
    pub fn diagonal(&self, offset: isize, dim1: isize, dim2: isize) -> Result<Tensor> {
        let dims =
            [normalize_dim("diagonal", dim1, self.rank())?, normalize_dim("diagonal", dim2, self.rank())?];
        ensure!(
            dims[0] != dims[1],
            Shape,
            "diagonal: diagonal dimensions cannot be identical {dim1}, {dim2}; name two dims"
        );
        apply(Diagonal { offset, dims }, [self])
    }
}
