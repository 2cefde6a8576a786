//! Logic on truth values and on bits, and tests for special values. A row is an op; the
//! results have no gradient, and that of a target written in place is 0.

use super::binary::{operands, result_like};
use super::promote::{compute_dtype, result_type};
use super::reduce::Over;
use crate::array::Array;
use crate::autograd::inplace::apply_inplace;
use crate::autograd::{Grads, Op, Saved};
use crate::dtype::{Bool, Category};
use crate::kernels::map::{map, zip, Plain};
use crate::kernels::num::Num;
use crate::kernels::reduce::{reduce, By, Fold};
use crate::kernels::truth;
use crate::layout::broadcast_shapes;
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, ensure, DType, Result};

/// An in-place write of a result that is computed without history.
#[derive(Debug)]
struct Assign(&'static str, Option<Array>);

impl Op<1> for Assign {
    const NAME: &'static str = "logical";

    fn called(&self) -> &'static str {
        self.0
    }

    fn grad_fn_name(&self) -> String {
        self.0.into()
    }

    fn forward(&mut self, _: [&Array; 1]) -> Result<Array> {
        match self.1.take() {
            Some(result) => Ok(result),
            None => bail!(Autograd, "{}: the result was taken before", self.0),
        }
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(Tensor::zeros(grad.shape(), grad.dtype())?)])
    }
}

fn assign(target: &Tensor, name: &'static str, result: Tensor) -> Result<()> {
    apply_inplace(Assign(name, Some(result.array().clone())), [target])
}

/// `f` of two arrays of truth values, computed as they are; nothing for other dtypes.
fn of_bools(
    name: &str,
    a: &Array,
    b: &Array,
    f: impl Fn(bool, bool) -> bool + Copy + Send + Sync,
) -> Result<Option<Array>> {
    if a.dtype() != DType::Bool || b.dtype() != DType::Bool {
        return Ok(None);
    }
    let shape = broadcast_shapes(name, a.shape(), b.shape())?;
    let (a, b) = (a.broadcast_to(name, &shape)?, b.broadcast_to(name, &shape)?);
    let out = result_like(&a, &b, DType::Bool)?;
    zip::<Bool, Bool, _>(&a, &b, &out, Plain(|a: Bool, b: Bool| Bool::from(f(a.get(), b.get()))));
    Ok(Some(out))
}

macro_rules! logical_ops {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident { |$a:ident, $b:ident| $f:expr })*) => {
        impl Tensor {
            $(
                $(#[doc = $doc])+
                pub fn $name(&self, other: &Tensor) -> Result<Tensor> {
                    let name = stringify!($name);
                    let (x, y) = (self.array(), other.array());
                    if let Some(out) = of_bools(name, x, y, |$a: bool, $b: bool| $f)? {
                        return Ok(Tensor::constant(out));
                    }
                    let (a, b) = operands(name, x, y, result_type(x, y))?;
                    let out = result_like(&a, &b, DType::Bool)?;
                    dispatch_compute!(a.dtype(), name, T => {
                        let f = |a: T, b: T| {
                            let ($a, $b) = (a != T::ZERO, b != T::ZERO);
                            Bool::from($f)
                        };
                        zip::<T, Bool, _>(&a, &b, &out, Plain(f))
                    });
                    Ok(Tensor::constant(out))
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                pub fn $inplace(&self, other: &Tensor) -> Result<()> {
                    assign(self, stringify!($inplace), self.$name(other)?)
                }
            )*
        }
    };
}

logical_ops! {
    /// Whether both are not 0, element-wise and broadcast.
    logical_and / logical_and_ { |a, b| a & b }
    /// Whether one is not 0, element-wise and broadcast.
    logical_or / logical_or_ { |a, b| a | b }
    /// Whether exactly one is not 0, element-wise and broadcast.
    logical_xor / logical_xor_ { |a, b| a ^ b }
}

fn check_bits(name: &str, dtype: DType) -> Result<()> {
    ensure!(
        dtype.category() != Category::Float,
        DType,
        "{name}: \"{name}_cpu\" not implemented for '{}'; it takes integers and bool",
        dtype.scalar_name()
    );
    Ok(())
}

/// As `dispatch_compute!` for the integers.
macro_rules! dispatch_bits {
    ($dtype:expr, $op:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::U8 => {
                type $t = u8;
                $body
            }
            DType::I32 => {
                type $t = i32;
                $body
            }
            DType::I64 => {
                type $t = i64;
                $body
            }
            other => bail!(DType, "{}: not implemented for {other}; it takes integers and bool", $op),
        }
    };
}

/// Rows on bits, and after `of_bools` what a row makes of truth values.
macro_rules! bitwise_ops {
    ($($(#[doc = $doc:literal])+ $name:ident / $inplace:ident {
        |$a:ident, $b:ident, $t:ident| $f:expr, |$x:ident, $y:ident| $of_bools:expr
    })*) => {
        impl Tensor {
            $(
                $(#[doc = $doc])+
                pub fn $name(&self, other: &Tensor) -> Result<Tensor> {
                    let name = stringify!($name);
                    let ($x, $y) = (self.array(), other.array());
                    let dtype = result_type($x, $y);
                    check_bits(name, dtype)?;
                    if dtype == DType::Bool {
                        let out: Option<Array> = $of_bools;
                        if let Some(out) = out {
                            return Ok(Tensor::constant(out));
                        }
                    }
                    let (a, b) = operands(name, $x, $y, dtype)?;
                    let out = result_like(&a, &b, a.dtype())?;
                    dispatch_bits!(a.dtype(), name, $t => {
                        zip::<$t, $t, _>(&a, &b, &out, Plain(|$a: $t, $b: $t| $f))
                    });
                    Ok(Tensor::constant(out))
                }
                #[doc = concat!("In-place `", stringify!($name), "`.")]
                pub fn $inplace(&self, other: &Tensor) -> Result<()> {
                    assign(self, stringify!($inplace), self.$name(other)?)
                }
            )*
        }
    };
}

bitwise_ops! {
    /// Bits set in both, element-wise and broadcast.
    bitwise_and / bitwise_and_ { |a, b, T| a & b, |x, y| of_bools("bitwise_and", x, y, |a, b| a & b)? }
    /// Bits set in one or both, element-wise and broadcast.
    bitwise_or / bitwise_or_ { |a, b, T| a | b, |x, y| of_bools("bitwise_or", x, y, |a, b| a | b)? }
    /// Bits set in exactly one, element-wise and broadcast.
    bitwise_xor / bitwise_xor_ { |a, b, T| a ^ b, |x, y| of_bools("bitwise_xor", x, y, |a, b| a ^ b)? }
    /// Bits moved `b` places up, element-wise and broadcast; 0 when `b` is not less than the width.
    bitwise_left_shift / bitwise_left_shift_ {
        |a, b, T| if (0..T::BITS as i64).contains(&i64::from(b)) { a << b } else { 0 },
        |_x, _y| no_bools("bitwise_left_shift", "lshift_cpu")?
    }
    /// Bits moved `b` places down, element-wise and broadcast; the sign fills up.
    bitwise_right_shift / bitwise_right_shift_ {
        |a, b, T| {
            // The last but one place leaves nothing but the sign, which unsigned integers do not have.
            let (last, b) = (T::BITS as i64 - 1, i64::from(b));
            if (0..=last).contains(&b) {
                a >> b
            } else if T::MIN == 0 {
                0
            } else {
                a >> last
            }
        },
        |_x, _y| no_bools("bitwise_right_shift", "rshift_cpu")?
    }
}

fn no_bools(name: &str, kernel: &str) -> Result<Option<Array>> {
    bail!(DType, "{name}: \"{kernel}\" not implemented for 'Bool'; convert with .int() first")
}

macro_rules! value_tests {
    ($($(#[doc = $doc:literal])+ $name:ident { |$x:ident| $f:expr })*) => {
        impl Tensor {
            $(
                $(#[doc = $doc])+
                pub fn $name(&self) -> Result<Tensor> {
                    let x = self.array().to_dtype(compute_dtype(self.dtype()))?;
                    let out = Array::empty_like(x.layout(), DType::Bool)?;
                    dispatch_compute!(x.dtype(), stringify!($name), T => {
                        map::<T, Bool, _>(&x, &out, Plain(|$x: T| Bool::from($f)))
                    });
                    Ok(Tensor::constant(out))
                }
            )*
        }
    };
}

/// Whether a number is infinite: the only ones that are not numbers when subtracted from themselves,
/// NaN aside.
#[inline(always)]
fn is_infinite<T: Num>(x: T) -> bool {
    !x.is_nan() && x.sub(x).is_nan()
}

value_tests! {
    /// Whether an element is not a number, element-wise.
    isnan { |x| x.is_nan() }
    /// Whether an element is infinite, element-wise.
    isinf { |x| is_infinite(x) }
    /// Whether an element is neither infinite nor NaN, element-wise.
    isfinite { |x| !x.sub(x).is_nan() }
    /// Whether an element is 0, element-wise.
    logical_not { |x| x == T::ZERO }
}

impl Tensor {
    /// In-place `logical_not`.
    pub fn logical_not_(&self) -> Result<()> {
        assign(self, "logical_not_", self.logical_not()?)
    }

    /// All bits flipped; bool gives the logical not.
    pub fn bitwise_not(&self) -> Result<Tensor> {
        check_bits("bitwise_not", self.dtype())?;
        if self.dtype() == DType::Bool {
            return self.logical_not();
        }
        let x = self.array();
        let out = Array::empty_like(x.layout(), x.dtype())?;
        dispatch_bits!(x.dtype(), "bitwise_not", T => map::<T, T, _>(x, &out, Plain(|x: T| !x)));
        Ok(Tensor::constant(out))
    }

    /// In-place `bitwise_not`.
    pub fn bitwise_not_(&self) -> Result<()> {
        assign(self, "bitwise_not_", self.bitwise_not()?)
    }

    /// Whether any element over `dims` (all if empty) is not 0. uint8 gives uint8, all else bool.
    pub fn any(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        self.truth("any", dims, keepdim, false)
    }

    /// Whether all elements over `dims` (all if empty) are not 0. uint8 gives uint8, all else bool.
    pub fn all(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        self.truth("all", dims, keepdim, true)
    }
}

/// As [`truth_of`] over the last dims of a contiguous array: until the first that decides.
fn truth_of_rows(x: &Array, mask: &[bool], all: bool) -> Result<Array> {
    let rows =
        x.shape().iter().zip(mask).filter(|(_, &reduced)| !reduced).map(|(&extent, _)| extent).product();
    let mut out = Array::empty(&[rows], DType::U8)?;
    truth::has(x, rows, all, out.slice_mut());
    out.slice_mut::<u8>().iter_mut().for_each(|found| *found ^= u8::from(all));
    Ok(out)
}

/// Whether any element is true, or all are: no element is false.
fn truth_of(x: &Array, mask: &[bool], all: bool) -> Result<Array> {
    // One loop for both and for all dtypes, which are converted to bool: two for each were 2 MB more of machine code.
    let flip = u8::from(all);
    let mut out = reduce::<Bool, u8, _, _>(x, mask, By(move |x: Bool| u8::from(x.get()) ^ flip), Or)?;
    out.slice_mut::<u8>().iter_mut().for_each(|found| *found ^= flip);
    Ok(out)
}

/// `or` of truth values.
#[derive(Debug, Clone, Copy)]
struct Or;
impl Fold<u8> for Or {
    fn start(self) -> u8 {
        0
    }
    #[inline(always)]
    fn join(self, a: u8, b: u8) -> u8 {
        a | b
    }
}

impl Tensor {
    fn truth(&self, op: &str, dims: &[isize], keepdim: bool, all: bool) -> Result<Tensor> {
        let over = Over::new(op, self, dims, keepdim)?;
        let x = self.array();
        let out = if x.is_contiguous() && x.numel() > 0 && over.mask.is_sorted() {
            truth_of_rows(x, &over.mask, all)?
        } else {
            truth_of(x, &over.mask, all)?
        };
        let dtype = if x.dtype() == DType::U8 { DType::U8 } else { DType::Bool };
        Ok(Tensor::constant(over.finish(out, x.shape()).into_dtype(dtype)?))
    }
}
