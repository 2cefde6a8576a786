//! Element-wise functions of two tensors, broadcast and promoted. A row is an op.

use super::promote::{compute_dtype, result_type};
use super::reduce::any_zero;
use super::winner::winner_grad;
use crate::array::Array;
use crate::autograd::op::check_target;
use crate::autograd::{apply::apply, inplace::apply_inplace, Grads, Op, Saved, Saves};
use crate::dtype::{bf16, f16, Category};
use crate::kernels::map::{zip, Binary, Half, GRAIN_CHEAP, GRAIN_COSTLY};
use crate::kernels::math::Real;
use crate::kernels::num::Num;
use crate::layout::broadcast_shapes;
use crate::simd::Isa;
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, dispatch_float, ensure, DType, Result};

/// A formula on two floats; integers are converted to float32 first.
trait FloatFormula: Copy + Send + Sync + 'static {
    fn call<I: Isa, R: Real<I>>(a: R, b: R) -> R;
}

/// A formula on two numbers.
trait NumFormula: Copy + Send + Sync + 'static {
    fn call<T: Num>(a: T, b: T) -> T;
}

#[derive(Clone, Copy)]
struct OnFloat<F>(F);
impl<F: FloatFormula> Binary<f32, f32> for OnFloat<F> {
    const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
    #[inline(always)]
    fn call<I: Isa>(self, a: f32, b: f32) -> f32 {
        F::call::<I, f32>(a, b)
    }
}
impl<F: FloatFormula> Binary<f64, f64> for OnFloat<F> {
    const GRAIN: usize = GRAIN_COSTLY;
    const WIDE: bool = true;
    #[inline(always)]
    fn call<I: Isa>(self, a: f64, b: f64) -> f64 {
        F::call::<I, f64>(a, b)
    }
}

#[derive(Clone, Copy)]
struct OnNum<F>(F);
impl<T: Num, F: NumFormula> Binary<T, T> for OnNum<F> {
    const GRAIN: usize = GRAIN_CHEAP;
    #[inline(always)]
    fn call<I: Isa>(self, a: T, b: T) -> T {
        F::call(a, b)
    }
}

/// Both operands in the compute dtype and the common shape. What is of another dtype than a 16-bit result
/// is rounded to that first, as in PyTorch.
pub(super) fn operands(name: &str, a: &Array, b: &Array, dtype: DType) -> Result<(Array, Array)> {
    let compute = compute_dtype(dtype);
    let convert = |x: &Array| {
        if dtype.is_half() && x.dtype() != dtype {
            return x.to_dtype(dtype)?.to_dtype(compute);
        }
        x.to_dtype(compute)
    };
    broadcast(name, convert(a)?, convert(b)?)
}

/// As `operands`, but a number or 0-d operand enters a 16-bit computation with all its digits:
/// a float16 times 65536 need not be infinite.
pub(super) fn exact_operands(name: &str, a: &Array, b: &Array, dtype: DType) -> Result<(Array, Array)> {
    let compute = compute_dtype(dtype);
    if dtype.is_half() && b.rank() == 0 {
        return broadcast(name, a.to_dtype(dtype)?.to_dtype(compute)?, b.to_dtype(compute)?);
    }
    if dtype.is_half() && a.is_number() {
        return broadcast(name, a.to_dtype(compute)?, b.to_dtype(dtype)?.to_dtype(compute)?);
    }
    operands(name, a, b, dtype)
}

/// Both in the common shape.
#[inline]
fn broadcast(name: &str, a: Array, b: Array) -> Result<(Array, Array)> {
    if a.layout().has_shape_of(b.layout()) {
        return Ok((a, b));
    }
    if b.rank() == 0 {
        // A number, most often: beside one element, finding the common shape would cost more than the rest.
        let layout = b.layout().repeated(a.shape());
        return Ok((a, b.into_layout(layout)));
    }
    let shape = broadcast_shapes(name, a.shape(), b.shape())?;
    Ok((a.broadcast_to(name, &shape)?, b.broadcast_to(name, &shape)?))
}

type Operands = fn(&str, &Array, &Array, DType) -> Result<(Array, Array)>;

/// A new array for a result of the operands: in the first one's order of dims, as far as it has one.
pub(super) fn result_like(a: &Array, b: &Array, dtype: DType) -> Result<Array> {
    if a.layout().has_strides_of(b.layout()) || b.strides().iter().all(|&s| s == 0) {
        Array::empty_like(a.layout(), dtype)
    } else if a.is_contiguous() {
        Array::empty(a.shape(), dtype)
    } else {
        Array::empty_like(&a.layout().like_both(b.layout()), dtype)
    }
}

type Into = fn(&Array, &Array, &Array) -> Result<()>;

/// How a row computes: its operands' form, its loop, and whether that takes 16-bit floats as they are.
#[derive(Clone, Copy)]
struct How {
    operands: Operands,
    into: Into,
    takes_half: bool,
}

fn forward(name: &str, a: &Array, b: &Array, dtype: DType, how: How) -> Result<Array> {
    let How { operands, into, takes_half } = how;
    let as_it_is = compute_dtype(dtype) == dtype || (takes_half && dtype.is_half());
    if as_it_is && a.dtype() == dtype && b.dtype() == dtype {
        let out = match (a.rank(), b.rank()) {
            _ if a.layout().has_shape_of(b.layout()) => Some(result_like(a, b, dtype)?),
            (_, 0) => Some(Array::empty_like(a.layout(), dtype)?),
            (0, _) => Some(Array::empty_like(b.layout(), dtype)?),
            _ => None,
        };
        if let Some(out) = out {
            into(a, b, &out)?;
            return Ok(out);
        }
    }
    let (a, b) = if takes_half && dtype.is_half() && a.dtype() == dtype && b.dtype() == dtype {
        broadcast(name, a.clone(), b.clone())?
    } else {
        operands(name, a, b, dtype)?
    };
    let out = result_like(&a, &b, a.dtype())?;
    into(&a, &b, &out)?;
    out.into_dtype(dtype)
}

fn forward_into(name: &str, a: &Array, b: &Array, dtype: DType, out: &Array, how: How) -> Result<()> {
    let shape = broadcast_shapes(name, a.shape(), b.shape())?;
    check_target(name, out, &shape, dtype)?;
    // Written directly when each element is read before it is written: the target is `a` itself and
    // `b` lies elsewhere.
    let as_it_is = compute_dtype(dtype) == dtype || (how.takes_half && dtype.is_half() && b.dtype() == dtype);
    let direct = dtype == out.dtype()
        && as_it_is
        && a.is_same_view(out)
        && (b.is_same_view(out) || !b.shares_memory_with(out));
    if direct {
        // Of a number alone the dtype may still differ.
        let (a, b) = broadcast(name, a.clone(), b.to_dtype(dtype)?)?;
        return (how.into)(&a, &b, out);
    }
    out.copy_from(&forward(name, a, b, dtype, how)?)
}

fn check_divisor(name: &str, b: &Array) -> Result<()> {
    if b.dtype().category() == Category::Float {
        return Ok(());
    }
    let has_zero = any_zero(b)?;
    ensure!(!has_zero, Value, "{name}: ZeroDivisionError: integer division by zero; use float operands");
    Ok(())
}

macro_rules! formula {
    (float, $op:ident, |$a:ident, $b:ident| $f:expr) => {
        impl FloatFormula for $op {
            #[inline(always)]
            fn call<I: Isa, R: Real<I>>($a: R, $b: R) -> R {
                $f
            }
        }
    };
    ($over:ident, $op:ident, |$a:ident, $b:ident| $f:expr) => {
        impl NumFormula for $op {
            #[inline(always)]
            fn call<T: Num>($a: T, $b: T) -> T {
                $f
            }
        }
    };
}

macro_rules! result_dtype {
    (float, $name:expr, $a:ident, $b:ident) => {
        result_type($a, $b).to_float()
    };
    (number, $name:expr, $a:ident, $b:ident) => {
        result_type($a, $b)
    };
    (product, $name:expr, $a:ident, $b:ident) => {
        result_type($a, $b)
    };
    (quotient, $name:expr, $a:ident, $b:ident) => {
        result_dtype!(divisor, $name, $a, $b)
    };
    (no_bool, $name:expr, $a:ident, $b:ident) => {{
        if $a.dtype() == DType::Bool || $b.dtype() == DType::Bool {
            bail!(
                DType,
                "{}: Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to \
                 invert a mask, use the `~` or `logical_not()` operator instead, or convert with .int()",
                $name
            );
        }
        result_type($a, $b)
    }};
    (divisor, $name:expr, $a:ident, $b:ident) => {{
        let dtype = result_type($a, $b);
        if dtype == DType::Bool {
            bail!(DType, "{}: not implemented for 'Bool'; convert with .int()", $name);
        }
        if !dtype.is_float() {
            check_divisor($name, &$b.to_dtype(dtype)?)?; // a number may become 0 there
        }
        dtype
    }};
}

/// How the rows of a kind compute: `float` and `product` take numbers exactly, as does `quotient`; the
/// rows that divide are too long to be compiled for 16-bit floats as well.
macro_rules! how {
    (float, $op:ident) => {
        How { operands: exact_operands, into: kernel!(float, $op), takes_half: true }
    };
    (product, $op:ident) => {
        How { operands: exact_operands, into: kernel!(short, $op), takes_half: true }
    };
    (quotient, $op:ident) => {
        How { operands: exact_operands, into: kernel!(long, $op), takes_half: false }
    };
    (divisor, $op:ident) => {
        How { operands, into: kernel!(long, $op), takes_half: false }
    };
    ($over:ident, $op:ident) => {
        How { operands, into: kernel!(short, $op), takes_half: true }
    };
}

macro_rules! kernel {
    (float, $op:ident) => {
        |a: &Array, b: &Array, out: &Array| {
            match a.dtype() {
                DType::F16 => zip::<f16, f16, _>(a, b, out, Half(OnFloat($op))),
                DType::BF16 => zip::<bf16, bf16, _>(a, b, out, Half(OnFloat($op))),
                dtype => {
                    dispatch_float!(dtype, $op::NAME, T => zip::<T, T, _>(a, b, out, OnFloat($op)))
                }
            }
            Ok(())
        }
    };
    (short, $op:ident) => {
        |a: &Array, b: &Array, out: &Array| {
            match a.dtype() {
                DType::F16 => zip::<f16, f16, _>(a, b, out, Half(OnNum($op))),
                DType::BF16 => zip::<bf16, bf16, _>(a, b, out, Half(OnNum($op))),
                dtype => {
                    dispatch_compute!(dtype, $op::NAME, T => zip::<T, T, _>(a, b, out, OnNum($op)))
                }
            }
            Ok(())
        }
    };
    (long, $op:ident) => {
        |a: &Array, b: &Array, out: &Array| {
            dispatch_compute!(a.dtype(), $op::NAME, T => zip::<T, T, _>(a, b, out, OnNum($op)));
            Ok(())
        }
    };
}

macro_rules! binary_ops {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident ($op:ident, $over:ident) {
        f: |$a:ident, $b:ident| $f:expr,
        keep: |$na:ident, $nb:ident| $keep:expr,
        df: |$g:ident, $saved:ident| $df:expr
    })*) => {
        /// Names of all rows, for the tests.
        pub const ROWS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[derive(Debug, Clone, Copy)]
            struct $op;
            formula!($over, $op, |$a, $b| $f);
            impl Op<2> for $op {
                const NAME: &'static str = stringify!($name);
                fn saves(&self, [$na, $nb]: [bool; 2]) -> Saves<2> {
                    let _ = ($na, $nb);
                    Saves::inputs($keep)
                }
                fn forward(&mut self, [a, b]: [&Array; 2]) -> Result<Array> {
                    let dtype = result_dtype!($over, Self::NAME, a, b);
                    forward(Self::NAME, a, b, dtype, how!($over, $op))
                }
                fn forward_into(&mut self, [a, b]: [&Array; 2], out: &Array) -> Result<()> {
                    let dtype = result_dtype!($over, Self::NAME, a, b);
                    forward_into(Self::NAME, a, b, dtype, out, how!($over, $op))
                }
                fn backward(&self, $saved: &Saved<2>, $g: &Tensor) -> Result<Grads<2>> {
                    let _ = $saved;
                    Ok($df)
                }
            }
            impl Tensor {
                $(#[doc = $doc])+
                pub fn $name(&self, other: &Tensor) -> Result<Tensor> {
                    apply($op, [self, other])
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                pub fn $inplace(&self, other: &Tensor) -> Result<()> {
                    apply_inplace($op, [self, other])
                }
            }
        )*
    };
}

/// A gradient for the inputs that need one.
fn of<F: FnOnce() -> Result<Tensor>>(needed: bool, grad: F) -> Result<Option<Tensor>> {
    needed.then(grad).transpose()
}

/// No gradient, for the inputs that need one: a step function is flat.
fn flat(saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
    let zeros = |i: usize| of(saved.needs(i), || Tensor::zeros(&saved.shape(i), grad.dtype()));
    Ok([zeros(0)?, zeros(1)?])
}

binary_ops! {
    /// `a + b`, element-wise and broadcast.
    add / add_ (Add, number) {
        f: |a, b| a.add(b), keep: |_a, _b| [false, false],
        df: |g, saved| [saved.needs(0).then(|| g.clone()), saved.needs(1).then(|| g.clone())]
    }
    /// `a - b`, element-wise and broadcast.
    sub / sub_ (Sub, no_bool) {
        f: |a, b| a.sub(b), keep: |_a, _b| [false, false],
        df: |g, saved| [saved.needs(0).then(|| g.clone()), saved.needs(1).then(|| -g)]
    }
    /// `a * b`, element-wise and broadcast.
    mul / mul_ (Mul, product) {
        f: |a, b| a.mul(b), keep: |a, b| [b, a],
        df: |g, saved| [
            of(saved.needs(0), || Ok(g * saved.input(1)?))?,
            of(saved.needs(1), || Ok(g * saved.input(0)?))?,
        ]
    }
    /// `a / b`, element-wise and broadcast; integers give floats.
    div / div_ (Div, float) {
        f: |a, b| a / b, keep: |_a, b| [b, true],
        df: |g, saved| {
            let by_a = g / saved.input(1)?;
            let by_b = of(saved.needs(1), || Ok(-(&by_a * (saved.input(0)? / saved.input(1)?))))?;
            [Some(by_a), by_b]
        }
    }
    /// The larger of both, element-wise and broadcast; nan if either is.
    maximum / maximum_ (Maximum, number) {
        f: |a, b| a.maximum(b), keep: |_a, _b| [true, true],
        df: |g, saved| {
            let (a, b) = (saved.input(0)?, saved.input(1)?);
            [
                of(saved.needs(0), || winner_grad("maximum", g, &a, &b, true))?,
                of(saved.needs(1), || winner_grad("maximum", g, &b, &a, true))?,
            ]
        }
    }
    /// The smaller of both, element-wise and broadcast; nan if either is.
    minimum / minimum_ (Minimum, number) {
        f: |a, b| a.minimum(b), keep: |_a, _b| [true, true],
        df: |g, saved| {
            let (a, b) = (saved.input(0)?, saved.input(1)?);
            [
                of(saved.needs(0), || winner_grad("minimum", g, &a, &b, false))?,
                of(saved.needs(1), || winner_grad("minimum", g, &b, &a, false))?,
            ]
        }
    }
    /// `a / b` rounded down, element-wise and broadcast.
    floor_divide / floor_divide_ (FloorDivide, quotient) {
        f: |a, b| a.floor_div(b), keep: |_a, _b| [false, false],
        df: |g, saved| flat(saved, g)?
    }
    /// `a / b` rounded towards zero, element-wise and broadcast.
    trunc_divide / trunc_divide_ (TruncDivide, quotient) {
        f: |a, b| a.trunc_div(b), keep: |_a, _b| [false, false],
        df: |g, saved| flat(saved, g)?
    }
    /// Remainder of `a / b` with the sign of `b`, element-wise and broadcast.
    remainder / remainder_ (Remainder, divisor) {
        f: |a, b| a.remainder(b), keep: |_a, b| [b, b],
        df: |g, saved| [
            saved.needs(0).then(|| g.clone()),
            of(saved.needs(1), || Ok(-(g * saved.input(0)?.floor_divide(&saved.input(1)?)?)))?,
        ]
    }
    /// Remainder of `a / b` with the sign of `a`, element-wise and broadcast.
    fmod / fmod_ (Fmod, divisor) {
        f: |a, b| a.fmod(b), keep: |_a, b| [b, b],
        df: |g, saved| [
            saved.needs(0).then(|| g.clone()),
            of(saved.needs(1), || Ok(-(g * saved.input(0)?.trunc_divide(&saved.input(1)?)?)))?,
        ]
    }
}
