//! Tensors lent to a short operation while it runs: no handle of their own, whose two counts are a tenth of the
//! time of an operation on one element.

use super::PyTensor;
use crate::convert::{Given, Operand};
use crate::enter::{enter, enter_short, is_short};
use firesteel::{Result, Tensor};
use pyo3::prelude::*;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Loans that have not ended. Only attached threads read and write it, one at a time.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Tensors that objects gave up for others while there were loans: one of these may be of them.
static GIVEN_UP: Mutex<Vec<Tensor>> = Mutex::new(Vec::new());
/// Whether there are any.
static ANY_GIVEN_UP: AtomicUsize = AtomicUsize::new(0);

/// As long as this lives, no tensor that an object holds is freed.
#[derive(Debug)]
pub struct Loan<'py>(PhantomData<Python<'py>>);

impl<'py> Loan<'py> {
    /// A loan, for a time in which this thread does not work detached for long.
    #[inline]
    pub fn begin(_py: Python<'py>) -> Self {
        OPEN.store(OPEN.load(Relaxed) + 1, Relaxed);
        Self(PhantomData)
    }
}

impl Drop for Loan<'_> {
    #[inline]
    fn drop(&mut self) {
        let open = OPEN.load(Relaxed) - 1;
        OPEN.store(open, Relaxed);
        if open == 0 && ANY_GIVEN_UP.load(Relaxed) > 0 {
            free_given_up();
        }
    }
}

/// Drops `tensor`, which its object no longer holds, when no loan can be of it.
pub fn give_up(tensor: Tensor) {
    if OPEN.load(Relaxed) > 0 {
        GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner).push(tensor);
        ANY_GIVEN_UP.store(1, Relaxed);
    }
}

#[cold]
fn free_given_up() {
    ANY_GIVEN_UP.store(0, Relaxed);
    let tensors = std::mem::take(&mut *GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner));
    drop(tensors); // without the lock: they may hold anything
}

impl PyTensor {
    /// The tensor of the core for the time of a loan.
    #[inline]
    pub fn lent<'a>(&'a self, _loan: &'a Loan<'_>) -> &'a Tensor {
        self.borrowed()
    }
}

/// An operation on one tensor.
pub type Call = fn(&Tensor) -> Result<Tensor>;
/// An operation on two.
pub type Call2 = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// The result of `call`.
#[inline]
pub fn run(py: Python<'_>, x: &PyTensor, call: Call) -> PyResult<Tensor> {
    let loan = Loan::begin(py);
    let lent = x.lent(&loan);
    if is_short(lent.numel()) {
        return enter_short(py, || call(lent));
    }
    let x = &lent.clone();
    drop(loan);
    enter(py, x.numel(), || call(x))
}

/// The result of `call` on `x` and what stands to its right.
#[inline]
pub fn run2(py: Python<'_>, x: &PyTensor, other: Given<'_>, call: Call2) -> PyResult<Tensor> {
    run_beside(py, x, other, call)
}

/// The result of `call` on what stands to the left of `x`, and `x`.
#[inline]
pub fn run2_reflected(py: Python<'_>, x: &PyTensor, other: Given<'_>, call: Call2) -> PyResult<Tensor> {
    run_beside(py, x, other, |x, other| call(other, x))
}

#[inline]
fn run_beside(
    py: Python<'_>,
    x: &PyTensor,
    other: Given<'_>,
    call: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Sync,
) -> PyResult<Tensor> {
    let loan = Loan::begin(py);
    let lent = x.lent(&loan);
    if is_short(lent.numel()) {
        return enter_short(py, || call(lent, &*beside(other, lent, &loan)?));
    }
    let (x, other) = (&lent.clone(), Operand::from(other));
    drop(loan);
    enter(py, x.numel(), || call(x, &other.beside(x)?))
}

/// What was given as a tensor beside `x`.
#[inline]
fn beside<'a>(given: Given<'a>, x: &Tensor, loan: &'a Loan<'_>) -> Result<Cow<'a, Tensor>> {
    Ok(match given {
        Given::Object(object) => Cow::Borrowed(object.lent(loan)),
        Given::Operand(operand) => Cow::Owned(operand.beside(x)?),
    })
}
