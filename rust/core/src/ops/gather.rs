//! Elements picked along one dim by an index tensor of the result's shape, and written back.

use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, mode, Grads, Kept, Op, Saved};
use crate::kernels::{copy, gather};
use crate::layout::{normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{ensure, DType, Error, Kind, Result};

/// The index as contiguous int64 in memory of its own, if all of it `is_valid`; else the error that `refuse` makes
/// of what is not.
///
/// It is a copy because nobody else can write it: kernels index memory by it without asking again, also in the
/// backward pass, when the user's own may have changed.
pub(super) fn own_indices(
    index: &Array,
    is_valid: impl Fn(i64) -> bool,
    refuse: impl FnOnce(i64) -> Error,
) -> Result<Array> {
    let own = Array::empty(index.shape(), DType::I64)?;
    copy::copy(index, &own);
    match first_invalid(&own, is_valid) {
        Some(i) => Err(refuse(i)),
        None => Ok(own),
    }
}

/// The first element of a contiguous index for which `is_valid` does not hold.
fn first_invalid(index: &Array, is_valid: impl Fn(i64) -> bool) -> Option<i64> {
    // All of a piece are looked at, which vectors do faster than stopping at the first.
    let all_valid = |piece: &&[i64]| piece.iter().fold(true, |valid, &i| valid & is_valid(i));
    let piece = index.slice::<i64>().chunks(1024).find(|piece| !all_valid(piece))?;
    piece.iter().copied().find(|&i| !is_valid(i))
}

/// The error of an index that has a place outside of `dim`.
fn refused(op: &str, index: &Array, dim: usize, extent: usize) -> Error {
    let is_valid = |i| (0..extent as i64).contains(&i);
    match index.to_dtype(DType::I64).and_then(|index| index.contiguous()) {
        // Nothing: somebody has written to the index since.
        Ok(index) => out_of_bounds(op, first_invalid(&index, is_valid).unwrap_or(-1), dim, 0, extent),
        Err(error) => error,
    }
}

/// An index outside of a dim, which takes those from `lowest` on.
pub(super) fn out_of_bounds(op: &str, i: i64, dim: usize, lowest: i64, extent: usize) -> Error {
    let way_out = match extent {
        0 => "use an empty index, or a tensor with elements".into(),
        _ => format!("use indices from {lowest} to {}", extent - 1),
    };
    let message =
        format!("{op}: index {i} is out of bounds for dimension {dim} with size {extent}; {way_out}");
    Error::new(Kind::Index, message)
}

/// `out[i] = x[.., index[i], ..]`.
#[derive(Debug)]
struct Gather {
    dim: usize,
    /// From [`own_index`], or the same array handed on.
    index: Kept,
}

impl Op<1> for Gather {
    const NAME: &'static str = "gather";

    fn only_moves(&self) -> bool {
        true
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let index = self.index.get(Self::NAME)?;
        let out = Array::empty(index.shape(), x.dtype())?;
        if out.numel() > 0 && !gather::gather(x, self.dim, &index, &out) {
            return Err(refused(Self::NAME, &index, self.dim, x.shape()[self.dim]));
        }
        Ok(out)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let index = Kept::of(self.index.get(Self::NAME)?);
        Ok([Some(apply(ScatterIntoZeros { dim: self.dim, index, shape: saved.shape(0) }, [grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.index);
    }
}

/// Zeros with values added at the indices: the gradient of `gather`.
#[derive(Debug)]
struct ScatterIntoZeros {
    dim: usize,
    index: Kept,
    shape: Dims,
}

impl Op<1> for ScatterIntoZeros {
    const NAME: &'static str = "gather_backward";

    fn forward(&mut self, [values]: [&Array; 1]) -> Result<Array> {
        let index = self.index.get(Self::NAME)?;
        let scatter = Scatter { dim: self.dim, index: Kept::default(), accumulate: true };
        let out = Array::full(&self.shape, 0.0, scatter.wide(values.dtype()))?;
        if index.numel() > 0 {
            scatter.write(&index, &out, values)?;
        }
        out.to_dtype(values.dtype())
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let op = Gather { dim: self.dim, index: Kept::of(self.index.get(Self::NAME)?) };
        Ok([Some(apply(op, [grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.index);
    }
}

/// The target with `src` written, or added, at the indices.
#[derive(Debug)]
struct Scatter {
    dim: usize,
    /// From [`own_index`], or the same array handed on.
    index: Kept,
    accumulate: bool,
}

/// The part of `src` that is used: as many positions as `index` has.
fn used(src: &Array, index: &Array) -> Array {
    let mut layout = src.layout().clone();
    for (d, &extent) in index.shape().iter().enumerate() {
        layout = layout.slice(d, 0, extent, 1);
    }
    src.with_layout(layout)
}

impl Scatter {
    /// What the result is computed in: sums of 16-bit floats are kept in float32 and rounded once.
    fn wide(&self, dtype: DType) -> DType {
        if self.accumulate && dtype.is_half() {
            DType::F32
        } else {
            dtype
        }
    }

    /// Writes into `out`, which has the wide dtype.
    fn write(&self, index: &Array, out: &Array, src: &Array) -> Result<()> {
        let src = used(src, index).to_dtype(out.dtype())?;
        if !gather::scatter(out, self.dim, index, &src, self.accumulate) {
            return Err(refused(self.called(), index, self.dim, out.shape()[self.dim]));
        }
        Ok(())
    }
}

impl Op<2> for Scatter {
    const NAME: &'static str = "scatter";

    fn called(&self) -> &'static str {
        if self.accumulate {
            "scatter_add"
        } else {
            Self::NAME
        }
    }

    fn only_moves(&self) -> bool {
        !self.accumulate
    }

    fn grad_fn_name(&self) -> String {
        if self.accumulate { "ScatterAddBackward0" } else { "ScatterBackward0" }.into()
    }

    fn forward(&mut self, [x, src]: [&Array; 2]) -> Result<Array> {
        let index = self.index.get(Self::NAME)?;
        let wide = self.wide(x.dtype());
        if index.numel() == 0 || wide == x.dtype() {
            let out = Array::empty(x.shape(), x.dtype())?; // row-major, as in PyTorch
            copy::copy(x, &out);
            if index.numel() > 0 {
                self.write(&index, &out, src)?;
            }
            return Ok(out);
        }
        let sums = x.to_dtype(wide)?.contiguous()?; // another dtype: a copy
        self.write(&index, &sums, src)?;
        sums.to_dtype(x.dtype())
    }

    fn forward_into(&mut self, [_, src]: [&Array; 2], out: &Array) -> Result<()> {
        let index = self.index.get(Self::NAME)?;
        if index.numel() == 0 {
            return Ok(());
        }
        let src = if src.shares_memory_with(out) { src.copied()? } else { src.clone() };
        let sums = out.to_dtype(self.wide(out.dtype()))?;
        self.write(&index, &sums, &src)?;
        if sums.dtype() != out.dtype() {
            copy::copy(&sums, out);
        }
        Ok(())
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let index = self.index.get(Self::NAME)?;
        let target = match (saved.needs(0), self.accumulate) {
            (false, _) => None,
            (true, true) => Some(grad.clone()),
            (true, false) => {
                let zeros = Tensor::zeros(index.shape(), grad.dtype())?;
                let op = Scatter { dim: self.dim, index: Kept::of(index.clone()), accumulate: false };
                Some(apply(op, [grad, &zeros])?)
            }
        };
        let src = if saved.needs(1) {
            let picked = apply(Gather { dim: self.dim, index: Kept::of(index) }, [grad])?;
            Some(picked.pad_to(&saved.shape(1))?)
        } else {
            None
        };
        Ok([target, src])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.index);
    }
}

/// The dim, checked with the index's shape and dtype against `x`. An empty index may have any.
fn check_index(op: &str, x: &Tensor, dim: isize, index: &Tensor) -> Result<usize> {
    ensure!(
        matches!(index.dtype(), DType::I64 | DType::I32) || index.numel() == 0,
        DType,
        "{op}: Expected dtype int64 for index, not {}; convert it with .long()",
        index.dtype()
    );
    let dim = normalize_dim(op, dim, x.rank())?;
    if index.numel() == 0 {
        return Ok(dim);
    }
    ensure!(
        x.rank() == index.rank(),
        Shape,
        "{op}: Index tensor must have the same number of dimensions as self tensor, not index {:?} and self {:?}; \
         use unsqueeze or expand",
        index.shape(),
        x.shape()
    );
    for (d, (&extent, &limit)) in index.shape().iter().zip(x.shape()).enumerate() {
        ensure!(
            d == dim || extent <= limit,
            Shape,
            "{op}: Size does not match at dimension {d}: expected index {:?} to be no larger than self {:?} \
             apart from dimension {dim}; narrow the index",
            index.shape(),
            x.shape()
        );
    }
    Ok(dim)
}

/// The index in memory that no later write changes, with all of its places in `dim`: for what is kept for a backward
/// pass, or used after the first write. As int32 where that holds them, for the sake of memory.
fn own_index(op: &str, x: &Tensor, dim: usize, index: &Tensor) -> Result<Array> {
    if index.numel() == 0 {
        return Array::empty(index.shape(), DType::I64);
    }
    let extent = x.shape()[dim];
    if extent > i32::MAX as usize {
        let is_valid = |i| (0..extent as i64).contains(&i);
        return own_indices(index.array(), is_valid, |i| out_of_bounds(op, i, dim, 0, extent));
    }
    let index = index.array().to_dtype(DType::I64)?.contiguous()?;
    let own = Array::empty(index.shape(), DType::I32)?;
    if !gather::narrow(&index, extent, &own) {
        return Err(refused(op, &index, dim, extent));
    }
    Ok(own)
}

/// The index as it is, if it is only read once, by a kernel that checks it, and not kept; else one of its own.
fn index_once(op: &str, x: &Tensor, dim: usize, index: &Tensor, is_recorded: bool) -> Result<Array> {
    if is_recorded || index.numel() == 0 || x.shape()[dim] == 0 {
        return own_index(op, x, dim, index);
    }
    Ok(index.array().clone())
}

/// Whether two gap-free views share memory. PyTorch does not ask where there are gaps.
fn overlap(a: &Array, b: &Array) -> bool {
    let range = |x: &Array| {
        let (layout, size) = (x.layout(), x.dtype().size());
        let start = x.storage().as_ptr() as usize + layout.offset() * size;
        start..start + layout.span() * size
    };
    let (x, y) = (range(a), range(b));
    a.layout().is_dense() && b.layout().is_dense() && x.start < y.end && y.start < x.end
}

/// A 0-d tensor as a vector of one element, as PyTorch takes it where indices are vectors.
fn as_vector(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        x.reshape(&[1])
    } else {
        Ok(x.clone())
    }
}

impl Tensor {
    /// `out[i] = x[.., index[i], ..]` along `dim`; the result has `index`'s shape.
    pub fn gather(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        if self.rank() == 0 || index.rank() == 0 {
            let (x, flat) = (as_vector(self)?, as_vector(index)?);
            return x.gather(dim, &flat)?.reshape(index.shape());
        }
        let dim = check_index(Gather::NAME, self, dim, index)?;
        let is_recorded = mode::is_recording() && self.requires_grad();
        let index = Kept::of(index_once(Gather::NAME, self, dim, index, is_recorded)?);
        apply(Gather { dim, index }, [self])
    }

    /// A copy with `src` written at the indices along `dim`.
    pub fn scatter(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        self.scattered("scatter", dim, index, src, false)
    }

    /// In-place `scatter`.
    pub fn scatter_(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<()> {
        self.scattered_("scatter_", dim, index, src, false)
    }

    /// A copy with `src` added at the indices along `dim`.
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        self.scattered("scatter_add", dim, index, src, true)
    }

    /// In-place `scatter_add`.
    pub fn scatter_add_(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<()> {
        self.scattered_("scatter_add_", dim, index, src, true)
    }

    fn scattered(&self, op: &str, dim: isize, index: &Tensor, src: &Tensor, add: bool) -> Result<Tensor> {
        let (x, index, src) = (as_vector(self)?, as_vector(index)?, as_vector(src)?);
        let is_recorded = mode::is_recording() && (self.requires_grad() || src.requires_grad());
        let out = apply(x.scatter_op(op, dim, &index, &src, add, is_recorded)?, [&x, &src])?;
        if self.rank() == 0 {
            out.reshape(&[])
        } else {
            Ok(out)
        }
    }

    fn scattered_(&self, op: &str, dim: isize, index: &Tensor, src: &Tensor, add: bool) -> Result<()> {
        for (role, other) in [("index", index), ("src", src)] {
            ensure!(
                !overlap(other.array(), self.array()),
                Value,
                "{op}: unsupported operation: {role} and the written-to tensor refer to a single memory location; \
                 pass a .clone() of {role}"
            );
        }
        let (x, index, src) = (as_vector(self)?, as_vector(index)?, as_vector(src)?);
        apply_inplace(x.scatter_op(op, dim, &index, &src, add, true)?, [&x, &src])
    }

    /// Checks all but what [`index_once`] leaves to the kernel; no operand is 0-d.
    fn scatter_op(
        &self,
        op: &str,
        dim: isize,
        index: &Tensor,
        src: &Tensor,
        accumulate: bool,
        is_recorded: bool,
    ) -> Result<Scatter> {
        ensure!(
            self.dtype() == src.dtype(),
            DType,
            "{op}: Expected self.dtype to be equal to src.dtype, got {} and {}; convert one of them",
            self.dtype(),
            src.dtype()
        );
        let dim = check_index(op, self, dim, index)?;
        let fits = src.rank() == index.rank() && index.shape().iter().zip(src.shape()).all(|(i, s)| i <= s);
        ensure!(
            fits || index.numel() == 0,
            Shape,
            "{op}: Expected index {:?} to be no larger than src {:?}; narrow the index or expand src",
            index.shape(),
            src.shape()
        );
        let index = index_once(op, self, dim, index, is_recorded)?;
        Ok(Scatter { dim, index: Kept::of(index), accumulate })
    }

    /// Zeros after the end of each dim, up to `shape`.
    fn pad_to(&self, shape: &[usize]) -> Result<Tensor> {
        if self.numel() == 0 {
            return Tensor::zeros(shape, self.dtype()); // an empty index may have any rank
        }
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
