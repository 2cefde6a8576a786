//! Optimizer steps, each one pass over a parameter and its state.
//!
//! The operations and their rounding follow PyTorch's single-tensor optimizers (what a step does
//! there with several passes), so that results agree bit for bit where multiply-add is fused.

use crate::array::Array;
use std::marker::PhantomData;
use std::ops::{Add, Div, Mul, Neg, Range, Sub};

use crate::dtype::{DType, Element};
use crate::par::for_each_chunk;
use crate::simd::{dispatch, Isa, Kernel};

/// Elements per chunk: enough work to pay for waking a thread.
const GRAIN: usize = 16 << 10;

/// The element types that optimizers step in.
pub trait Real:
    Element
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// `a * b + c`, fused where that is an instruction.
    fn fma<I: Isa>(a: Self, b: Self, c: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Whether this is not a number.
    fn is_nan(self) -> bool;
}

impl Real for f32 {
    #[inline(always)]
    fn fma<I: Isa>(a: Self, b: Self, c: Self) -> Self {
        I::fma32(a, b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

impl Real for f64 {
    #[inline(always)]
    fn fma<I: Isa>(a: Self, b: Self, c: Self) -> Self {
        I::fma64(a, b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

/// What [`sgd_step`] may be told; the names are those of `torch.optim.SGD`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SgdOptions {
    /// Learning rate.
    pub lr: f64,
    /// Factor of the old momentum buffer; 0 is plain gradient descent.
    pub momentum: f64,
    /// What the gradient's share of the momentum buffer is reduced by.
    pub dampening: f64,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f64,
    /// Nesterov momentum: looks one step ahead.
    pub nesterov: bool,
    /// Goes up the gradient instead of down.
    pub maximize: bool,
}

/// What [`adam_step`] may be told; the names are those of `torch.optim.Adam`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the averages of the gradient and of its square.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Strength of the weight decay.
    pub weight_decay: f64,
    /// Shrinks the parameter itself (AdamW) instead of adding to its gradient (Adam).
    pub decoupled_weight_decay: bool,
    /// Goes up the gradient instead of down.
    pub maximize: bool,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled_weight_decay: false,
            maximize: false,
        }
    }
}

/// A mutable slice that several threads take disjoint parts of.
#[derive(Clone, Copy)]
struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: `get` is the only access, and its callers take disjoint ranges.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No other part that overlaps `range` is in use.
    #[expect(clippy::mut_from_ref, reason = "the caller's promise keeps the parts disjoint")]
    unsafe fn get(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies in the slice, and by the caller's promise this is its only user.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// One step of stochastic gradient descent.
///
/// `buffer` is needed when `momentum` is not 0; on the `first` step it is set to the gradient.
pub fn sgd_step<T: Real>(
    param: &mut [T],
    grad: &[T],
    buffer: Option<&mut [T]>,
    first: bool,
    options: &SgdOptions,
) {
    assert_eq!(param.len(), grad.len());
    assert!(buffer.as_ref().map_or(options.momentum == 0.0, |buffer| buffer.len() == param.len()));
    let len = param.len();
    let param = Parts::new(param);
    let buffer = buffer.filter(|_| options.momentum != 0.0).map(Parts::new);
    for_each_chunk(len, GRAIN, |range| {
        // SAFETY: the chunks of `for_each_chunk` are disjoint.
        let (param, buffer) =
            unsafe { (param.get(range.clone()), buffer.as_ref().map(|buffer| buffer.get(range.clone()))) };
        dispatch(Sgd { param, grad: &grad[range], buffer, first, options });
    });
}

struct Sgd<'a, T> {
    param: &'a mut [T],
    grad: &'a [T],
    buffer: Option<&'a mut [T]>,
    first: bool,
    options: &'a SgdOptions,
}

/// The gradient as the step sees it: sign for `maximize`, weight decay added unless it is `None`.
#[inline(always)]
fn effective<I: Isa, T: Real>(grad: T, param: T, maximize: bool, decay: Option<T>) -> T {
    let grad = if maximize { -grad } else { grad };
    decay.map_or(grad, |decay| T::fma::<I>(param, decay, grad))
}

impl<T: Real> Kernel for Sgd<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let SgdOptions { lr, momentum, dampening, weight_decay, nesterov, maximize } = *self.options;
        let decay = (weight_decay != 0.0).then(|| T::from_f64(weight_decay));
        let (minus_lr, momentum) = (T::from_f64(-lr), T::from_f64(momentum));
        let share = T::from_f64(1.0 - dampening);
        let pairs = self.param.iter_mut().zip(self.grad);
        let Some(buffer) = self.buffer else {
            for (param, &grad) in pairs {
                let grad = effective::<I, T>(grad, *param, maximize, decay);
                *param = T::fma::<I>(grad, minus_lr, *param);
            }
            return;
        };
        let first = self.first;
        for ((param, &grad), buffer) in pairs.zip(buffer) {
            let grad = effective::<I, T>(grad, *param, maximize, decay);
            *buffer = if first { grad } else { T::fma::<I>(grad, share, *buffer * momentum) };
            let direction = if nesterov { T::fma::<I>(*buffer, momentum, grad) } else { *buffer };
            *param = T::fma::<I>(direction, minus_lr, *param);
        }
    }
}

/// One step of Adam or, with `decoupled_weight_decay`, AdamW.
///
/// `step` counts from 1. `max_exp_avg_sq` is the state of the AMSGrad variant, which it turns on.
pub fn adam_step<T: Real>(
    param: &mut [T],
    grad: &[T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
    max_exp_avg_sq: Option<&mut [T]>,
    step: f64,
    options: &AdamOptions,
) {
    let len = param.len();
    assert!([grad.len(), exp_avg.len(), exp_avg_sq.len()].iter().all(|&other| other == len));
    assert!(max_exp_avg_sq.as_ref().is_none_or(|max| max.len() == len));
    let factors = AdamFactors::new(step, options);
    let (param, exp_avg, exp_avg_sq) = (Parts::new(param), Parts::new(exp_avg), Parts::new(exp_avg_sq));
    let max_exp_avg_sq = max_exp_avg_sq.map(Parts::new);
    for_each_chunk(len, GRAIN, |range| {
        // SAFETY: the chunks of `for_each_chunk` are disjoint.
        let kernel = unsafe {
            Adam {
                param: param.get(range.clone()),
                exp_avg: exp_avg.get(range.clone()),
                exp_avg_sq: exp_avg_sq.get(range.clone()),
                max_exp_avg_sq: max_exp_avg_sq.as_ref().map(|max| max.get(range.clone())),
                grad: &grad[range],
                factors,
            }
        };
        dispatch(kernel);
    });
}

/// The numbers of a step, computed in double precision and rounded once.
#[derive(Clone, Copy)]
struct AdamFactors<T> {
    maximize: bool,
    /// Weight decay that is added to the gradient.
    decay: Option<T>,
    /// Factor of the parameter for decoupled weight decay.
    shrink: Option<T>,
    /// `1 - beta1`; whether it is below one half decides from which end the average is computed.
    weight: T,
    is_near: bool,
    beta2: T,
    share: T,
    correction: T,
    eps: T,
    minus_step_size: T,
}

impl<T: Real> AdamFactors<T> {
    fn new(step: f64, options: &AdamOptions) -> Self {
        let AdamOptions { lr, betas: (beta1, beta2), eps, weight_decay, .. } = *options;
        let decays = weight_decay != 0.0;
        let decoupled = options.decoupled_weight_decay;
        let weight = T::from_f64(1.0 - beta1);
        Self {
            maximize: options.maximize,
            decay: (decays && !decoupled).then(|| T::from_f64(weight_decay)),
            shrink: (decays && decoupled).then(|| T::from_f64(1.0 - lr * weight_decay)),
            weight,
            is_near: weight < T::from_f64(0.5),
            beta2: T::from_f64(beta2),
            share: T::from_f64(1.0 - beta2),
            correction: T::from_f64((1.0 - beta2.powf(step)).sqrt()),
            eps: T::from_f64(eps),
            minus_step_size: T::from_f64(-(lr / (1.0 - beta1.powf(step)))),
        }
    }
}

struct Adam<'a, T> {
    param: &'a mut [T],
    grad: &'a [T],
    exp_avg: &'a mut [T],
    exp_avg_sq: &'a mut [T],
    max_exp_avg_sq: Option<&'a mut [T]>,
    factors: AdamFactors<T>,
}

impl<T: Real> AdamFactors<T> {
    /// Updates the parameter and both averages; `bound` turns the second into what the step divides by.
    #[inline(always)]
    fn update<I: Isa>(
        &self,
        param: &mut T,
        grad: T,
        avg: &mut T,
        avg_sq: &mut T,
        bound: impl FnOnce(T) -> T,
    ) {
        let shrunk = self.shrink.map_or(*param, |shrink| *param * shrink);
        let grad = effective::<I, T>(grad, *param, self.maximize, self.decay);
        let (weight, base) =
            if self.is_near { (self.weight, *avg) } else { (self.weight - T::from_i64(1), grad) };
        *avg = T::fma::<I>(weight, grad - *avg, base);
        *avg_sq = T::fma::<I>(self.share * grad, grad, *avg_sq * self.beta2);
        let denominator = bound(*avg_sq).sqrt() / self.correction + self.eps;
        *param = shrunk + self.minus_step_size * *avg / denominator;
    }
}

impl<T: Real> Kernel for Adam<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let factors = self.factors;
        let all = self.param.iter_mut().zip(self.grad).zip(self.exp_avg).zip(self.exp_avg_sq);
        let Some(max_exp_avg_sq) = self.max_exp_avg_sq else {
            for (((param, &grad), avg), avg_sq) in all {
                factors.update::<I>(param, grad, avg, avg_sq, |avg_sq| avg_sq);
            }
            return;
        };
        for ((((param, &grad), avg), avg_sq), max) in all.zip(max_exp_avg_sq) {
            factors.update::<I>(param, grad, avg, avg_sq, |avg_sq| {
                // Not-a-number wins, as in `maximum`.
                let keep = *max > avg_sq || max.is_nan();
                *max = if keep { *max } else { avg_sq };
                *max
            });
        }
    }
}

/// The elements of a contiguous array that is written in place.
///
/// # Safety
/// No other slice of the same elements is in use.
#[expect(
    clippy::mut_from_ref,
    reason = "arrays share their storage; the caller's promise keeps slices disjoint"
)]
unsafe fn elements<T: Element>(array: &Array) -> &mut [T] {
    assert!(array.is_contiguous());
    // SAFETY: a contiguous array has `numel` elements from its pointer; uniqueness is the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(array.as_ptr::<T>(), array.numel()) }
}

/// [`sgd_step`] on contiguous float32 or float64 arrays of one shape, each of its own memory.
pub fn sgd_arrays(param: &Array, grad: &Array, buffer: Option<&Array>, first: bool, options: &SgdOptions) {
    fn typed<T: Real + Element>(p: &Array, g: &Array, b: Option<&Array>, first: bool, options: &SgdOptions) {
        // SAFETY: `check_written` and `working_grad` in optim.rs give each array memory of its own.
        unsafe { sgd_step::<T>(elements(p), elements(g), b.map(|b| elements(b)), first, options) }
    }
    match param.dtype() {
        DType::F64 => typed::<f64>(param, grad, buffer, first, options),
        _ => typed::<f32>(param, grad, buffer, first, options),
    }
}

/// [`adam_step`] on contiguous float32 or float64 arrays of one shape, each of its own memory.
pub fn adam_arrays(
    param: &Array,
    grad: &Array,
    exp_avg: &Array,
    exp_avg_sq: &Array,
    max_exp_avg_sq: Option<&Array>,
    step: f64,
    options: &AdamOptions,
) {
    fn typed<T: Real + Element>(arrays: [&Array; 4], max: Option<&Array>, step: f64, options: &AdamOptions) {
        let [p, g, m, v] = arrays;
        // SAFETY: `check_written` and `working_grad` in optim.rs give each array memory of its own.
        unsafe {
            let max = max.map(|max| elements(max));
            adam_step::<T>(elements(p), elements(g), elements(m), elements(v), max, step, options);
        }
    }
    let arrays = [param, grad, exp_avg, exp_avg_sq];
    match param.dtype() {
        DType::F64 => typed::<f64>(arrays, max_exp_avg_sq, step, options),
        _ => typed::<f32>(arrays, max_exp_avg_sq, step, options),
    }
}
