//! Variances, standard deviations, norms and log-sum-exp.

use super::promote::compute_dtype;
use super::reduce::{sum_array, Over};
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves};
use crate::kernels::num::Num;
use crate::kernels::reduce::{reduce, Bounds, By, Largest, Plus, Smallest};
use crate::tensor::Tensor;
use crate::{bail, dispatch_float, ensure, Result};

/// Variance over dims, or its root.
#[derive(Debug)]
struct Var {
    over: Over,
    /// What is subtracted from the number of elements.
    correction: f64,
    root: bool,
}

/// `x` with one element where a dim repeats one (stride 0): such an array may be larger than memory, and what
/// is computed from it element by element need not be.
fn once(x: &Array) -> Array {
    let repeated = |d: &usize| x.strides()[*d] == 0 && x.shape()[*d] > 1;
    if !(0..x.rank()).any(|d| repeated(&d)) {
        return x.clone();
    }
    let cut = (0..x.rank()).filter(repeated).fold(x.layout().clone(), |layout, d| layout.slice(d, 0, 1, 1));
    x.with_layout(cut)
}

fn square_sums<T: Num>(x: &Array, mask: &[bool]) -> Result<Array> {
    reduce::<T, T, _, _>(x, mask, By(|x: T| x.mul(x)), Plus)
}

impl Var {
    /// Number of degrees of freedom.
    fn divisor(&self, shape: &[usize]) -> f64 {
        (self.over.count(shape) as f64 - self.correction).max(0.0)
    }

    /// Deviations from the mean, in the input's shape.
    fn deviations(&self, x: &Tensor) -> Result<Tensor> {
        let dims: Vec<isize> = (0..x.rank()).filter(|&d| self.over.mask[d]).map(|d| d as isize).collect();
        x.sub(&if dims.is_empty() { x.clone() } else { x.mean(&dims, true)? })
    }
}

impl Op<1> for Var {
    const NAME: &'static str = "var";

    fn called(&self) -> &'static str {
        if self.root {
            "std"
        } else {
            Self::NAME
        }
    }

    fn grad_fn_name(&self) -> String {
        if self.root { "StdBackward0" } else { "VarBackward0" }.into()
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        let saves = Saves::all_inputs();
        if self.root {
            saves.and_output()
        } else {
            saves
        }
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        ensure!(
            x.dtype().is_float(),
            DType,
            "{}: std and var only support floating point and complex dtypes, not {}; convert with .float() first",
            if self.root { "std" } else { Self::NAME },
            x.dtype()
        );
        let compute = once(x).to_dtype(compute_dtype(x.dtype()))?;
        let deviations = self.deviations(&Tensor::constant(compute))?;
        let deviations = deviations.array().broadcast_to(Self::NAME, x.shape())?;
        let squares = dispatch_float!(deviations.dtype(), Self::NAME, T => {
            square_sums::<T>(&deviations, &self.over.mask)
        })?;
        let squares = Tensor::constant(self.over.finish(squares, x.shape()));
        let out = squares.div(&squares.scalar_beside(self.divisor(x.shape()))?)?;
        let out = if self.root { out.sqrt()? } else { out };
        out.array().to_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let (x, shape) = (saved.input(0)?, saved.shape(0));
        let grad = if self.root {
            let std = saved.output()?;
            let slope = grad / (&std * 2.0);
            slope.masked_fill(&std.eq_scalar(0.0)?, 0.0)?
        } else {
            grad.clone()
        };
        let scale = self.over.expand(&(grad * (2.0 / self.divisor(&shape))), &shape)?;
        Ok([Some(scale * self.deviations(&x)?)])
    }
}

/// Vector norm over dims: `sum(|x|^p)^(1/p)` and its limits.
#[derive(Debug)]
struct Norm {
    over: Over,
    p: f64,
}

fn norms<T: Bounds>(x: &Array, mask: &[bool], p: f64) -> Result<Array> {
    if p == f64::INFINITY {
        return reduce::<T, T, _, _>(x, mask, By(|x: T| x.abs()), Largest);
    }
    if p == f64::NEG_INFINITY {
        return reduce::<T, T, _, _>(x, mask, By(|x: T| x.abs()), Smallest);
    }
    if p == 0.0 {
        let one_unless_zero = |x: T| if x == T::ZERO { T::ZERO } else { T::ONE };
        return reduce::<T, T, _, _>(x, mask, By(one_unless_zero), Plus);
    }
    if p == 1.0 {
        return reduce::<T, T, _, _>(x, mask, By(|x: T| x.abs()), Plus);
    }
    if p == 2.0 {
        let squares = Tensor::constant(square_sums::<T>(x, mask)?);
        return Ok(squares.sqrt()?.array().clone());
    }
    let power = move |x: T| T::from_f64(x.to_f64().abs().powf(p));
    let powers = Tensor::constant(reduce::<T, T, _, _>(x, mask, By(power), Plus)?);
    Ok(powers.pow_scalar(1.0 / p)?.array().clone())
}

impl Op<1> for Norm {
    const NAME: &'static str = "linalg_vector_norm";

    fn called(&self) -> &'static str {
        "norm"
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs().and_output()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        ensure!(
            x.dtype().is_float(),
            DType,
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got {}; convert with \
             .float() first",
            x.dtype().scalar_name()
        );
        let nothing =
            self.over.count(x.shape()) == 0 && self.over.shape(x.shape()).iter().product::<usize>() > 0;
        if nothing && (self.p < 0.0 || self.p == f64::INFINITY) {
            bail!(
                Value,
                "linalg.vector_norm: cannot compute the {} norm on an empty tensor (shape {:?}) because the \
                 operation does not have an identity; use a tensor with elements, or an order of at least 0",
                self.p,
                x.shape()
            );
        }
        let compute = x.to_dtype(compute_dtype(x.dtype()))?;
        let mask = &self.over.mask;
        let out = dispatch_float!(compute.dtype(), Self::NAME, T => norms::<T>(&compute, mask, self.p))?;
        self.over.finish(out, x.shape()).into_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let (x, shape, p) = (saved.input(0)?, saved.shape(0), self.p);
        if p == 0.0 {
            return Ok([None]);
        }
        let grad = self.over.expand(grad, &shape)?;
        if p == 1.0 {
            return Ok([Some(grad * x.sign()?)]);
        }
        let norm = self.over.expand(&saved.output()?, &shape)?;
        let is_zero = norm.eq_scalar(0.0)?;
        if p == 2.0 {
            return Ok([Some(grad * (x / norm).masked_fill(&is_zero, 0.0)?)]);
        }
        if p.is_infinite() {
            // A nan attains the norm that it makes nan.
            let attains = x.abs()?.eq(&norm)?.logical_or(&x.isnan()?)?.to_dtype(grad.dtype())?;
            let dims: Vec<isize> =
                (0..shape.len()).filter(|&d| self.over.mask[d]).map(|d| d as isize).collect();
            let ties = if dims.is_empty() { attains.clone() } else { attains.sum(&dims, true)? };
            return Ok([Some(x.sign()? * (grad * attains / ties))]);
        }
        // sign(x) |x|^(p-1) g norm^(1-p): zeros are cut out where a power of them would be infinite.
        let slope = if p < 2.0 {
            let steep = x.abs()?.pow_scalar(p - 1.0)?;
            let steep = if p < 1.0 { steep.masked_fill(&x.eq_scalar(0.0)?, 0.0)? } else { steep };
            x.sign()? * steep
        } else {
            &x * x.abs()?.pow_scalar(p - 2.0)?
        };
        let scale = (grad * norm.pow_scalar(1.0 - p)?).masked_fill(&is_zero, 0.0)?;
        Ok([Some(slope * scale)])
    }
}

/// `log(sum(exp(x)))` over dims.
#[derive(Debug)]
struct LogSumExp(Over);

impl Op<1> for LogSumExp {
    const NAME: &'static str = "logsumexp";

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs().and_output()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let dtype = x.dtype().to_float();
        let shape = x.shape();
        if self.0.count(shape) == 0 || x.numel() == 0 {
            return Array::full(&self.0.shape(shape), f64::NEG_INFINITY, dtype);
        }
        let x = Tensor::constant(once(x).to_dtype(compute_dtype(dtype))?);
        let kept = self.0.kept();
        let dims: Vec<isize> = (0..shape.len()).filter(|&d| kept.mask[d]).map(|d| d as isize).collect();
        let largest = if dims.is_empty() { x.clone() } else { x.amax(&dims, true)? };
        // Rows of -inf, or with an inf, must not become inf - inf.
        let largest = largest.masked_fill(&largest.isinf()?, 0.0)?;
        let exp = x.sub(&largest)?.exp()?.array().broadcast_to(Self::NAME, shape)?;
        let sum = Tensor::constant(sum_array(&exp, &kept)?);
        let out = sum.log()?.add(&largest)?;
        let out = out.array().contiguous()?;
        self.0.finish(out, shape).into_dtype(dtype)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let shape = saved.shape(0);
        let result = self.0.expand(&saved.output()?, &shape)?;
        let share = (saved.input(0)? - result).exp()?;
        Ok([Some(self.0.expand(grad, &shape)? * share)])
    }
}

impl Tensor {
    /// Variance over `dims` (all if empty): squared deviations over the number of elements less `correction`.
    pub fn var(&self, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
        let over = Over::new("var", self, dims, keepdim)?;
        apply(Var { over, correction, root: false }, [self])
    }

    /// Standard deviation over `dims` (all if empty): the root of [`Tensor::var`].
    pub fn std(&self, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
        let over = Over::new("std", self, dims, keepdim)?;
        apply(Var { over, correction, root: true }, [self])
    }

    /// Vector norm of order `p` over `dims` (all if empty); its gradient at zero is zero.
    pub fn norm(&self, p: f64, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        apply(Norm { over: Over::new("norm", self, dims, keepdim)?, p }, [self])
    }

    /// `log(sum(exp(x)))` over `dims`, without overflow.
    pub fn logsumexp(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        apply(LogSumExp(Over::new("logsumexp", self, dims, keepdim)?), [self])
    }
}
