//! Matrix products of tensors of any rank.
//!
//! One operation covers them all: vectors are seen as matrices with an extent of 1, dims before the
//! last two are a batch and broadcast, and a batch times one matrix is a single tall product.

use crate::array::Array;
use crate::autograd::{anomaly, apply::apply, mode, Grads, Op, Saved, Saves};
use crate::kernels::{self, matmul::Operand};
use crate::layout::{broadcast_shapes, Dims};
use crate::tensor::Tensor;
use crate::{ensure, Result};

use super::promote::product_dtype;

/// `a @ b` for operands that have passed [`check`].
#[derive(Debug, Clone, Copy)]
struct Matmul {
    /// The operation that the user called, for messages.
    op: &'static str,
    node: &'static str,
}

impl Op<2> for Matmul {
    const NAME: &'static str = "matmul";

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, [a, b]: [bool; 2]) -> Saves<2> {
        Saves::inputs([b, a])
    }

    fn forward(&mut self, [a, b]: [&Array; 2]) -> Result<Array> {
        let dtype = product_dtype(a.dtype());
        let out = product(self.op, &*a.as_dtype(dtype)?, &*b.as_dtype(dtype)?)?;
        out.into_dtype(a.dtype())
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let by_a =
            if saved.needs(0) { Some(grad_of_left(&saved.shape(0), &saved.input(1)?, grad)?) } else { None };
        let by_b =
            if saved.needs(1) { Some(grad_of_right(&saved.input(0)?, &saved.shape(1), grad)?) } else { None };
        Ok([by_a, by_b])
    }
}

/// `grad` with the dims of extent 1 that vectors among the operands have in their matrix form.
fn lifted_grad(grad: &Tensor, left_rank: usize, right_rank: usize) -> Result<Tensor> {
    let grad = if right_rank == 1 { grad.unsqueeze(-1)? } else { grad.clone() };
    if left_rank == 1 {
        grad.unsqueeze(-2)
    } else {
        Ok(grad)
    }
}

/// The gradient of `a` (of `shape`) in `a @ b`: `grad @ b^T`.
fn grad_of_left(shape: &[usize], b: &Tensor, grad: &Tensor) -> Result<Tensor> {
    if shape.len() == 1 && b.rank() == 1 {
        return grad.mul(b);
    }
    let grad = lifted_grad(grad, shape.len(), b.rank())?;
    let b = if b.rank() == 1 { b.unsqueeze(-1)? } else { b.clone() };
    if shape.len() <= 2 && b.rank() > 2 {
        // One left matrix for the whole batch: transposed, this is a single product over batch and columns.
        let by_a = contract_rows(&b.transpose(-2, -1)?, &grad.transpose(-2, -1)?)?;
        return by_a.t()?.reshape(shape);
    }
    let by_a = product_of(&grad, false, &b, true)?;
    if shape.len() == 1 {
        by_a.squeeze(Some(&[-2]))
    } else {
        Ok(by_a)
    }
}

/// The gradient of `b` (of `shape`) in `a @ b`: `a^T @ grad`.
fn grad_of_right(a: &Tensor, shape: &[usize], grad: &Tensor) -> Result<Tensor> {
    if shape.len() == 1 && a.rank() == 1 {
        return grad.mul(a);
    }
    let grad = lifted_grad(grad, a.rank(), shape.len())?;
    let a = if a.rank() == 1 { a.unsqueeze(0)? } else { a.clone() };
    if shape.len() <= 2 {
        return contract_rows(&a, &grad)?.reshape(shape);
    }
    product_of(&a, true, &grad, false)
}

/// `x^T @ y` summed over all leading dims: one product with the batch folded into the rows.
pub(super) fn contract_rows(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    product_of(&fold(x)?, true, &fold(y)?, false)
}

/// `a @ b`, of either of which the last two dims may be swapped first.
pub(super) fn product_of(a: &Tensor, swap_a: bool, b: &Tensor, swap_b: bool) -> Result<Tensor> {
    let dtype = a.dtype();
    let is_plain = [a.rank(), b.rank()] == [2, 2] && b.dtype() == dtype && product_dtype(dtype) == dtype;
    // While values are looked at, every product passes `apply`.
    let is_watched = mode::is_recording() || anomaly::is_on();
    if is_watched || !is_plain || a.shape()[usize::from(!swap_a)] != b.shape()[usize::from(swap_b)] {
        let seen = |x: &Tensor, swap| if swap { x.transpose(-2, -1) } else { Ok(x.clone()) };
        return seen(a, swap_a)?.matmul(&seen(b, swap_b)?);
    }
    // In most backward passes: a layout that is swapped, and no view of a tensor, which would be several allocations.
    let seen = |x: &Tensor, swap| {
        let layout = x.array().layout();
        if swap {
            layout.transpose(0, 1)
        } else {
            layout.clone()
        }
    };
    let (a_layout, b_layout) = (seen(a, swap_a), seen(b, swap_b));
    let out = Array::empty(&[a_layout.shape()[0], b_layout.shape()[1]], dtype)?;
    kernels::matmul::matmul_of(
        Matmul::NAME,
        Operand { array: a.array(), layout: &a_layout },
        Operand { array: b.array(), layout: &b_layout },
        (&out).into(),
        None,
    )?;
    Ok(Tensor::constant(out))
}

/// All dims but the last made one.
pub(super) fn fold(x: &Tensor) -> Result<Tensor> {
    match *x.shape() {
        [_, _] => Ok(x.clone()),
        ref shape => x.reshape(&folded_shape(shape)),
    }
}

fn folded_shape(shape: &[usize]) -> [usize; 2] {
    let (cols, lead) = shape.split_last().unwrap_or((&1, &[]));
    [lead.iter().product(), *cols]
}

/// `a @ b` of operands of rank 1 or more and of one dtype that kernels compute in.
pub(super) fn product(op: &str, a: &Array, b: &Array) -> Result<Array> {
    if let ([m, _], [_, n]) = (a.shape(), b.shape()) {
        let out = Array::empty(&[*m, *n], a.dtype())?;
        kernels::matmul::matmul(op, a, b, &out, None)?;
        return Ok(out);
    }
    let (a_is_vector, b_is_vector) = (a.rank() == 1, b.rank() == 1);
    let a = if a_is_vector { a.with_layout(a.layout().unsqueeze(0)) } else { a.clone() };
    let b = if b_is_vector { b.with_layout(b.layout().unsqueeze(1)) } else { b.clone() };
    let out = batched(op, &a, &b)?;
    let (rows, cols) = (out.rank() - 2, out.rank() - 1);
    let dropped = |d: usize| (d == rows && a_is_vector) || (d == cols && b_is_vector);
    Ok(if a_is_vector || b_is_vector { out.with_layout(out.layout().squeeze(dropped)) } else { out })
}

/// `a @ b` of operands of rank 2 or more.
fn batched(op: &str, a: &Array, b: &Array) -> Result<Array> {
    let (a_lead, b_lead) = (&a.shape()[..a.rank() - 2], &b.shape()[..b.rank() - 2]);
    let lead = broadcast_shapes(op, a_lead, b_lead)?;
    let with = |rows: usize, cols: usize| -> Dims { lead.iter().copied().chain([rows, cols]).collect() };
    let (m, k, n) = (a.shape()[a.rank() - 2], a.shape()[a.rank() - 1], b.shape()[b.rank() - 1]);
    let out = Array::empty(&with(m, n), a.dtype())?;
    if b_lead.iter().all(|&extent| extent == 1) && a_lead == lead.as_slice() {
        let rows = folded_shape(a.shape());
        let a = match a.layout().reshape(&rows) {
            Some(layout) => a.with_layout(layout),
            None => {
                let a = a.contiguous()?;
                a.with_layout(crate::Layout::contiguous(&rows))
            }
        };
        let b = b.with_layout(b.layout().squeeze(|d| d + 2 < b.rank()));
        let tall = out.with_layout(crate::Layout::contiguous(&folded_shape(out.shape())));
        kernels::matmul::matmul(op, &a, &b, &tall, None)?;
        return Ok(out);
    }
    let (a, b) = (a.broadcast_to(op, &with(m, k))?, b.broadcast_to(op, &with(k, n))?);
    kernels::matmul::matmul(op, &a, &b, &out, None)?;
    Ok(out)
}

/// Refuses operands of different dtypes, and bool.
pub(super) fn check_dtypes(op: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    ensure!(
        a.dtype() == b.dtype(),
        DType,
        "{op}: expected m1 and m2 to have the same dtype, but got: {} != {}; convert one with .to(...)",
        a.dtype(),
        b.dtype()
    );
    ensure!(
        a.dtype() != crate::DType::Bool,
        DType,
        "{op}: not implemented for 'Bool'; convert with .to(...) first"
    );
    Ok(())
}

/// Refuses operands whose sizes do not fit.
pub(super) fn check(op: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    ensure!(
        a.rank() > 0 && b.rank() > 0,
        Shape,
        "{op}: both arguments need to be at least 1D, but they are {}D and {}D; use * for scalars",
        a.rank(),
        b.rank()
    );
    let (k, from) = (a.shape()[a.rank() - 1], b.rank().saturating_sub(2));
    ensure!(
        k == b.shape()[from],
        Shape,
        "{op}: {} @ {}: last size {k} must equal {} size {}; transpose or reshape one of them",
        Tuple(a.shape()),
        Tuple(b.shape()),
        if b.rank() == 1 { "only" } else { "second-to-last" },
        b.shape()[from]
    );
    if a.rank() > 2 && b.rank() > 2 {
        let (a_lead, b_lead) = (&a.shape()[..a.rank() - 2], &b.shape()[..b.rank() - 2]);
        let fits = a_lead.iter().rev().zip(b_lead.iter().rev()).all(|(x, y)| x == y || *x == 1 || *y == 1);
        ensure!(
            fits,
            Shape,
            "{op}: {} @ {}: batch sizes {} and {} do not broadcast; they must be equal or 1",
            Tuple(a.shape()),
            Tuple(b.shape()),
            Tuple(a_lead),
            Tuple(b_lead)
        );
    }
    check_dtypes(op, a, b)
}

/// Refuses an operand of another rank.
fn check_rank(op: &str, argument: &str, x: &Tensor, rank: usize) -> Result<()> {
    let what = ["a scalar", "a vector", "a matrix", "a batch of matrices"][rank];
    ensure!(
        x.rank() == rank,
        Shape,
        "{op}: {argument} must be {what} ({rank}D), but got {}D with shape {}; use matmul for other ranks",
        x.rank(),
        Tuple(x.shape())
    );
    Ok(())
}

/// A shape as Python prints it.
pub(super) struct Tuple<'a>(pub(super) &'a [usize]);

impl std::fmt::Display for Tuple<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(")?;
        for (i, extent) in self.0.iter().enumerate() {
            write!(f, "{}{extent}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

impl Tensor {
    /// Matrix product: vectors, matrices, and batches of matrices whose leading dims broadcast.
    ///
    /// Products of 16-bit floats are summed in float32 and rounded once. On processors with AVX512-BF16 those of
    /// bfloat16 take subnormal numbers as 0, and round after every addition to a sum.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.multiply("matmul", other)
    }

    /// Product of two matrices.
    pub fn mm(&self, other: &Tensor) -> Result<Tensor> {
        check_rank("mm", "self", self, 2)?;
        check_rank("mm", "mat2", other, 2)?;
        self.multiply("mm", other)
    }

    /// Products of two batches of matrices with equal batch sizes.
    pub fn bmm(&self, other: &Tensor) -> Result<Tensor> {
        check_rank("bmm", "batch1", self, 3)?;
        check_rank("bmm", "batch2", other, 3)?;
        check_batches("bmm", self, other)?;
        self.multiply("bmm", other)
    }

    /// Product of a matrix and a vector.
    pub fn mv(&self, vec: &Tensor) -> Result<Tensor> {
        check_rank("mv", "self", self, 2)?;
        check_rank("mv", "vec", vec, 1)?;
        self.multiply("mv", vec)
    }

    /// Scalar product of two vectors.
    pub fn dot(&self, other: &Tensor) -> Result<Tensor> {
        check_rank("dot", "self", self, 1)?;
        check_rank("dot", "tensor", other, 1)?;
        self.multiply("dot", other)
    }

    /// Every product of an element of a vector with an element of another.
    pub fn outer(&self, vec: &Tensor) -> Result<Tensor> {
        check_rank("outer", "self", self, 1)?;
        check_rank("outer", "vec2", vec, 1)?;
        self.unsqueeze(1)?.mul(vec)
    }

    fn multiply(&self, op: &'static str, other: &Tensor) -> Result<Tensor> {
        check(op, self, other)?;
        let node = match (self.rank(), other.rank()) {
            (1, 1) => "DotBackward0",
            (2, 1) | (1, 2) => "MvBackward0",
            (_, 2) => "MmBackward0",
            _ => "BmmBackward0",
        };
        apply(Matmul { op, node }, [self, other])
    }
}

/// Refuses batches of different sizes.
pub(super) fn check_batches(op: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    ensure!(
        a.shape()[0] == b.shape()[0],
        Shape,
        "{op}: {} @ {}: batch sizes {} and {} must be equal; expand one of them, or use matmul",
        Tuple(a.shape()),
        Tuple(b.shape()),
        a.shape()[0],
        b.shape()[0]
    );
    Ok(())
}
