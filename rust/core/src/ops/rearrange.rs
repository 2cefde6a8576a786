//! Copies in another order: `flip`, `roll`, `repeat`, triangles of matrices.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved};
use crate::kernels::triangle::triangle;
use crate::layout::{normalize_dim, Dims, Layout, Strides};
use crate::tensor::Tensor;
use crate::{ensure, Result};
use smallvec::SmallVec;
use std::ops::Range;

/// The order along some dims reversed.
#[derive(Debug, Clone)]
struct Flip(SmallVec<[usize; 4]>);

impl Op<1> for Flip {
    const NAME: &'static str = "flip";

    fn only_moves(&self) -> bool {
        true
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let mut strides = Strides::from_slice(x.strides());
        let mut offset = x.layout().offset() as isize;
        for &d in &self.0 {
            offset += strides[d] * (x.shape()[d].max(1) - 1) as isize;
            strides[d] = -strides[d];
        }
        if x.numel() == 0 {
            return x.copied();
        }
        let layout = Layout::new(Dims::from_slice(x.shape()), strides, offset as usize);
        let out = Array::empty_like(x.layout(), x.dtype())?;
        crate::kernels::copy::copy(&x.with_reversed(layout), &out);
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(self.clone(), [grad])?)])
    }
}

/// Elements on one side of a diagonal of the last two dims; zeros on the other.
#[derive(Debug, Clone)]
struct Triangle {
    diagonal: isize,
    lower: bool,
}

impl Triangle {
    /// The columns of a row that stay.
    fn kept(&self, row: usize, cols: usize) -> Range<usize> {
        let on_diagonal = (row as isize).saturating_add(self.diagonal);
        let cut = |col: isize| col.clamp(0, cols as isize) as usize;
        if self.lower {
            0..cut(on_diagonal.saturating_add(1))
        } else {
            cut(on_diagonal)..cols
        }
    }
}

impl Op<1> for Triangle {
    const NAME: &'static str = "tril";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        if self.lower { "TrilBackward0" } else { "TriuBackward0" }.into()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let rows = x.shape()[x.rank() - 2];
        let cols = x.shape()[x.rank() - 1];
        let out = Array::empty(x.shape(), x.dtype())?;
        let x = x.contiguous()?;
        triangle(&x, &out, |row| self.kept(row % rows, cols));
        Ok(out)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(self.clone(), [grad])?)])
    }
}

impl Tensor {
    /// A copy with the order along `dims` reversed.
    pub fn flip(&self, dims: &[isize]) -> Result<Tensor> {
        let mut chosen: SmallVec<[usize; 4]> = SmallVec::new();
        for &dim in dims {
            let d = normalize_dim("flip", dim, self.rank())?;
            ensure!(
                !chosen.contains(&d),
                Value,
                "flip: dim {d} appears multiple times in the list of dims; name it once"
            );
            chosen.push(d);
        }
        if self.rank() == 0 {
            chosen.clear();
        }
        apply(Flip(chosen), [self])
    }

    /// A copy whose positions are moved by `shifts` along `dims` (over the flattened tensor if none),
    /// those past the end to the front.
    pub fn roll(&self, shifts: &[isize], dims: Option<&[isize]>) -> Result<Tensor> {
        let Some(dims) = dims else {
            ensure!(
                shifts.len() == 1,
                Shape,
                "roll: without dims there must be one shift, not {}; name a dim for each shift",
                shifts.len()
            );
            let flat = self.reshape(&[self.numel()])?.roll(shifts, Some(&[0]))?;
            return Ok(flat.reshape(self.shape())?.into_new());
        };
        ensure!(
            shifts.len() == dims.len(),
            Shape,
            "roll: shifts and dimensions must align. shifts: {}, dims: {}; give a shift for each dim",
            shifts.len(),
            dims.len()
        );
        ensure!(
            self.rank() > 0 || dims.is_empty(),
            Index,
            "roll: Dimension specified as {} but tensor has no dimensions; leave dims out",
            dims.first().copied().unwrap_or_default()
        );
        let mut out = self.copy()?;
        for (&shift, &dim) in shifts.iter().zip(dims) {
            let d = normalize_dim("roll", dim, self.rank())?;
            let extent = self.shape().get(d).copied().unwrap_or(0);
            let at = if extent == 0 { 0 } else { shift.rem_euclid(extent as isize) as usize };
            if at != 0 {
                let (front, back) =
                    (out.narrow(dim, (extent - at) as isize, at)?, out.narrow(dim, 0, extent - at)?);
                out = Tensor::cat(&[&front, &back], dim)?;
            }
        }
        Ok(out)
    }

    /// A copy tiled `counts` times along each dim; missing leading dims are added.
    pub fn repeat(&self, counts: &[usize]) -> Result<Tensor> {
        ensure!(
            counts.len() >= self.rank(),
            Shape,
            "repeat: Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor: {} \
             counts {counts:?} for the {} dims of shape {:?}; give a count for each dim",
            counts.len(),
            self.rank(),
            self.shape()
        );
        let lead = counts.len() - self.rank();
        // (n) -> (1, n) -> (count, n) -> (count * n), for every dim at once.
        let (mut split, mut tiled, mut flat) = (Dims::new(), Dims::new(), Dims::new());
        for (d, &count) in counts.iter().enumerate() {
            let extent = if d < lead { 1 } else { self.shape()[d - lead] };
            split.extend([1, extent]);
            tiled.extend([count, extent]);
        }
        crate::layout::checked_numel("repeat", &tiled, self.dtype().size())?;
        flat.extend(tiled.chunks_exact(2).map(|pair| pair[0] * pair[1]));
        let out = self.reshape(&split)?.expand(&tiled)?.contiguous()?.reshape(&flat)?;
        if self.array().storage().as_ptr() == out.array().storage().as_ptr() {
            out.copy()
        } else {
            Ok(out.into_new())
        }
    }

    /// Zeros above the `diagonal`-th diagonal of the last two dims.
    pub fn tril(&self, diagonal: isize) -> Result<Tensor> {
        self.triangle("tril", diagonal, true)
    }

    /// Zeros below the `diagonal`-th diagonal of the last two dims.
    pub fn triu(&self, diagonal: isize) -> Result<Tensor> {
        self.triangle("triu", diagonal, false)
    }

    fn triangle(&self, op: &str, diagonal: isize, lower: bool) -> Result<Tensor> {
        ensure!(
            self.rank() >= 2,
            Shape,
            "{op}: input tensor must have at least 2 dimensions, not shape {:?}; unsqueeze it first",
            self.shape()
        );
        apply(Triangle { diagonal, lower }, [self])
    }

    /// Without leading dims of extent 1, as far as needed to have at most `rank` dims.
    pub fn without_leading_ones(&self, rank: usize) -> Result<Tensor> {
        let extra = self.rank().saturating_sub(rank);
        let ones = self.shape()[..extra].iter().take_while(|&&n| n == 1).count();
        if ones == 0 {
            Ok(self.clone())
        } else {
            self.reshape(&self.shape()[ones..])
        }
    }
}
