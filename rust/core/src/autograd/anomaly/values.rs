//! Looking for NaN and infinities.

use super::{at, check_interrupt, here, is_on, Anomalies};
use crate::array::Array;
use crate::autograd::apply::without_recording;
use crate::autograd::op::Op;
use crate::tensor::Tensor;
use crate::{bail, Result};
use std::cell::Cell;

thread_local! {
    /// Whether what operations give is not checked: inside of others, and in backward passes, which give
    /// gradients.
    static UNCHECKED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, nothing is checked.
#[derive(Debug)]
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

/// What is looked for.
#[derive(Clone, Copy)]
enum Bad {
    Nan,
    NotFinite,
}

impl Bad {
    fn is(self, value: f64) -> bool {
        match self {
            Self::Nan => value.is_nan(),
            Self::NotFinite => !value.is_finite(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nan => "nan",
            Self::NotFinite => "not finite",
        }
    }
}

/// `nan (2 of 6 elements are not finite, the first at [0, 1])`, if there are `bad` ones in `array`.
fn find(array: &Array, bad: Bad) -> Result<Option<String>> {
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
    let count = values.iter().filter(|value| bad.is(**value)).count();
    let Some(first) = values.iter().position(|value| bad.is(*value)) else { return Ok(None) };
    let value = if values[first].is_nan() { "nan".into() } else { values[first].to_string() };
    let (all, name, index) = (array.numel(), bad.name(), index_of(first, array.shape()));
    Ok(Some(format!("{value} ({count} of {all} elements are {name}, the first at {index:?})")))
}

/// The index of element number `rest` of an array.
fn index_of(mut rest: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, extent) in index.iter_mut().zip(shape).rev() {
        *place = rest % extent;
        rest /= extent;
    }
    index
}

/// An operation that runs, and which values are bad already in what it was given. While it lives, what other
/// operations give inside of it is not looked at: its own result alone is the user's.
#[derive(Debug)]
pub struct Known {
    /// The shape of one that holds NaN.
    nan: Option<Vec<usize>>,
    infinite: bool,
    _inside: Unchecked,
}

impl Known {
    /// Of the inputs of an operation that is about to run; `None` where nothing is to be checked.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a Array>) -> Result<Option<Self>> {
        let mode = Anomalies::current();
        if !(mode.enabled && mode.check_forward) || UNCHECKED.get() {
            return Ok(None);
        }
        let mut known = Self { nan: None, infinite: false, _inside: Unchecked::new() };
        for input in inputs {
            if find(input, Bad::NotFinite)?.is_some() {
                match find(input, Bad::Nan)? {
                    Some(_) => known.nan = Some(input.shape().to_vec()),
                    None => known.infinite = true,
                }
            }
        }
        Ok(Some(known))
    }

    /// The same for `op`; `None` also where that only moves what it is given.
    pub(crate) fn before<O: Op<N>, const N: usize>(op: &O, inputs: [&Tensor; N]) -> Result<Option<Self>> {
        if op.only_moves() {
            return Ok(None);
        }
        // A mask, class weights, running statistics.
        let mut beside = Vec::new();
        op.visit_kept(&mut |kept| beside.extend(kept.array()));
        Self::of(inputs.map(Tensor::array).into_iter().chain(&beside))
    }

    /// An error if what `op` gave holds NaN, or infinities that come from finite values.
    #[cold]
    pub fn check(self, op: &str, outputs: &[&Array]) -> Result<()> {
        let bad = if self.infinite { Bad::Nan } else { Bad::NotFinite };
        for array in outputs {
            let Some(found) = find(array, bad)? else { continue };
            let cause = match &self.nan {
                Some(shape) => format!(
                    "its input of shape {shape:?} held nan already: from the data, or from memory that nothing was \
                     written to (torch.empty)"
                ),
                None if self.infinite => "the tensors that it was given hold infinities, but no nan".into(),
                None => "the tensors that it was given are finite".into(),
            };
            let place = here();
            check_interrupt()?;
            bail!(
                Autograd,
                "{op}: the result of shape {:?} ({}) holds {found}; {cause}{}",
                array.shape(),
                array.dtype(),
                at(place.as_ref()).replacen(" at ", "\n  ", 1)
            );
        }
        Ok(())
    }
}

/// Runs `body`, which makes one operation out of several.
pub(crate) fn as_one(op: &str, inputs: &[&Tensor], body: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    let known = if is_on() { Known::of(inputs.iter().map(|x| x.array()))? } else { None };
    let result = body()?;
    if let Some(known) = known {
        known.check(op, &[result.array()])?;
    }
    Ok(result)
}

/// An error if one of the gradients that a rule gave holds NaN.
#[cold]
pub(super) fn check_gradients(name: &str, results: &[Option<Tensor>]) -> Result<()> {
    for (i, result) in results.iter().enumerate() {
        let Some(result) = result else { continue };
        if let Some(found) = find(result.array(), Bad::Nan)? {
            bail!(
                Autograd,
                "Function '{name}' returned nan values in its {i}th output: the gradient of its input {i}, of \
                 shape {:?} ({}), holds {found}",
                result.shape(),
                result.dtype()
            );
        }
    }
    Ok(())
}
