//! Powers: of a tensor and a number, of two tensors, of a number and a tensor.

use super::binary::{operands, result_like};
use super::promote::{compute_dtype, result_type, Scalar};
use crate::array::Array;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::dtype::Element;
use crate::kernels::map::{map, zip, Binary, Plain, Unary, GRAIN_COSTLY};
use crate::kernels::power::Power;
use crate::mode::is_recording;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::{dispatch_compute, ensure, DType, Result};

/// A number as an element.
pub(super) fn element<T: Element>(scalar: Scalar) -> T {
    match scalar {
        Scalar::Int(i) => T::from_i64(i),
        other => T::from_f64(other.to_f64()),
    }
}

#[derive(Clone, Copy)]
struct To<T>(T);
impl<T: Power> Unary<T, T> for To<T> {
    const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
    #[inline(always)]
    fn call<I: Isa>(self, x: T) -> T {
        x.power::<I>(self.0)
    }
}

#[derive(Clone, Copy)]
struct ToEach;
impl<T: Power> Binary<T, T> for ToEach {
    const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
    #[inline(always)]
    fn call<I: Isa>(self, base: T, exponent: T) -> T {
        base.power::<I>(exponent)
    }
}

/// Powers that are cheaper than a logarithm: `1 / x`, `1 / x^2`, the root, and its inverse.
#[derive(Clone, Copy)]
enum Cheap {
    Inverse,
    InverseSquare,
    Root,
    InverseRoot,
}

macro_rules! roots {
    ($($type:ty),*) => {
        $(impl Unary<$type, $type> for Cheap {
            #[inline(always)]
            fn call<I: Isa>(self, x: $type) -> $type {
                match self {
                    Cheap::Inverse => 1.0 / x,
                    Cheap::InverseSquare => 1.0 / (x * x),
                    Cheap::Root => x.sqrt(),
                    Cheap::InverseRoot => 1.0 / x.sqrt(),
                }
            }
        })*
    };
}
roots!(f32, f64);

/// Powers of floats, without `powf` for the common exponents.
fn float_powers<T: Power>(x: &Array, out: &Array, exponent: f64)
where
    Cheap: Unary<T, T>,
{
    if exponent == 2.0 {
        map::<T, T, _>(x, out, Plain(|x: T| x.mul(x)));
    } else if exponent == 3.0 {
        map::<T, T, _>(x, out, Plain(|x: T| x.mul(x).mul(x)));
    } else if exponent == 1.0 {
        map::<T, T, _>(x, out, Plain(|x: T| x));
    } else if exponent == 0.0 {
        map::<T, T, _>(x, out, Plain(|_: T| T::ONE));
    } else if exponent == -1.0 {
        map::<T, T, _>(x, out, Cheap::Inverse);
    } else if exponent == -2.0 {
        map::<T, T, _>(x, out, Cheap::InverseSquare);
    } else if exponent == 0.5 {
        map::<T, T, _>(x, out, Cheap::Root);
    } else if exponent == -0.5 {
        map::<T, T, _>(x, out, Cheap::InverseRoot);
    } else {
        map::<T, T, _>(x, out, To(T::from_f64(exponent)));
    }
}

/// `x` in the derivative of its square. Where that is recorded it keeps a history even in its own derivative, as
/// in PyTorch: programs may ask for the gradient of a second derivative without knowing that it is constant.
pub(super) fn first_power(x: &Tensor) -> Result<Tensor> {
    if is_recording() {
        x.pow_scalar(1.0)
    } else {
        Ok(x.clone())
    }
}

/// `x` to a power that is a number.
#[derive(Debug, Clone, Copy)]
struct PowScalar(Scalar);

impl Op<1> for PowScalar {
    const NAME: &'static str = "pow";

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        if self.0.to_f64() == 0.0 {
            Saves::nothing()
        } else {
            Saves::all_inputs()
        }
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let dtype = self.0.dtype_beside(x.dtype());
        let exponent = self.0.to_f64();
        ensure!(
            dtype.is_float() || exponent >= 0.0,
            Value,
            "pow: Integers to negative integer powers are not allowed. Exponent {exponent} of a tensor of \
             {dtype}; convert with .float() first"
        );
        if !dtype.is_float() || dtype.is_half() {
            self.0.check_fits(Self::NAME, dtype)?;
        }
        let exponent = if dtype.is_half() {
            self.0.to_array(dtype)?.item_f64()? // rounded to the dtype first, as in PyTorch
        } else {
            exponent
        };
        let x = x.to_dtype(compute_dtype(dtype))?;
        let out = Array::empty_like(x.layout(), x.dtype())?;
        match x.dtype() {
            DType::F32 => float_powers::<f32>(&x, &out, exponent),
            DType::F64 => float_powers::<f64>(&x, &out, exponent),
            _ => dispatch_compute!(x.dtype(), Self::NAME, T => {
                map::<T, T, _>(&x, &out, To(element::<T>(self.0)))
            }),
        }
        out.into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let exponent = self.0.to_f64();
        Ok([Some(if exponent == 0.0 {
            Tensor::zeros(&saved.shape(0), grad.dtype())?
        } else if exponent == 2.0 {
            grad * (first_power(&saved.input(0)?)? * 2.0)
        } else {
            grad * (saved.input(0)?.pow_scalar(exponent - 1.0)? * exponent)
        })])
    }
}

/// Both operands raised element by element.
fn power(a: &Array, b: &Array) -> Result<Array> {
    let dtype = result_type(a, b);
    ensure!(
        dtype != DType::Bool,
        DType,
        "pow: \"pow\" not implemented for 'Bool'; convert with .int() first"
    );
    let (a, b) = operands("pow", a, b, dtype)?;
    let out = result_like(&a, &b, a.dtype())?;
    dispatch_compute!(a.dtype(), "pow", T => zip::<T, T, _>(&a, &b, &out, ToEach));
    out.into_dtype(dtype)
}

/// Gradient of a power by its exponent: `g y ln(base)`, 0 where the base is 0 and the power is not inf.
fn exponent_grad(grad: &Tensor, base: &Tensor, exponent: &Tensor, y: &Tensor) -> Result<Tensor> {
    let flat = base.eq_scalar(0.0)?.logical_and(&exponent.ge_scalar(0.0)?)?;
    let zero = Tensor::zeros(&[], grad.dtype())?;
    Ok(grad * Tensor::where_self(&flat, &zero, &(y * base.log()?))?)
}

/// `x` to a power that is a tensor.
#[derive(Debug, Clone, Copy)]
struct PowTensor;

impl Op<2> for PowTensor {
    const NAME: &'static str = "pow";

    fn grad_fn_name(&self) -> String {
        "PowBackward1".into()
    }

    fn saves(&self, [_, exponent]: [bool; 2]) -> Saves<2> {
        let saves = Saves::all_inputs();
        if exponent {
            saves.and_output()
        } else {
            saves
        }
    }

    fn forward(&mut self, [a, b]: [&Array; 2]) -> Result<Array> {
        power(a, b)
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        let (base, exponent) = (saved.input(0)?, saved.input(1)?);
        let by_base = if saved.needs(0) {
            let slope = grad * (&exponent * base.pow(&(&exponent - 1.0))?);
            let zero = Tensor::zeros(&[], grad.dtype())?;
            // The gradient stands inside the choice: so do those of its own gradient.
            Some(Tensor::where_self(&exponent.eq_scalar(0.0)?, &zero, &slope)?)
        } else {
            None
        };
        let by_exponent = if saved.needs(1) {
            Some(exponent_grad(grad, &base, &exponent, &saved.output()?)?)
        } else {
            None
        };
        Ok([by_base, by_exponent])
    }
}

/// A number to a power that is a tensor.
#[derive(Debug, Clone, Copy)]
struct PowBase(Scalar);

impl Op<1> for PowBase {
    const NAME: &'static str = "pow";

    fn grad_fn_name(&self) -> String {
        "PowBackward2".into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs().and_output()
    }

    fn forward(&mut self, [exponent]: [&Array; 1]) -> Result<Array> {
        power(&self.0.to_array(self.0.dtype_beside(exponent.dtype()))?, exponent)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let y = saved.output()?;
        let base = y.scalar_beside(self.0)?;
        Ok([Some(exponent_grad(grad, &base, &saved.input(0)?, &y)?)])
    }
}

impl Tensor {
    /// `self` to the power of `exponent`, element-wise and broadcast.
    pub fn pow(&self, exponent: &Tensor) -> Result<Tensor> {
        apply(PowTensor, [self, exponent])
    }

    /// In-place [`Tensor::pow`].
    pub fn pow_(&self, exponent: &Tensor) -> Result<()> {
        apply_inplace(PowTensor, [self, exponent])
    }

    /// `self` to the power of a number, element-wise.
    pub fn pow_scalar(&self, exponent: impl Into<Scalar>) -> Result<Tensor> {
        apply(PowScalar(exponent.into()), [self])
    }

    /// In-place [`Tensor::pow_scalar`].
    pub fn pow_scalar_(&self, exponent: impl Into<Scalar>) -> Result<()> {
        apply_inplace(PowScalar(exponent.into()), [self])
    }

    /// The number `base` to the power of `self`, element-wise.
    pub fn scalar_pow(base: impl Into<Scalar>, exponent: &Tensor) -> Result<Tensor> {
        apply(PowBase(base.into()), [exponent])
    }
}
