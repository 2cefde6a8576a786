//! Looking for NaN and infinities.

use super::{at, here, Anomalies};
use crate::array::Array;
use crate::autograd::apply::without_recording;
use crate::tensor::Tensor;
use crate::{bail, Result};
use std::cell::Cell;

thread_local! {
    /// Whether what operations give is not checked: while rules run, which give gradients, and checks do.
    static UNCHECKED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, nothing is checked.
pub(super) struct Unchecked(bool);

impl Unchecked {
    pub fn new() -> Self {
        Self(UNCHECKED.replace(true))
    }
}

impl Drop for Unchecked {
    fn drop(&mut self) {
        UNCHECKED.set(self.0);
    }
}

/// The first value of an array that is not finite, and how many there are.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    value: f64,
    index: usize,
    count: usize,
}

/// The values of `array` that are `bad`.
fn find(array: &Array, bad: fn(f64) -> bool) -> Result<Option<Found>> {
    let _unchecked = Unchecked::new();
    if !array.dtype().is_float() || array.numel() == 0 {
        return Ok(None);
    }
    // A sum of finite values may overflow; one of others is never finite.
    let sum = without_recording(|| Tensor::constant(array.clone()).sum(&[], false))?;
    if sum.array().to_vec::<f64>()?[0].is_finite() {
        return Ok(None);
    }
    let values = array.to_vec::<f64>()?;
    let count = values.iter().filter(|value| bad(**value)).count();
    let first = values.into_iter().enumerate().find(|(_, value)| bad(*value));
    Ok(first.map(|(index, value)| Found { value, index, count }))
}

/// `nan in 2 of 6 elements, first at [0, 1]`.
fn described(found: &Found, array: &Array) -> String {
    let mut index = vec![0; array.shape().len()];
    let mut rest = found.index;
    for (place, extent) in index.iter_mut().zip(array.shape()).rev() {
        *place = rest % extent;
        rest /= extent;
    }
    let value = if found.value.is_nan() { "nan".into() } else { found.value.to_string() };
    format!("{value} ({} of {} elements are not finite, the first at {index:?})", found.count, array.numel())
}

/// Which values are bad already in what an operation is given.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The shape of one that holds NaN.
    nan: Option<Vec<usize>>,
    infinite: bool,
}

impl Known {
    /// Of the inputs of an operation that is about to run; `None` where nothing is to be checked.
    pub fn of(inputs: &[&Array]) -> Result<Option<Self>> {
        if !Anomalies::current().check_forward || UNCHECKED.get() {
            return Ok(None);
        }
        let mut known = Self::default();
        for input in inputs {
            if find(input, |value| !value.is_finite())?.is_some() {
                match find(input, f64::is_nan)? {
                    Some(_) => known.nan = Some(input.shape().to_vec()),
                    None => known.infinite = true,
                }
            }
        }
        Ok(Some(known))
    }
}

/// Operations that put numbers of the caller's into tensors: an infinity among them is meant (masks).
const PUT_GIVEN_NUMBERS: &[&str] =
    &["where", "masked_fill", "fill", "clamp", "index_put", "scatter", "index_fill", "constant_pad_nd"];

/// An error if what `op` gave holds NaN, or infinities that come from finite values.
#[cold]
pub(crate) fn check_outputs(op: &str, known: Option<Known>, outputs: &[&Array]) -> Result<()> {
    let Some(known) = known else { return Ok(()) };
    let given = known.infinite || PUT_GIVEN_NUMBERS.contains(&op.trim_end_matches('_'));
    let bad: fn(f64) -> bool = if given { f64::is_nan } else { |value| !value.is_finite() };
    for array in outputs {
        let Some(found) = find(array, bad)? else { continue };
        let cause = match &known.nan {
            Some(shape) => format!("its input of shape {shape:?} held nan before: it came with the data"),
            None if known.infinite => "the inputs hold infinities, but no nan".into(),
            None => "all inputs are finite".into(),
        };
        bail!(
            Autograd,
            "{op}: the result of shape {:?} ({}) holds {}; {cause}{}",
            array.shape(),
            array.dtype(),
            described(&found, array),
            at(here().as_ref()).replacen(" at ", "\n  ", 1)
        );
    }
    Ok(())
}

/// An error if one of the gradients that a rule gave holds NaN.
#[cold]
pub(super) fn check_gradients(name: &str, results: &[Option<Tensor>]) -> Result<()> {
    for (i, result) in results.iter().enumerate() {
        let Some(result) = result else { continue };
        if let Some(found) = find(result.array(), f64::is_nan)? {
            bail!(
                Autograd,
                "Function '{name}' returned nan values in its {i}th output: the gradient of its input {i}, of \
                 shape {:?} ({}), holds {}",
                result.shape(),
                result.dtype(),
                described(&found, result.array())
            );
        }
    }
    Ok(())
}
