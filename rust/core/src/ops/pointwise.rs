//! Element-wise choices and blends: where, masked_fill, lerp, and sums with a factor.

use super::binary::{operands, result_like};
use super::clamp::masked;
use super::pow::element;
use super::promote::{compute_dtype, result_type, Scalar};
use crate::array::Array;
use crate::autograd::op::check_target;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::dtype::Category;
use crate::kernels::map::{lerp, select, zip, Binary, Plain};
use crate::layout::broadcast_shapes;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::{dispatch_all, dispatch_compute, dispatch_float, ensure, DType, Result};

/// A number beside integers must be one of them: `to_dtype` would wrap it.
fn check_number(op: &str, x: &Array, dtype: DType) -> Result<()> {
    if x.is_number() && x.dtype() == DType::I64 && dtype != DType::I64 {
        return Scalar::Int(x.item_i64()?).check_fits(op, dtype);
    }
    Ok(())
}

/// `condition ? a : b`.
#[derive(Debug)]
struct Where;

impl Op<3> for Where {
    const NAME: &'static str = "where";

    fn only_moves(&self) -> bool {
        true
    }

    fn saves(&self, _needs: [bool; 3]) -> Saves<3> {
        Saves::inputs([true, false, false])
    }

    fn forward(&mut self, [condition, a, b]: [&Array; 3]) -> Result<Array> {
        ensure!(
            matches!(condition.dtype(), DType::Bool | DType::U8),
            DType,
            "where: expected condition to be a boolean tensor, but got a tensor with dtype {}; compare it with \
             something first",
            condition.dtype().scalar_name()
        );
        let dtype = result_type(a, b);
        check_number(Self::NAME, a, dtype)?;
        check_number(Self::NAME, b, dtype)?;
        let shape = broadcast_shapes(Self::NAME, a.shape(), b.shape())?;
        let shape = broadcast_shapes(Self::NAME, condition.shape(), &shape)?;
        let spread = |x: &Array, dtype| x.to_dtype(dtype)?.broadcast_to(Self::NAME, &shape);
        let (condition, a, b) = (spread(condition, DType::Bool)?, spread(a, dtype)?, spread(b, dtype)?);
        let out = if condition.strides().iter().all(|&step| step == 0) {
            result_like(&a, &b, dtype)?
        } else {
            result_like(&condition, &a, dtype)?
        };
        dispatch_all!(dtype, T => select::<T>(&condition, &a, &b, &out));
        Ok(out)
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let condition = saved.input(0)?;
        let zero = Tensor::zeros(&[], grad.dtype())?;
        let by_a = saved.needs(1).then(|| Tensor::where_self(&condition, grad, &zero)).transpose()?;
        let by_b = saved.needs(2).then(|| Tensor::where_self(&condition, &zero, grad)).transpose()?;
        Ok([None, by_a, by_b])
    }
}

/// `mask ? value : x`, with `x`'s dtype; `value` is 0-d.
#[derive(Debug)]
struct MaskedFill {
    node: &'static str,
}

impl MaskedFill {
    fn check(mask: &Array, value: &Array) -> Result<()> {
        ensure!(
            mask.dtype() == DType::Bool,
            DType,
            "masked_fill: only supports boolean masks, but got mask with dtype {}; compare it with something \
             first",
            mask.dtype()
        );
        ensure!(
            value.rank() == 0,
            Shape,
            "masked_fill: only supports a 0-dimensional value tensor, but got tensor with {} dimension(s); use where",
            value.rank()
        );
        Ok(())
    }

    fn fill(x: &Array, mask: &Array, value: &Array, out: &Array) -> Result<()> {
        let spread = |x: &Array| x.broadcast_to(Self::NAME, out.shape());
        let (x, mask, value) = (spread(x)?, spread(mask)?, spread(&value.to_dtype(out.dtype())?)?);
        dispatch_all!(out.dtype(), T => select::<T>(&mask, &value, &x, out));
        Ok(())
    }
}

impl Op<3> for MaskedFill {
    const NAME: &'static str = "masked_fill";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, _needs: [bool; 3]) -> Saves<3> {
        Saves::inputs([false, true, false])
    }

    fn forward(&mut self, [x, mask, value]: [&Array; 3]) -> Result<Array> {
        Self::check(mask, value)?;
        let shape = broadcast_shapes(Self::NAME, x.shape(), mask.shape())?;
        let out = Array::empty(&shape, x.dtype())?; // row-major also of a transposed tensor, as in PyTorch
        Self::fill(x, mask, value, &out)?;
        Ok(out)
    }

    fn forward_into(&mut self, [x, mask, value]: [&Array; 3], out: &Array) -> Result<()> {
        Self::check(mask, value)?;
        let shape = broadcast_shapes(Self::NAME, x.shape(), mask.shape())?;
        check_target(Self::NAME, out, &shape, x.dtype())?;
        // A mask in the target's own memory would be overwritten while it is read.
        let mask = if mask.shares_memory_with(out) { mask.copied()? } else { mask.clone() };
        if x.is_same_view(out) {
            return Self::fill(x, &mask, &value.copied()?, out);
        }
        out.copy_from(&self.forward([x, &mask, value])?)
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let mask = saved.input(1)?;
        let by_x = saved.needs(0).then(|| grad.masked_fill(&mask, 0.0)).transpose()?;
        let by_value = saved.needs(2).then(|| masked(grad, &mask)).transpose()?;
        Ok([by_x, None, by_value])
    }
}

fn check_lerp(inputs: &[&Array]) -> Result<()> {
    let dtype = inputs[0].dtype();
    for input in inputs {
        let other = input.dtype();
        ensure!(
            other == dtype,
            DType,
            "lerp: expected dtype {dtype} for all inputs but got dtype {other}; convert one of them"
        );
    }
    ensure!(
        dtype.is_float(),
        DType,
        "lerp: \"lerp_kernel\" not implemented for '{}'; convert with .float() first",
        dtype.scalar_name()
    );
    Ok(())
}

/// `start + weight (end - start)` with one weight.
#[derive(Debug, Clone, Copy)]
struct LerpScalar(f64);

impl Op<2> for LerpScalar {
    const NAME: &'static str = "lerp";

    fn forward(&mut self, [a, b]: [&Array; 2]) -> Result<Array> {
        check_lerp(&[a, b])?;
        let dtype = a.dtype();
        let (a, b) = operands(Self::NAME, a, b, dtype)?;
        let out = result_like(&a, &b, a.dtype())?;
        let weight = self.0;
        dispatch_float!(a.dtype(), Self::NAME, T => {
            let (near, far) = (weight as T, (1.0 - weight) as T);
            if weight.abs() < 0.5 {
                zip::<T, T, _>(&a, &b, &out, Plain(|a: T, b: T| a + near * (b - a)));
            } else {
                zip::<T, T, _>(&a, &b, &out, Plain(|a: T, b: T| b - (b - a) * far));
            }
        });
        out.into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let by_a = saved.needs(0).then(|| grad * (1.0 - self.0));
        Ok([by_a, saved.needs(1).then(|| grad * self.0)])
    }
}

/// `start + weight (end - start)` with weights.
#[derive(Debug, Clone, Copy)]
struct LerpTensor;

impl Op<3> for LerpTensor {
    const NAME: &'static str = "lerp";

    fn grad_fn_name(&self) -> String {
        "LerpBackward1".into()
    }

    fn saves(&self, [_, _, weight]: [bool; 3]) -> Saves<3> {
        Saves::inputs([weight, weight, true])
    }

    fn forward(&mut self, inputs: [&Array; 3]) -> Result<Array> {
        let [a, b, weight] = inputs;
        // A 0-d weight is a number: it takes the dtype of the others.
        let weight = if weight.rank() == 0 { weight.to_dtype(a.dtype())? } else { weight.clone() };
        check_lerp(&[a, b, &weight])?;
        let shape = broadcast_shapes(Self::NAME, a.shape(), b.shape())?;
        let shape = broadcast_shapes(Self::NAME, &shape, weight.shape())?;
        let compute = compute_dtype(a.dtype());
        let spread = |x: &Array| x.to_dtype(compute)?.broadcast_to(Self::NAME, &shape);
        let (start, end, weight) = (spread(a)?, spread(b)?, spread(&weight)?);
        let out = result_like(&start, &end, compute)?;
        dispatch_float!(compute, Self::NAME, T => lerp::<T>(&start, &end, &weight, &out));
        out.into_dtype(a.dtype())
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let weight = saved.input(2)?;
        let by_a = saved.needs(0).then(|| grad * (1.0 - &weight));
        let by_b = saved.needs(1).then(|| grad * &weight);
        let by_weight = if saved.needs(2) { Some(grad * (saved.input(1)? - saved.input(0)?)) } else { None };
        Ok([by_a, by_b, by_weight])
    }
}

/// `a + alpha b`, or `a - alpha b`.
#[derive(Debug, Clone, Copy)]
struct AddScaled {
    alpha: Scalar,
    node: &'static str,
    /// Whether `alpha` keeps its digits beside 16-bit floats.
    exact: bool,
}

/// `a + factor b`, with one rounding where multiply-add is an instruction.
#[derive(Clone, Copy)]
struct PlusTimes<T>(T);

macro_rules! plus_times {
    ($($type:ty: $fma:expr;)*) => {
        $(impl Binary<$type, $type> for PlusTimes<$type> {
            #[inline(always)]
            fn call<I: Isa>(self, a: $type, b: $type) -> $type {
                let fma: fn($type, $type, $type) -> $type = $fma;
                fma(b, self.0, a)
            }
        })*
    };
}
plus_times! {
    f32: I::fma32;
    f64: I::fma64;
    u8: |b, factor, a| b.wrapping_mul(factor).wrapping_add(a);
    i32: |b, factor, a| b.wrapping_mul(factor).wrapping_add(a);
    i64: |b, factor, a| b.wrapping_mul(factor).wrapping_add(a);
}

impl AddScaled {
    /// As users spell it.
    fn op(&self) -> &'static str {
        if self.node == "SubBackward0" {
            "sub"
        } else {
            "add"
        }
    }

    fn check(&self, a: &Array, b: &Array) -> Result<DType> {
        let dtype = result_type(a, b);
        ensure!(
            self.node != "SubBackward0" || (a.dtype() != DType::Bool && b.dtype() != DType::Bool),
            DType,
            "sub: Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert \
             a mask, use the `~` or `logical_not()` operator instead."
        );
        // PyTorch's `add` and `sub` are strict about the factor; its `addcmul` takes any number.
        ensure!(
            self.exact || dtype.is_float() || self.alpha.category() != Category::Float,
            Value,
            "{}: For integral input tensors, argument alpha must not be a floating point number: alpha = {} for \
             {dtype}; use an int, or convert with .float()",
            self.op(),
            self.alpha
        );
        ensure!(
            self.exact || dtype == DType::Bool || self.alpha.category() != Category::Bool,
            Value,
            "{}: Boolean alpha only supported for Boolean results, not {dtype}; use a number",
            self.op()
        );
        let holds_alpha = if self.exact { compute_dtype(dtype) } else { dtype };
        self.factor().check_fits(self.op(), holds_alpha)?;
        Ok(dtype)
    }

    /// What the second operand is multiplied by.
    fn factor(&self) -> Scalar {
        if self.node == "SubBackward0" {
            negated(self.alpha)
        } else {
            self.alpha
        }
    }

    fn write(self, a: &Array, b: &Array, out: &Array, dtype: DType) -> Result<()> {
        let factor = self.factor();
        let alpha = if dtype.is_half() && !self.exact {
            Scalar::Float(factor.to_array(dtype)?.item_f64()?) // rounded to the dtype first, as in PyTorch
        } else if dtype == DType::Bool {
            Scalar::Int(i64::from(factor.to_f64() != 0.0)) // computed as uint8, where -1 would wrap
        } else {
            factor
        };
        dispatch_compute!(a.dtype(), Self::NAME, T => zip::<T, T, _>(a, b, out, PlusTimes(element::<T>(alpha))));
        Ok(())
    }
}

impl Op<2> for AddScaled {
    const NAME: &'static str = "add";

    fn called(&self) -> &'static str {
        if self.node == "SubBackward0" {
            "sub"
        } else {
            Self::NAME
        }
    }

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn forward(&mut self, [a, b]: [&Array; 2]) -> Result<Array> {
        let dtype = self.check(a, b)?;
        let (a, b) = operands(Self::NAME, a, b, dtype)?;
        let out = result_like(&a, &b, a.dtype())?;
        self.write(&a, &b, &out, dtype)?;
        out.into_dtype(dtype)
    }

    fn forward_into(&mut self, [a, b]: [&Array; 2], out: &Array) -> Result<()> {
        let dtype = self.check(a, b)?;
        let shape = broadcast_shapes(Self::NAME, a.shape(), b.shape())?;
        check_target(Self::NAME, out, &shape, dtype)?;
        let direct = dtype == out.dtype()
            && compute_dtype(dtype) == dtype
            && a.is_same_view(out)
            && (b.is_same_view(out) || !b.shares_memory_with(out));
        if direct {
            let (a, b) = operands(Self::NAME, a, b, dtype)?;
            return self.write(&a, &b, out, dtype);
        }
        out.copy_from(&self.forward([a, b])?)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let by_b = saved.needs(1).then(|| grad * self.factor().to_f64());
        Ok([saved.needs(0).then(|| grad.clone()), by_b])
    }
}

/// The factor with its sign changed.
fn negated(alpha: Scalar) -> Scalar {
    match alpha {
        Scalar::Bool(b) => Scalar::Int(-i64::from(b)),
        Scalar::Int(i) => Scalar::Int(i.wrapping_neg()),
        Scalar::Float(f) => Scalar::Float(-f),
    }
}

impl Tensor {
    /// `condition ? a : b`, element-wise and broadcast.
    pub fn where_self(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        apply(Where, [condition, a, b])
    }

    /// A copy with `value` wherever the bool tensor `mask`, broadcast, holds.
    pub fn masked_fill(&self, mask: &Tensor, value: impl Into<Scalar>) -> Result<Tensor> {
        let value = Tensor::constant(value.into().to_value(MaskedFill::NAME, self.dtype())?);
        apply(MaskedFill { node: "MaskedFillBackward0" }, [self, mask, &value])
    }

    /// In-place [`Tensor::masked_fill`].
    pub fn masked_fill_(&self, mask: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        let value = Tensor::constant(value.into().to_value(MaskedFill::NAME, self.dtype())?);
        apply_inplace(MaskedFill { node: "MaskedFillBackward0" }, [self, mask, &value])
    }

    /// A copy with the 0-d tensor `value` wherever the bool tensor `mask`, broadcast, holds.
    pub fn masked_fill_tensor(&self, mask: &Tensor, value: &Tensor) -> Result<Tensor> {
        apply(MaskedFill { node: "MaskedFillBackward1" }, [self, mask, value])
    }

    /// In-place [`Tensor::masked_fill_tensor`].
    pub fn masked_fill_tensor_(&self, mask: &Tensor, value: &Tensor) -> Result<()> {
        apply_inplace(MaskedFill { node: "MaskedFillBackward1" }, [self, mask, value])
    }

    /// `self + weight (end - self)`, element-wise and broadcast.
    pub fn lerp(&self, end: &Tensor, weight: f64) -> Result<Tensor> {
        apply(LerpScalar(weight), [self, end])
    }

    /// In-place [`Tensor::lerp`].
    pub fn lerp_(&self, end: &Tensor, weight: f64) -> Result<()> {
        apply_inplace(LerpScalar(weight), [self, end])
    }

    /// `self + weight (end - self)` with a tensor of weights, element-wise and broadcast.
    pub fn lerp_tensor(&self, end: &Tensor, weight: &Tensor) -> Result<Tensor> {
        apply(LerpTensor, [self, end, weight])
    }

    /// In-place [`Tensor::lerp_tensor`].
    pub fn lerp_tensor_(&self, end: &Tensor, weight: &Tensor) -> Result<()> {
        apply_inplace(LerpTensor, [self, end, weight])
    }

    /// `self + alpha other`, element-wise and broadcast.
    pub fn add_scaled(&self, other: &Tensor, alpha: impl Into<Scalar>) -> Result<Tensor> {
        apply(AddScaled { alpha: alpha.into(), node: "AddBackward0", exact: false }, [self, other])
    }

    /// In-place [`Tensor::add_scaled`].
    pub fn add_scaled_(&self, other: &Tensor, alpha: impl Into<Scalar>) -> Result<()> {
        apply_inplace(AddScaled { alpha: alpha.into(), node: "AddBackward0", exact: false }, [self, other])
    }

    /// As [`Tensor::add_scaled`], with a factor that keeps its digits beside 16-bit floats.
    pub fn add_exactly_scaled(&self, other: &Tensor, alpha: impl Into<Scalar>) -> Result<Tensor> {
        apply(AddScaled { alpha: alpha.into(), node: "AddBackward0", exact: true }, [self, other])
    }

    /// In-place [`Tensor::add_exactly_scaled`].
    pub fn add_exactly_scaled_(&self, other: &Tensor, alpha: impl Into<Scalar>) -> Result<()> {
        apply_inplace(AddScaled { alpha: alpha.into(), node: "AddBackward0", exact: true }, [self, other])
    }

    /// `self - alpha other`, element-wise and broadcast.
    pub fn sub_scaled(&self, other: &Tensor, alpha: impl Into<Scalar>) -> Result<Tensor> {
        apply(AddScaled { alpha: alpha.into(), node: "SubBackward0", exact: false }, [self, other])
    }

    /// In-place [`Tensor::sub_scaled`].
    pub fn sub_scaled_(&self, other: &Tensor, alpha: impl Into<Scalar>) -> Result<()> {
        apply_inplace(AddScaled { alpha: alpha.into(), node: "SubBackward0", exact: false }, [self, other])
    }
}
