//! New tensors from numbers.

use super::promote::Scalar;
use crate::array::Array;
use crate::kernels::copy;
use crate::layout::{Dims, Strides};
use crate::tensor::Tensor;
use crate::{ensure, DType, Layout, Result};

impl Tensor {
    /// Elements without a value yet.
    pub fn empty(shape: &[usize], dtype: DType) -> Result<Tensor> {
        Ok(Self::constant(Array::empty(shape, dtype)?))
    }

    /// Every element `value`.
    pub fn full(shape: &[usize], value: impl Into<Scalar>, dtype: DType) -> Result<Tensor> {
        let value = value.into();
        // As in PyTorch a single 16-bit float becomes infinite, several are refused.
        if !dtype.is_half() || shape.iter().any(|&extent| extent != 1) {
            value.check_fits("full", dtype)?;
        }
        let out = Array::empty(shape, dtype)?;
        match value {
            Scalar::Int(value) => copy::fill_i64(&out, value),
            value => copy::fill(&out, value.to_f64()),
        }
        Ok(Self::constant(out))
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
            let values: Vec<i64> = (0..checked("arange", numel)?)
                .map(|i| from.wrapping_add(by.wrapping_mul(i as i64)))
                .collect();
            return Ok(Self::constant(Array::from_slice(&values, &[values.len()])?.to_dtype(dtype)?));
        }
        let values: Vec<f64> =
            (0..checked("arange", counted as u128)?).map(|i| from + by * i as f64).collect();
        Ok(Self::constant(Array::from_slice(&values, &[values.len()])?.to_dtype(dtype)?))
    }

    /// `steps` values from `start` to `end`, evenly spaced, both included.
    pub fn linspace(start: f64, end: f64, steps: usize, dtype: DType) -> Result<Tensor> {
        check_numeric("linspace", dtype)?;
        if !dtype.is_float() {
            Scalar::Float(start).check_fits("linspace", dtype)?;
            Scalar::Float(end).check_fits("linspace", dtype)?;
        }
        checked("linspace", steps as u128)?;
        // Counted from the nearer end, so that both ends are exact; float32 in float32, as PyTorch does.
        let values: Vec<f64> = if dtype == DType::F64 {
            let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
            (0..steps)
                .map(|i| {
                    if i < steps / 2 || steps == 1 {
                        start + step * i as f64
                    } else {
                        end - step * (steps - i - 1) as f64
                    }
                })
                .collect()
        } else {
            let (start, end) = (start as f32, end as f32);
            let step = if steps > 1 { (end - start) / (steps - 1) as f32 } else { 0.0 };
            let at = |i: usize| {
                if i < steps / 2 || steps == 1 {
                    step.mul_add(i as f32, start)
                } else {
                    (-step).mul_add((steps - i - 1) as f32, end)
                }
            };
            (0..steps).map(|i| f64::from(at(i))).collect()
        };
        Ok(Self::constant(Array::from_slice(&values, &[steps])?.to_dtype(dtype)?))
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

/// A number of elements that memory can be asked for.
fn checked(op: &str, numel: u128) -> Result<usize> {
    let numel = usize::try_from(numel).unwrap_or(usize::MAX);
    crate::layout::checked_numel(op, &[numel], 8)?;
    drop(crate::alloc::Block::new(numel * 8)?); // asked for before a vector of that size is built
    Ok(numel)
}
