//! Values limited to a range whose ends are numbers or tensors.

use super::pow::element;
use super::promote::{compute_dtype, Scalar};
use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::kernels::map::{map, Plain};
use crate::kernels::num::Num;
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, ensure, DType, Result};

/// `grad` where `mask` holds, else 0.
pub(super) fn masked(grad: &Tensor, mask: &Tensor) -> Result<Tensor> {
    Tensor::where_self(mask, grad, &Tensor::zeros(&[], grad.dtype())?)
}

/// Limited by numbers.
#[derive(Debug, Clone, Copy)]
struct ClampScalar {
    min: Option<Scalar>,
    max: Option<Scalar>,
    node: &'static str,
}

fn limit<T: Num>(x: &Array, out: &Array, min: Option<Scalar>, max: Option<Scalar>) {
    let (min, max) = (min.map(element::<T>), max.map(element::<T>));
    if let Some(limit) = [min, max].into_iter().flatten().find(|limit| limit.is_nan()) {
        return map::<T, T, _>(x, out, Plain(|_| limit));
    }
    // Of limits that are no nan these are one instruction each, and keep that of `x`; `maximum` is four.
    let above = |x: T, min: T| if min > x { min } else { x };
    let below = |x: T, max: T| if max < x { max } else { x };
    match (min, max) {
        (Some(min), Some(max)) => map::<T, T, _>(x, out, Plain(|x: T| below(above(x, min), max))),
        (Some(min), None) => map::<T, T, _>(x, out, Plain(|x: T| above(x, min))),
        (None, Some(max)) => map::<T, T, _>(x, out, Plain(|x: T| below(x, max))),
        (None, None) => {}
    }
}

impl Op<1> for ClampScalar {
    const NAME: &'static str = "clamp";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let limits = self.min.into_iter().chain(self.max);
        let dtype = limits.fold(x.dtype(), |dtype, limit| limit.dtype_beside(dtype));
        ensure!(dtype != DType::Bool, DType, "clamp: not implemented for 'Bool'; convert with .int() first");
        for limit in self.min.into_iter().chain(self.max) {
            limit.check_fits(Self::NAME, dtype)?;
        }
        let x = x.to_dtype(compute_dtype(dtype))?;
        let out = Array::empty_like(x.layout(), x.dtype())?;
        dispatch_compute!(x.dtype(), Self::NAME, T => limit::<T>(&x, &out, self.min, self.max));
        out.into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let x = saved.input(0)?;
        let above = self.min.map(|min| x.ge(&x.scalar_beside(min)?)).transpose()?;
        let below = self.max.map(|max| x.le(&x.scalar_beside(max)?)).transpose()?;
        Ok([Some(match (above, below) {
            (Some(above), Some(below)) => masked(grad, &above.logical_and(&below)?)?,
            (Some(mask), None) | (None, Some(mask)) => masked(grad, &mask)?,
            (None, None) => grad.clone(),
        })])
    }
}

/// Limited by a tensor, from below or above.
#[derive(Debug, Clone, Copy)]
struct ClampOne {
    is_min: bool,
    node: &'static str,
}

impl Op<2> for ClampOne {
    const NAME: &'static str = "clamp";

    fn only_moves(&self) -> bool {
        true
    }

    fn grad_fn_name(&self) -> String {
        self.node.into()
    }

    fn saves(&self, _needs: [bool; 2]) -> Saves<2> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [x, limit]: [&Array; 2]) -> Result<Array> {
        let (x, limit) = (Tensor::constant(x.clone()), Tensor::constant(limit.clone()));
        let out = if self.is_min { x.maximum(&limit) } else { x.minimum(&limit) }?;
        Ok(out.array().clone())
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let (x, limit) = (saved.input(0)?, saved.input(1)?);
        let (inside, outside) =
            if self.is_min { (x.ge(&limit)?, x.lt(&limit)?) } else { (x.le(&limit)?, x.gt(&limit)?) };
        let by = |i, places| saved.needs(i).then(|| masked(grad, places)).transpose();
        Ok([by(0, &inside)?, by(1, &outside)?])
    }
}

/// Limited by two tensors; the upper limit wins.
#[derive(Debug, Clone, Copy)]
struct ClampBoth;

impl Op<3> for ClampBoth {
    const NAME: &'static str = "clamp";

    fn only_moves(&self) -> bool {
        true
    }

    fn saves(&self, _needs: [bool; 3]) -> Saves<3> {
        Saves::all_inputs()
    }

    fn forward(&mut self, inputs: [&Array; 3]) -> Result<Array> {
        let [x, min, max] = inputs.map(|array| Tensor::constant(array.clone()));
        Ok(x.maximum(&min)?.minimum(&max)?.array().clone())
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let (x, min, max) = (saved.input(0)?, saved.input(1)?, saved.input(2)?);
        let inside = x.ge(&min)?.logical_and(&x.le(&max)?)?;
        let below = min.lt(&max)?.logical_and(&x.lt(&min)?)?;
        let above = x.gt(&max)?.logical_or(&max.lt(&min)?)?;
        let by = |i, places| saved.needs(i).then(|| masked(grad, places)).transpose();
        Ok([by(0, &inside)?, by(1, &below)?, by(2, &above)?])
    }
}

fn no_limits<T>() -> Result<T> {
    bail!(Value, "clamp: At least one of 'min' or 'max' must not be None; give one of them")
}

impl Tensor {
    /// Values limited to `min..=max`, element-wise; `max` wins where the limits cross.
    pub fn clamp(&self, min: Option<Scalar>, max: Option<Scalar>) -> Result<Tensor> {
        if min.is_none() && max.is_none() {
            return no_limits();
        }
        apply(ClampScalar { min, max, node: "ClampBackward1" }, [self])
    }

    /// In-place [`Tensor::clamp`].
    pub fn clamp_(&self, min: Option<Scalar>, max: Option<Scalar>) -> Result<()> {
        if min.is_none() && max.is_none() {
            return no_limits();
        }
        apply_inplace(ClampScalar { min, max, node: "ClampBackward1" }, [self])
    }

    /// Values limited by tensors, element-wise and broadcast.
    pub fn clamp_tensor(&self, min: Option<&Tensor>, max: Option<&Tensor>) -> Result<Tensor> {
        let node = "ClampBackward0";
        match (min, max) {
            (Some(min), Some(max)) => apply(ClampBoth, [self, min, max]),
            (Some(min), None) => apply(ClampOne { is_min: true, node }, [self, min]),
            (None, Some(max)) => apply(ClampOne { is_min: false, node }, [self, max]),
            (None, None) => no_limits(),
        }
    }

    /// In-place [`Tensor::clamp_tensor`].
    pub fn clamp_tensor_(&self, min: Option<&Tensor>, max: Option<&Tensor>) -> Result<()> {
        let node = "ClampBackward0";
        match (min, max) {
            (Some(min), Some(max)) => apply_inplace(ClampBoth, [self, min, max]),
            (Some(min), None) => apply_inplace(ClampOne { is_min: true, node }, [self, min]),
            (None, Some(max)) => apply_inplace(ClampOne { is_min: false, node }, [self, max]),
            (None, None) => no_limits(),
        }
    }

    /// Values limited from below by a number.
    pub fn clamp_min(&self, min: impl Into<Scalar>) -> Result<Tensor> {
        apply(ClampScalar { min: Some(min.into()), max: None, node: "ClampMinBackward0" }, [self])
    }

    /// In-place [`Tensor::clamp_min`].
    pub fn clamp_min_(&self, min: impl Into<Scalar>) -> Result<()> {
        apply_inplace(ClampScalar { min: Some(min.into()), max: None, node: "ClampMinBackward0" }, [self])
    }

    /// Values limited from above by a number.
    pub fn clamp_max(&self, max: impl Into<Scalar>) -> Result<Tensor> {
        apply(ClampScalar { min: None, max: Some(max.into()), node: "ClampMaxBackward0" }, [self])
    }

    /// In-place [`Tensor::clamp_max`].
    pub fn clamp_max_(&self, max: impl Into<Scalar>) -> Result<()> {
        apply_inplace(ClampScalar { min: None, max: Some(max.into()), node: "ClampMaxBackward0" }, [self])
    }

    /// Values limited from below by a tensor.
    pub fn clamp_min_tensor(&self, min: &Tensor) -> Result<Tensor> {
        apply(ClampOne { is_min: true, node: "ClampMinBackward1" }, [self, min])
    }

    /// Values limited from above by a tensor.
    pub fn clamp_max_tensor(&self, max: &Tensor) -> Result<Tensor> {
        apply(ClampOne { is_min: false, node: "ClampMaxBackward1" }, [self, max])
    }
}
