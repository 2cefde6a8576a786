//! Tensors lent to a short operation while it runs: no handles of their own, whose counts are a tenth of the time of an
//! operation on one element.

use super::PyTensor;
use crate::convert::{Given, Operand};
use crate::enter::{enter, enter_short, is_short};
use firesteel::autograd::{anomaly, mode};
use firesteel::{Result, Tensor};
use pyo3::prelude::*;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Loans that have not ended. Only attached threads read and write it, one at a time.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Tensors that objects gave up for others while there were loans: one of these may be of them. Python code runs
/// during a loan only where memory of somebody else is freed, so there are hardly ever any.
static GIVEN_UP: Mutex<Vec<Tensor>> = Mutex::new(Vec::new());
/// Whether there are any.
static ANY_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// As long as this lives, no tensor that an object holds, or has held since, is freed. Its thread stays attached.
#[derive(Debug)]
pub struct Loan<'py>(PhantomData<Python<'py>>);

impl<'py> Loan<'py> {
    /// A loan for an operation on so many elements: for a short one that calls nothing of Python's, neither hooks for
    /// what is saved nor a tracer that notes where it ran.
    #[inline]
    pub fn begin(_py: Python<'py>, numel: usize) -> Option<Self> {
        if !is_short(numel) || mode::has_saved_hooks() || anomaly::is_on() {
            return None;
        }
        OPEN.store(OPEN.load(Relaxed) + 1, Relaxed);
        Some(Self(PhantomData))
    }
}

impl Drop for Loan<'_> {
    #[inline]
    fn drop(&mut self) {
        let open = OPEN.load(Relaxed) - 1;
        OPEN.store(open, Relaxed);
        if open == 0 && ANY_GIVEN_UP.load(Relaxed) {
            free_given_up();
        }
    }
}

/// Drops `tensor`, which its object no longer holds, when no loan can be of it.
pub fn give_up(tensor: Tensor) {
    if OPEN.load(Relaxed) > 0 {
        GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner).push(tensor);
        ANY_GIVEN_UP.store(true, Relaxed);
    }
}

#[cold]
fn free_given_up() {
    ANY_GIVEN_UP.store(false, Relaxed);
    let tensors = std::mem::take(&mut *GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner));
    drop(tensors); // without the lock: they may hold anything
}

/// The tensor that an object held when it was lent, whatever the object holds since.
#[derive(Debug)]
pub struct Lent<'a>(ManuallyDrop<Tensor>, PhantomData<&'a ()>);

impl Deref for Lent<'_> {
    type Target = Tensor;
    #[inline]
    fn deref(&self) -> &Tensor {
        &self.0
    }
}

impl PyTensor {
    /// The tensor of the core for the time of a loan.
    #[inline]
    pub fn lent<'a>(&'a self, _loan: &'a Loan<'_>) -> Lent<'a> {
        // SAFETY: a copy of the handle that is never dropped, of a tensor that the object holds, or `give_up` keeps,
        // until the loan ends.
        Lent(ManuallyDrop::new(unsafe { std::ptr::read(self.borrowed()) }), PhantomData)
    }
}

/// An operation on one tensor.
pub type Call = fn(&Tensor) -> Result<Tensor>;
/// An operation on two.
pub type Call2 = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// The result of `call`.
#[inline]
pub fn run(py: Python<'_>, x: &PyTensor, call: Call) -> PyResult<Tensor> {
    let numel = x.borrowed().numel();
    if let Some(loan) = Loan::begin(py, numel) {
        let x = x.lent(&loan);
        return enter_short(py, || call(&x));
    }
    let x = &x.tensor();
    enter(py, numel, || call(x))
}

/// The result of `call` on `x` and what stands to its right.
#[inline]
pub fn run2(
    py: Python<'_>,
    x: &PyTensor,
    other: Given<'_>,
    call: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Sync,
) -> PyResult<Tensor> {
    let numel = x.borrowed().numel().max(match &other {
        Given::Object(other) => other.borrowed().numel(),
        Given::Operand(other) => other.numel(),
    });
    if let Some(loan) = Loan::begin(py, numel) {
        let x = x.lent(&loan);
        return match other {
            Given::Object(other) => enter_short(py, || call(&x, &other.lent(&loan))),
            Given::Operand(other) => enter_short(py, || call(&x, &other.beside(&x)?)),
        };
    }
    let (x, other) = (&x.tensor(), Operand::from(other));
    enter(py, numel, || call(x, &other.beside(x)?))
}
