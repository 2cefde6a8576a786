//! Random tensors: PyTorch's numbers for the same seed, bit for bit.

use super::promote::Scalar;
use crate::array::Array;
use crate::random::Generator;
use crate::tensor::Tensor;
use crate::{bail, dispatch_all, dispatch_float, ensure, DType, Layout, Result};

fn float_only(op: &str, dtype: DType) -> Result<()> {
    ensure!(
        dtype.is_float(),
        DType,
        "{op}: not implemented for '{}'; use a floating point dtype",
        dtype.scalar_name()
    );
    Ok(())
}

/// An error unless a bound of a range is a finite number that `dtype` can hold.
fn check_bound(op: &str, name: &str, bound: Scalar, dtype: DType) -> Result<()> {
    let fits = match (bound, dtype) {
        (Scalar::Int(i), DType::Bool) => (0..=1).contains(&i),
        (Scalar::Int(i), DType::U8) => u8::try_from(i).is_ok(),
        (Scalar::Int(i), DType::I32) => i32::try_from(i).is_ok(),
        (Scalar::Int(_), DType::I64) => true,
        (bound, dtype) => bound.to_f64().abs() <= dtype.largest(), // neither of infinities nor of nan
    };
    ensure!(
        fits,
        Value,
        "{op}: {name} is out of bounds for {dtype}: {name} = {bound}; use bounds that {dtype} can hold, or another \
         dtype"
    );
    Ok(())
}

fn fill_uniform(generator: &mut Generator, out: &mut Array, from: f64, to: f64) -> Result<()> {
    let (op, dtype) = ("uniform_", out.dtype());
    float_only(op, dtype)?;
    check_bound(op, "from", Scalar::Float(from), dtype)?;
    check_bound(op, "to", Scalar::Float(to), dtype)?;
    ensure!(
        from <= to,
        Value,
        "{op}: expects to return a [from, to) range, but found from={from} > to={to}; exchange them"
    );
    ensure!(
        to - from <= dtype.largest(),
        Value,
        "{op}: expects to-from <= {}, the largest {dtype}, but found to={} and from={}; use a smaller range",
        Scalar::Float(dtype.largest()),
        Scalar::Float(to),
        Scalar::Float(from)
    );
    match dtype {
        DType::F32 => generator.uniform_f32(out.slice_mut(), from, to),
        DType::F64 => generator.uniform_f64(out.slice_mut(), from, to),
        DType::F16 => generator.uniform_half::<crate::dtype::f16>(out.slice_mut(), from, to),
        _ => generator.uniform_half::<crate::dtype::bf16>(out.slice_mut(), from, to),
    }
    Ok(())
}

/// `serial` draws one value at a time, as PyTorch does for tensors that are not contiguous.
fn fill_normal(generator: &mut Generator, out: &mut Array, mean: f64, std: f64, serial: bool) -> Result<()> {
    float_only("normal_", out.dtype())?;
    ensure!(
        std >= 0.0,
        Value,
        "normal_: expects std >= 0.0, but found std {std}; use a standard deviation that is not negative"
    );
    match (out.dtype(), serial) {
        (DType::F32, false) => generator.normal_f32(out.slice_mut(), mean, std),
        (DType::F64, false) => generator.normal_f64(out.slice_mut(), mean, std),
        (DType::F16, false) => generator.normal_half::<crate::dtype::f16>(out.slice_mut(), mean, std),
        (DType::BF16, false) => generator.normal_half::<crate::dtype::bf16>(out.slice_mut(), mean, std),
        (dtype, _) => dispatch_all!(dtype, T => generator.normal_serial::<T>(out.slice_mut(), mean, std)),
    }
    Ok(())
}

/// `from` and `to` of a range of integers as a float dtype counts them: where the first or the last integer is
/// none of its values, the range ends at a step of its values within.
fn float_range(from: i64, to: i64, dtype: DType) -> (i64, i64) {
    let rounded = |x: i64| {
        dispatch_all!(dtype, T => {
            <T as crate::dtype::Element>::to_i64(<T as crate::dtype::Element>::from_i64(x))
        })
    };
    // The distance of this dtype's values around `x`.
    let step = |x: i64| 1i64 << (x.unsigned_abs().max(1).ilog2() + 1).saturating_sub(dtype.digits()).min(62);
    let (first, last) = (from.wrapping_add(1), to.wrapping_sub(1));
    let (low, high) = (rounded(first), rounded(last));
    (
        if low < from { low.wrapping_add(step(first)) } else { from },
        if high >= to { high.wrapping_sub(step(last)) } else { to },
    )
}

/// Integers in `[from, to)`; without `to` up to the largest of the dtype, or the last before which a float dtype
/// holds all of them.
fn fill_integers(
    op: &str,
    generator: &mut Generator,
    out: &mut Array,
    from: i64,
    to: Option<i64>,
) -> Result<()> {
    let dtype = out.dtype();
    let end = to.unwrap_or_else(|| match dtype.is_float() {
        true => (1 << dtype.digits()) + 1,
        false => (dtype.largest() as i64).wrapping_add(1),
    });
    let last = end.wrapping_sub(1);
    ensure!(
        from <= last && to != Some(i64::MIN),
        Value,
        "{op}: expects 'from' to be less than 'to', but got from={from} >= to={end}; use a larger 'to'"
    );
    check_bound(op, "from", Scalar::Int(from), dtype)?;
    check_bound(op, "to - 1", Scalar::Int(last), dtype)?;
    let (from, to) = if dtype.is_float() { float_range(from, end, dtype) } else { (from, end) };
    ensure!(
        from <= to.wrapping_sub(1),
        Value,
        "{op}: expects 'from' casted to {dtype} to be less than 'to' casted to {dtype}, but got from={from} >= \
         to={to}; use a wider range"
    );
    dispatch_all!(dtype, T => generator.randint::<T>(out.slice_mut(), from, to));
    Ok(())
}

/// Probabilities as they are compared, one after the other in the order of dims that `order` has: 16-bit floats
/// as float32.
fn probabilities(op: &str, p: &Array, order: &Layout) -> Result<Array> {
    float_only(op, p.dtype())?;
    let p = p.broadcast_to(op, order.shape())?;
    let dtype = super::promote::compute_dtype(p.dtype());
    let ordered = if p.dtype() == dtype && p.is_contiguous() && order.is_contiguous() {
        p
    } else {
        let ordered = Array::empty_like(order, dtype)?;
        crate::kernels::copy::copy(&p, &ordered);
        ordered.with_layout(Layout::contiguous(order.shape()))
    };
    let outside = dispatch_float!(dtype, op, T => {
        ordered.slice::<T>().iter().find(|p| !(0.0..=1.0).contains(*p)).map(|&p| f64::from(p))
    });
    if let Some(p) = outside {
        bail!(
            Value,
            "{op}: Expected p_in >= 0 && p_in <= 1 for every probability, but found {p}; clamp them"
        );
    }
    Ok(ordered)
}

/// 1 with the probability at the same place, else 0.
fn fill_by_chance(generator: &mut Generator, out: &mut Array, p: &Array) {
    dispatch_all!(out.dtype(), T => match p.dtype() {
        DType::F64 => generator.bernoulli_with_f64::<T>(out.slice_mut(), p.slice()),
        _ => generator.bernoulli_with_f32::<T>(out.slice_mut(), p.slice()),
    });
}

/// The range of `random_()` without arguments: every value, for floats every integer up to the precision.
fn fill_any(generator: &mut Generator, out: &mut Array) {
    match out.dtype() {
        DType::I64 => out
            .slice_mut::<i64>()
            .iter_mut()
            .for_each(|x| *x = (generator.random64() & (u64::MAX >> 1)) as i64),
        DType::F64 => {
            let range = (1u64 << 53) + 1;
            out.slice_mut::<f64>().iter_mut().for_each(|x| *x = (generator.random64() % range) as f64);
        }
        dtype => {
            let range: u32 = match dtype {
                DType::Bool => 2,
                DType::U8 => 256,
                DType::F16 => (1 << 11) + 1,
                DType::BF16 => (1 << 8) + 1,
                DType::F32 => (1 << 24) + 1,
                _ => 1 << 31,
            };
            dispatch_all!(dtype, T => for x in out.slice_mut::<T>() {
                *x = <T as crate::dtype::Element>::from_i64(i64::from(generator.random() % range));
            });
        }
    }
}

impl Tensor {
    /// Uniform in `[0, 1)`.
    pub fn rand(shape: &[usize], dtype: DType, generator: &mut Generator) -> Result<Tensor> {
        float_only("rand", dtype)?;
        let mut out = Array::empty(shape, dtype)?;
        fill_uniform(generator, &mut out, 0.0, 1.0)?;
        Ok(Self::constant(out))
    }

    /// Normal with mean 0 and standard deviation 1.
    pub fn randn(shape: &[usize], dtype: DType, generator: &mut Generator) -> Result<Tensor> {
        float_only("randn", dtype)?;
        let mut out = Array::empty(shape, dtype)?;
        fill_normal(generator, &mut out, 0.0, 1.0, false)?;
        Ok(Self::constant(out))
    }

    /// Integers in `[low, high)`.
    pub fn randint(
        low: i64,
        high: i64,
        shape: &[usize],
        dtype: DType,
        generator: &mut Generator,
    ) -> Result<Tensor> {
        let mut out = Array::empty(shape, dtype)?;
        fill_integers("randint", generator, &mut out, low, Some(high))?;
        Ok(Self::constant(out))
    }

    /// [`Tensor::rand`] in this tensor's shape and order of dims.
    pub fn rand_like(&self, dtype: DType, generator: &mut Generator) -> Result<Tensor> {
        float_only("rand_like", dtype)?;
        self.drawn_like(dtype, |out, _| fill_uniform(generator, out, 0.0, 1.0))
    }

    /// [`Tensor::randn`] in this tensor's shape and order of dims.
    pub fn randn_like(&self, dtype: DType, generator: &mut Generator) -> Result<Tensor> {
        float_only("randn_like", dtype)?;
        self.drawn_like(dtype, |out, contiguous| fill_normal(generator, out, 0.0, 1.0, !contiguous))
    }

    /// [`Tensor::randint`] in this tensor's shape and order of dims.
    pub fn randint_like(
        &self,
        low: i64,
        high: i64,
        dtype: DType,
        generator: &mut Generator,
    ) -> Result<Tensor> {
        self.drawn_like(dtype, |out, _| fill_integers("randint_like", generator, out, low, Some(high)))
    }

    /// The integers `0..n` in random order.
    pub fn randperm(n: usize, dtype: DType, generator: &mut Generator) -> Result<Tensor> {
        ensure!(
            dtype != DType::Bool,
            DType,
            "randperm: \"randperm\" not implemented for 'Bool'; use a dtype that holds the numbers up to {n}"
        );
        let last = i64::try_from(n).unwrap_or(i64::MAX) - i64::from(n > 0);
        check_bound("randperm", "n - 1", Scalar::Int(last), dtype)?;
        // bfloat16 is let through, as in PyTorch: neighbours become one number.
        ensure!(
            matches!(dtype, DType::BF16) || !dtype.is_float() || last <= 1 << dtype.digits(),
            Value,
            "randperm: n cannot be greater than {} for {dtype}, which does not hold all integers above, but got {n}; \
             use int64",
            (1i64 << dtype.digits()) + 1
        );
        let mut out = Array::empty(&[n], DType::I64)?;
        generator.randperm(out.slice_mut());
        Ok(Self::constant(out.to_dtype(dtype)?))
    }

    /// 1 with the probability that each element names, else 0.
    pub fn bernoulli(&self, generator: &mut Generator) -> Result<Tensor> {
        let p = probabilities("bernoulli", self.array(), &Layout::contiguous(self.shape()))?;
        let mut out = Array::empty(self.shape(), self.dtype())?;
        fill_by_chance(generator, &mut out, &p);
        Self::constant(out).drawn("BernoulliBackward0", &[self])
    }

    /// Overwrites this tensor with uniform numbers in `[from, to)`.
    pub fn uniform_(&self, from: f64, to: f64, generator: &mut Generator) -> Result<()> {
        self.overwrite("uniform_", |out, _| fill_uniform(generator, out, from, to))
    }

    /// Overwrites this tensor with normal numbers.
    pub fn normal_(&self, mean: f64, std: f64, generator: &mut Generator) -> Result<()> {
        self.overwrite("normal_", |out, contiguous| fill_normal(generator, out, mean, std, !contiguous))
    }

    /// Overwrites this tensor with 1 at probability `p`, else 0.
    pub fn bernoulli_(&self, p: f64, generator: &mut Generator) -> Result<()> {
        ensure!(
            (0.0..=1.0).contains(&p),
            Value,
            "bernoulli_: expects p to be in [0, 1], but got p={p}; use a probability"
        );
        self.overwrite("bernoulli_", |out, _| {
            dispatch_all!(out.dtype(), T => generator.bernoulli::<T>(out.slice_mut(), p));
            Ok(())
        })
    }

    /// Overwrites this tensor with 1 at the probability that each element of `p`, broadcast, names, else 0.
    pub fn bernoulli_each_(&self, p: &Tensor, generator: &mut Generator) -> Result<()> {
        let chances = probabilities("bernoulli_", p.array(), self.array().layout())?;
        let values = self.new_values("bernoulli_", |out, _| {
            fill_by_chance(generator, out, &chances);
            Ok(())
        })?;
        self.copy_(&values.drawn("BernoulliBackward0", &[p])?)
    }

    /// Overwrites this tensor with integers in `[from, to)`, up to the largest of its dtype if there is no `to`;
    /// without a range with any that its dtype can hold.
    pub fn random_(&self, range: Option<(i64, Option<i64>)>, generator: &mut Generator) -> Result<()> {
        self.overwrite("random_", |out, _| match range {
            None => {
                fill_any(generator, out);
                Ok(())
            }
            Some((from, to)) => fill_integers("random_", generator, out, from, to),
        })
    }

    /// Overwrites this tensor with exponentially distributed numbers.
    pub fn exponential_(&self, lambda: f64, generator: &mut Generator) -> Result<()> {
        float_only("exponential_", self.dtype())?;
        ensure!(
            lambda > 0.0,
            Value,
            "exponential_: expects lambda > 0.0, but found lambda={lambda}; use a positive rate"
        );
        self.overwrite("exponential_", |out, _| {
            dispatch_all!(out.dtype(), T => generator.exponential::<T>(out.slice_mut(), lambda));
            Ok(())
        })
    }

    /// Exponentially distributed numbers with rate 1 in this tensor's shape, dtype and order of dims.
    pub(super) fn exponential_like(&self, generator: &mut Generator) -> Result<Tensor> {
        self.drawn_like(self.dtype(), |out, _| {
            dispatch_all!(out.dtype(), T => generator.exponential::<T>(out.slice_mut(), 1.0));
            Ok(())
        })
    }

    /// New values for every element, in the order of memory, as PyTorch fills, whatever the order of the dims;
    /// `make` is told whether this tensor is contiguous.
    fn overwrite(&self, op: &str, make: impl FnOnce(&mut Array, bool) -> Result<()>) -> Result<()> {
        self.copy_(&self.new_values(op, make)?)
    }

    /// Values for [`Tensor::overwrite`].
    fn new_values(&self, op: &str, make: impl FnOnce(&mut Array, bool) -> Result<()>) -> Result<Tensor> {
        crate::autograd::check_writable(op, self)?;
        let mut values = Array::empty(self.shape(), self.dtype())?;
        make(&mut values, self.array().is_contiguous())?;
        if !self.array().is_contiguous() {
            values = values.with_layout(self.array().layout().like());
        }
        Ok(Tensor::constant(values))
    }

    /// A new tensor in this one's shape and order of dims, filled as [`Tensor::overwrite`] does.
    fn drawn_like(&self, dtype: DType, make: impl FnOnce(&mut Array, bool) -> Result<()>) -> Result<Tensor> {
        let layout = self.array().layout().like();
        let mut values = Array::empty(self.shape(), dtype)?;
        make(&mut values, layout.is_contiguous())?;
        Ok(Self::constant(if layout.is_contiguous() { values } else { values.with_layout(layout) }))
    }
}
