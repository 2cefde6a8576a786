//! Random tensors: PyTorch's numbers for the same seed, bit for bit.

use crate::array::Array;
use crate::random::Generator;
use crate::tensor::Tensor;
use crate::{bail, dispatch_all, ensure, DType, Layout, Result};

fn float_only(op: &str, dtype: DType) -> Result<()> {
    ensure!(
        dtype.is_float(),
        DType,
        "{op}: not implemented for '{}'; use a floating point dtype",
        dtype.scalar_name()
    );
    Ok(())
}

fn fill_uniform(generator: &mut Generator, out: &mut Array, from: f64, to: f64) -> Result<()> {
    float_only("uniform_", out.dtype())?;
    ensure!(
        from <= to,
        Value,
        "uniform_ expects to return a [from, to) range, but found from={from} > to={to}"
    );
    match out.dtype() {
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
    ensure!(std >= 0.0, Value, "normal expects std >= 0.0, but found std {std}");
    match (out.dtype(), serial) {
        (DType::F32, false) => generator.normal_f32(out.slice_mut(), mean, std),
        (DType::F64, false) => generator.normal_f64(out.slice_mut(), mean, std),
        (DType::F16, false) => generator.normal_half::<crate::dtype::f16>(out.slice_mut(), mean, std),
        (DType::BF16, false) => generator.normal_half::<crate::dtype::bf16>(out.slice_mut(), mean, std),
        (dtype, _) => dispatch_all!(dtype, T => generator.normal_serial::<T>(out.slice_mut(), mean, std)),
    }
    Ok(())
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
        ensure!(
            low < high,
            Value,
            "random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        );
        let mut out = Array::empty(shape, dtype)?;
        dispatch_all!(dtype, T => generator.randint::<T>(out.slice_mut(), low, high));
        Ok(Self::constant(out))
    }

    /// The integers `0..n` in random order.
    pub fn randperm(n: usize, dtype: DType, generator: &mut Generator) -> Result<Tensor> {
        let mut out = Array::empty(&[n], DType::I64)?;
        generator.randperm(out.slice_mut());
        Ok(Self::constant(out.to_dtype(dtype)?))
    }

    /// 1 with the probability that each element names, else 0.
    pub fn bernoulli(&self, generator: &mut Generator) -> Result<Tensor> {
        float_only("bernoulli", self.dtype())?;
        let probabilities = self.array().to_dtype(DType::F64)?.contiguous()?;
        let p = probabilities.slice::<f64>();
        ensure!(
            p.iter().all(|p| (0.0..=1.0).contains(p)),
            Value,
            "bernoulli: Expected p_in >= 0 && p_in <= 1 for every probability"
        );
        let mut out = Array::empty(self.shape(), self.dtype())?;
        if self.dtype() == DType::F32 {
            let p: Vec<f32> = p.iter().map(|&p| p as f32).collect();
            generator.bernoulli_with_f32::<f32>(out.slice_mut(), &p);
        } else {
            dispatch_all!(self.dtype(), T => generator.bernoulli_with_f64::<T>(out.slice_mut(), p));
        }
        Ok(Self::constant(out))
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
        ensure!((0.0..=1.0).contains(&p), Value, "bernoulli_ expects p to be in [0, 1], but got p={p}");
        self.overwrite("bernoulli_", |out, _| {
            dispatch_all!(out.dtype(), T => generator.bernoulli::<T>(out.slice_mut(), p));
            Ok(())
        })
    }

    /// Overwrites this tensor with integers in `[from, to)`, or with any that its dtype can hold.
    pub fn random_(&self, range: Option<(i64, i64)>, generator: &mut Generator) -> Result<()> {
        self.overwrite("random_", |out, _| {
            match range {
                None => fill_any(generator, out),
                Some((from, to)) if from < to => {
                    dispatch_all!(out.dtype(), T => generator.randint::<T>(out.slice_mut(), from, to));
                }
                Some((from, to)) => {
                    bail!(
                        Value,
                        "random_ expects 'from' to be less than 'to', but got from={from} >= to={to}"
                    )
                }
            }
            Ok(())
        })
    }

    /// Overwrites this tensor with exponentially distributed numbers.
    pub fn exponential_(&self, lambda: f64, generator: &mut Generator) -> Result<()> {
        float_only("exponential_", self.dtype())?;
        ensure!(lambda > 0.0, Value, "exponential_ expects lambda > 0.0, but found lambda={lambda}");
        self.overwrite("exponential_", |out, _| {
            dispatch_all!(out.dtype(), T => generator.exponential::<T>(out.slice_mut(), lambda));
            Ok(())
        })
    }

    /// New values for every element; `make` is told whether this tensor is contiguous.
    fn overwrite(&self, op: &str, make: impl FnOnce(&mut Array, bool) -> Result<()>) -> Result<()> {
        crate::autograd::check_writable(op, self)?;
        let mut values = Array::empty(self.shape(), self.dtype())?;
        make(&mut values, self.array().is_contiguous())?;
        // PyTorch fills dense tensors in the order of memory, whatever the order of their dims.
        if self.array().layout().is_dense() {
            let layout = Layout::new(self.shape().into(), self.array().strides().into(), 0);
            values = values.with_layout(layout);
        }
        self.copy_(&Tensor::constant(values))
    }
}
