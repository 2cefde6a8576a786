//! New tensors from numbers.

use super::promote::Scalar;
use crate::array::Array;
use crate::dtype::Element;
use crate::kernels::copy;
use crate::kernels::ramp::{tabulate, Ramp};
use crate::layout::{Dims, Strides};
use crate::tensor::Tensor;
use crate::{dispatch_all, ensure, DType, Layout, Result};

impl Tensor {
    /// Elements without a value yet.
    pub fn empty(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Ok(Self::constant(Array::empty(shape, dtype)?))
    }

    /// Every element `value`.
    pub fn full(shape: &[usize], value: impl Into<Scalar>, dtype: DType) -> Result<Tensor> {
        let value = value.into();
        check_filling("full", value, shape, dtype)?;
        Ok(Self::constant(filled(Array::empty(shape, dtype)?, value)))
    }

    /// As [`Tensor::empty`], in this tensor's shape and order of dims.
    pub fn empty_like(&self, dtype: DType) -> Result<Tensor> {
        Ok(Self::constant(Array::empty_like(self.array().layout(), dtype)?))
    }

    /// Elements without a value yet, in the shape and the order of dims of a layout.
    pub fn empty_in(layout: &Layout, dtype: DType) -> Result<Tensor> {
        Ok(Self::constant(Array::empty_like(layout, dtype)?))
    }

    /// As [`Tensor::full`], in this tensor's shape and order of dims.
    pub fn full_like(&self, value: impl Into<Scalar>, dtype: DType) -> Result<Tensor> {
        let value = value.into();
        check_filling("full_like", value, self.shape(), dtype)?;
        Ok(Self::constant(filled(Array::empty_like(self.array().layout(), dtype)?, value)))
    }

    /// Zeros.
    pub fn zeros(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Self::full(shape, 0i64, dtype)
    }

    /// Ones.
    pub fn ones(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Self::full(shape, 1i64, dtype)
    }

    /// `start, start + step, ...` up to, not including, `end`.
    pub fn arange(start: Scalar, end: Scalar, step: Scalar, dtype: DType) -> Result<Tensor> {
        check_numeric("arange", dtype)?;
        let whole = |x: Scalar| -> Result<Scalar> {
            Ok(match x {
                Scalar::Float(f) if !dtype.is_float() && f.is_finite() => {
                    x.check_fits("arange", DType::I64)?;
                    Scalar::Int(f as i64)
                }
                Scalar::Bool(b) => Scalar::Int(i64::from(b)),
                x => x,
            })
        };
        let given = [start, end, step];
        let (start, end, step) = (whole(start)?, whole(end)?, whole(step)?);
        // As in PyTorch int64 is counted in integers, 2.5 being a step of 2; of smaller integers there are as many
        // as of floats.
        let in_floats = dtype != DType::I64 && given.iter().any(|x| matches!(x, Scalar::Float(_)));
        let [from, to, by] = if in_floats { given } else { [start, end, step] }.map(Scalar::to_f64);
        ensure!(
            by != 0.0 && !by.is_nan(),
            Value,
            "arange: step must be nonzero, not {step} (as {dtype}); use a positive or a negative step"
        );
        ensure!(
            from.is_finite() && to.is_finite(),
            Value,
            "arange: unsupported range: {from} -> {to}; use finite bounds"
        );
        ensure!(
            (by > 0.0 && to >= from) || (by < 0.0 && to <= from),
            Value,
            "arange: upper bound and lower bound inconsistent with step sign: {from} to {to} by {by}; change the \
             step's sign, or exchange the bounds"
        );
        let counted = ((to - from) / by).ceil();
        if let (Scalar::Int(from), Scalar::Int(to), Scalar::Int(by), false) =
            (start, end, step, dtype.is_float())
        {
            let numel = if in_floats {
                counted as u128
            } else {
                (i128::from(to) - i128::from(from)).unsigned_abs().div_ceil(i128::from(by).unsigned_abs())
            };
            let mut out = Array::empty(&[checked("arange", numel, dtype)?], dtype)?;
            dispatch_all!(dtype, T => tabulate(out.slice_mut::<T>(), |i| {
                T::from_i64(from.wrapping_add(by.wrapping_mul(i as i64)))
            }));
            return Ok(Self::constant(out));
        }
        let mut out = Array::empty(&[checked("arange", counted as u128, dtype)?], dtype)?;
        dispatch_all!(dtype, T => tabulate(out.slice_mut::<T>(), |i| T::from_f64(from + by * i as f64)));
        Ok(Self::constant(out))
    }

    /// `steps` values from `start` to `end`, evenly spaced, both included.
    pub fn linspace(
        start: impl Into<Scalar>,
        end: impl Into<Scalar>,
        steps: usize,
        dtype: DType,
    ) -> Result<Tensor> {
        let (start, end) = (start.into(), end.into());
        if steps <= 1 {
            return Self::full(&[steps], if steps == 0 { Scalar::Int(0) } else { start }, dtype);
        }
        check_numeric("linspace", dtype)?;
        start.check_fits("linspace", dtype)?;
        end.check_fits("linspace", dtype)?;
        let mut out = Array::empty(&[checked("linspace", steps as u128, dtype)?], dtype)?;
        let bound = |x: Scalar| x.to_array(dtype)?.item_f64();
        let (start, end) = (bound(start)?, bound(end)?);
        // As in PyTorch: floats in their type with one rounding, 16-bit ones as float32, and integers in doubles.
        if dtype.is_float() && dtype != DType::F64 {
            let ramp = Ramp::<f32>::new(start as f32, end as f32, steps, true);
            dispatch_all!(dtype, T => ramp.fill(out.slice_mut::<T>(), T::from_f32));
        } else {
            let ramp = Ramp::<f64>::new(start, end, steps, dtype == DType::F64);
            dispatch_all!(dtype, T => ramp.fill(out.slice_mut::<T>(), T::from_f64));
        }
        Ok(Self::constant(out))
    }

    /// Ones on the diagonal of an `n` x `m` matrix of zeros.
    pub fn eye(n: usize, m: usize, dtype: DType) -> Result<Tensor> {
        let out = Array::full(&[n, m], 0.0, dtype)?;
        let diagonal = Layout::new(Dims::from_slice(&[n.min(m)]), Strides::from_slice(&[m as isize + 1]), 0);
        copy::fill(&out.with_layout(diagonal), 1.0);
        Ok(Self::constant(out))
    }
}

fn check_numeric(op: &str, dtype: DType) -> Result<()> {
    ensure!(
        dtype != DType::Bool,
        DType,
        "{op}: \"{op}_cpu\" not implemented for 'Bool'; make integers and convert with .bool()"
    );
    Ok(())
}

/// An error unless tensors of `dtype` may be filled with `value`: as in PyTorch a single 16-bit float becomes
/// infinite, several are refused.
fn check_filling(op: &str, value: Scalar, shape: &[usize], dtype: DType) -> Result<()> {
    if !dtype.is_half() || shape.iter().any(|&extent| extent != 1) {
        value.check_fits(op, dtype)?;
    }
    Ok(())
}

fn filled(out: Array, value: Scalar) -> Array {
    match value {
        Scalar::Int(value) => copy::fill_i64(&out, value),
        value => copy::fill(&out, value.to_f64()),
    }
    out
}

/// A number of elements that a vector of `dtype` can have.
fn checked(op: &str, numel: u128, dtype: DType) -> Result<usize> {
    let numel = usize::try_from(numel).unwrap_or(usize::MAX);
    crate::layout::checked_numel(op, &[numel], dtype.size())
}
