//! Products with something added: `addmm` and its kin, and the linear layer.

use super::matmul::{check, check_batches, contract_rows, fold, product, product_of, Tuple};
use super::promote::{compute_dtype, product_dtype, Scalar};
use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::dtype::Category;
use crate::kernels;
use crate::kernels::matmul::Operand;
use crate::layout::{small, Dims};
use crate::tensor::Tensor;
use crate::{ensure, Layout, Result};
use std::borrow::Cow;

/// `beta * input + alpha * (a @ b)`, where `input` broadcasts to the product's shape.
#[derive(Debug, Clone, Copy)]
struct AddProduct {
    op: &'static str,
    node: &'static str,
    beta: Scalar,
    alpha: Scalar,
}

/// `x * factor`; without a multiplication where that is 1.
fn scaled(x: &Tensor, factor: Scalar) -> Result<Tensor> {
    if factor.to_f64() == 1.0 {
        return Ok(x.clone());
    }
    x.mul(&Tensor::constant(factor.to_array(x.dtype())?))
}

impl Op<3> for AddProduct {
    const NAME: &'static str = "addmm";

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, [_, a, b]: [bool; 3]) -> Saves<3> {
        Saves::inputs([false, b, a])
    }

    fn forward(&mut self, [input, a, b]: [&Array; 3]) -> Result<Array> {
        let is_plain = self.beta.to_f64() == 1.0 && self.alpha.to_f64() == 1.0 && b.rank() > 1;
        // Factors are applied before the result is rounded.
        let dtype = if is_plain { product_dtype(a.dtype()) } else { compute_dtype(a.dtype()) };
        let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
        let mut shape = Dims::from_slice(a.shape());
        shape.truncate(a.rank() - 1);
        shape.extend(b.shape().get(b.rank() - 1).copied().filter(|_| b.rank() > 1));
        let added = input.to_dtype(dtype)?.broadcast_to(self.op, &shape)?;
        if is_plain {
            let out = Array::empty(&shape, dtype)?;
            kernels::matmul::matmul(self.op, &a, &b, &out, Some(&added))?;
            return out.to_dtype(input.dtype());
        }
        let product = scaled(&Tensor::constant(product(self.op, &a, &b)?), self.alpha)?;
        if self.beta.to_f64() == 0.0 {
            return product.array().to_dtype(input.dtype()); // nan in `input` is not propagated
        }
        let added = scaled(&Tensor::constant(added), self.beta)?;
        added.add(&product)?.array().to_dtype(input.dtype())
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let scaled_grad = scaled(grad, self.alpha)?;
        let by_input = if saved.needs(0) { Some(scaled(grad, self.beta)?) } else { None };
        let by_a = if saved.needs(1) {
            let b = saved.input(2)?;
            Some(if b.rank() == 1 {
                scaled_grad.unsqueeze(1)?.mul(&b)?
            } else {
                product_of(&scaled_grad, false, &b, true)?
            })
        } else {
            None
        };
        let by_b = if saved.needs(2) {
            Some(product_of(&saved.input(1)?, true, &scaled_grad, false)?)
        } else {
            None
        };
        Ok([by_input, by_a, by_b])
    }
}

/// `x @ weight^T`, and `+ bias`, over the last dim of `x`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    node: &'static str,
}

impl Linear {
    fn compute(x: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array> {
        let (given, dtype) = (x.dtype(), product_dtype(x.dtype()));
        let (x, weight) = (x.as_dtype(dtype)?, weight.as_dtype(dtype)?);
        let bias = bias.map(|bias| bias.as_dtype(dtype)).transpose()?;
        let (features, out_features) = (weight.shape()[1], weight.shape()[0]);
        let rows = x.shape()[..x.rank() - 1].iter().product::<usize>();
        let mut shape = small(x.shape());
        shape[x.rank() - 1] = out_features;
        let out = Array::empty(&shape, dtype)?;
        // Layouts, and no arrays: with those a layer of 4 features took a seventh more.
        let (x, x_layout) = match x.layout().reshape(&[rows, features]) {
            Some(layout) => (x, layout),
            None => (Cow::Owned(x.contiguous()?), Layout::contiguous(&[rows, features])),
        };
        let flat = Layout::contiguous(&[rows, out_features]);
        let (weight_layout, bias_layout) = (
            weight.layout().transpose(0, 1),
            bias.as_ref().and_then(|bias| bias.layout().broadcast_to(flat.shape())),
        );
        assert_eq!(bias.is_some(), bias_layout.is_some(), "`check_linear` has seen that the bias broadcasts");
        let added = bias.as_ref().zip(bias_layout.as_ref());
        kernels::matmul::matmul_of(
            LINEAR,
            Operand { array: &x, layout: &x_layout },
            Operand { array: &weight, layout: &weight_layout },
            Operand { array: &out, layout: &flat },
            added.map(|(array, layout)| Operand { array, layout }),
        )?;
        out.into_dtype(given)
    }
}

const LINEAR: &str = "linear";

/// The gradients of `x` and `weight`, inputs `at` and `at + 1`, where needed.
fn linear_grads<const N: usize>(saved: &Saved<N>, grad: &Tensor, at: usize) -> Result<[Option<Tensor>; 2]> {
    let by_x = if saved.needs(at) { Some(grad.matmul(&saved.input(at + 1)?)?) } else { None };
    let by_weight = if saved.needs(at + 1) {
        let x = saved.input(at)?;
        Some(if x.rank() == 1 { grad.unsqueeze(1)?.mul(&x)? } else { contract_rows(grad, &x)? })
    } else {
        None
    };
    Ok([by_x, by_weight])
}

impl Op<2> for Linear {
    const NAME: &'static str = LINEAR;

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, [x, weight]: [bool; 2]) -> Saves<2> {
        Saves::inputs([weight, x])
    }

    fn forward(&mut self, [x, weight]: [&Array; 2]) -> Result<Array> {
        Self::compute(x, weight, None)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        linear_grads(saved, grad, 0)
    }
}

// The bias first, as in PyTorch: programs that walk the graph take the first input of a node.
impl Op<3> for Linear {
    const NAME: &'static str = LINEAR;

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, [_, x, weight]: [bool; 3]) -> Saves<3> {
        Saves::inputs([false, weight, x])
    }

    fn forward(&mut self, [bias, x, weight]: [&Array; 3]) -> Result<Array> {
        Self::compute(x, weight, Some(bias))
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let [by_x, by_weight] = linear_grads(saved, grad, 1)?;
        // Summed over all dims but the last here, in one pass; the engine would do the rest.
        let by_bias = if saved.needs(0) { Some(fold(grad)?) } else { None };
        Ok([by_bias, by_x, by_weight])
    }
}

fn check_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    ensure!(
        weight.rank() == 2,
        Shape,
        "linear: weight must be (out_features, in_features), but has shape {}; reshape it",
        Tuple(weight.shape())
    );
    let [out_features, features] = [weight.shape()[0], weight.shape()[1]];
    ensure!(
        x.shape().last() == Some(&features),
        Shape,
        "linear: input of shape {} and weight of shape {}: the input's last size must equal in_features \
         {features}; transpose or reshape one of them",
        Tuple(x.shape()),
        Tuple(weight.shape())
    );
    super::matmul::check_dtypes(LINEAR, x, weight)?;
    let Some(bias) = bias else { return Ok(()) };
    super::matmul::check_dtypes(LINEAR, x, bias)?;
    let mut shape = Dims::from_slice(&x.shape()[..x.rank() - 1]);
    shape.push(out_features);
    ensure!(
        bias.array().layout().broadcast_to(&shape).is_some(),
        Shape,
        "linear: bias of shape {} must have shape ({out_features},), one per row of weight {}; reshape it",
        Tuple(bias.shape()),
        Tuple(weight.shape())
    );
    Ok(())
}

fn check_added(op: &str, input: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    check(op, a, b)?;
    super::matmul::check_dtypes(op, input, a)?;
    let mut shape = Dims::from_slice(&a.shape()[..a.rank() - 1]);
    shape.extend(b.shape()[1..].last().copied());
    ensure!(
        input.array().layout().broadcast_to(&shape).is_some(),
        Shape,
        "{op}: input of shape {} does not broadcast to the shape {} of {} @ {}; reshape it",
        Tuple(input.shape()),
        Tuple(&shape),
        Tuple(a.shape()),
        Tuple(b.shape())
    );
    Ok(())
}

/// The op of a family member: operands of the ranks that its name promises.
fn added(
    op: &'static str,
    input: &Tensor,
    a: &Tensor,
    b: &Tensor,
    factors: [Scalar; 2],
) -> Result<AddProduct> {
    let (ranks, node) = match op {
        "addmm" => ([2, 2], "AddmmBackward0"),
        "addmv" => ([2, 1], "AddmvBackward0"),
        _ => ([3, 3], "BaddbmmBackward0"),
    };
    ensure!(
        [a.rank(), b.rank()] == ranks,
        Shape,
        "{op}: operands must be {}D and {}D, but got shapes {} and {}; reshape them, or use matmul",
        ranks[0],
        ranks[1],
        Tuple(a.shape()),
        Tuple(b.shape())
    );
    if ranks[0] == 3 {
        check_batches(op, a, b)?;
    }
    check_added(op, input, a, b)?;
    ensure!(
        a.dtype().is_float() || factors.iter().all(|factor| factor.category() < Category::Float),
        DType,
        "{op}: for integral input tensors, beta and alpha must not be floating point numbers, but are {} and {}; \
         convert the tensors with .float()",
        factors[0].to_f64(),
        factors[1].to_f64()
    );
    Ok(AddProduct { op, node, beta: factors[0], alpha: factors[1] })
}

macro_rules! add_products {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident)*) => {
        impl Tensor {$(
            $(#[doc = $doc])+
            pub fn $name(
                &self,
                a: &Tensor,
                b: &Tensor,
                beta: impl Into<Scalar>,
                alpha: impl Into<Scalar>,
            ) -> Result<Tensor> {
                let op = added(stringify!($name), self, a, b, [beta.into(), alpha.into()])?;
                apply(op, [self, a, b])
            }
            #[doc = concat!("In-place `", stringify!($name), "`.")]
            pub fn $inplace(
                &self,
                a: &Tensor,
                b: &Tensor,
                beta: impl Into<Scalar>,
                alpha: impl Into<Scalar>,
            ) -> Result<()> {
                let op = added(stringify!($name), self, a, b, [beta.into(), alpha.into()])?;
                apply_inplace(op, [self, a, b])
            }
        )*}
    };
}

add_products! {
    /// `beta * self + alpha * (a @ b)` for matrices; `self` broadcasts.
    addmm / addmm_
    /// `beta * self + alpha * (a @ b)` for a matrix and a vector; `self` broadcasts.
    addmv / addmv_
    /// `beta * self + alpha * (a @ b)` for batches of matrices; `self` broadcasts.
    baddbmm / baddbmm_
}

impl Tensor {
    /// `self @ weight^T + bias` over the last dim: the linear layer.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if weight.rank() == 1 && bias.is_none() && self.rank() > 0 {
            return self.matmul(weight);
        }
        check_linear(self, weight, bias)?;
        if let Some(bias) = bias.filter(|bias| bias.rank() > 1) {
            return self.linear(weight, None)?.add(bias);
        }
        let node = match (self.rank(), bias) {
            (2, Some(_)) => "AddmmBackward0",
            (2, None) => "MmBackward0",
            // What PyTorch makes of it ends with these.
            (_, Some(_)) => "ViewBackward0",
            (1, None) => "SqueezeBackward4",
            (_, None) => "UnsafeViewBackward0",
        };
        match bias {
            Some(bias) => apply(Linear { node }, [bias, self, weight]),
            None => apply(Linear { node }, [self, weight]),
        }
    }
}
