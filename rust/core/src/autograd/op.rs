//! What an operation is: its forward, what it keeps, and its gradient rule.

use super::mode;
use super::node::{lock, try_lock, Backward, InputGrads, Needs, NodeRef, OutputGrads};
use super::saved::{freed_error, pack_kept, pack_set, Kept, SavedArray, SavedSet};
use super::tied::{tie, Ties};
use crate::array::Array;
use crate::layout::{same, Dims};
use crate::tensor::Tensor;
use crate::{bail, Result};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Mutex;

/// A gradient per input; `None` where there is none.
pub type Grads<const N: usize> = [Option<Tensor>; N];

/// An operation on `N` tensors. Its fields are its attributes (dim, stride, ...).
pub trait Op<const N: usize>: Debug + Send + Sync + 'static {
    /// Name in graphs and messages, as users spell it: `"matmul"`.
    const NAME: &'static str;
    /// Whether the output shares the first input's storage.
    const IS_VIEW: bool = false;

    /// As messages call it, where one type stands for several operations.
    fn called(&self) -> &'static str {
        Self::NAME
    }

    /// Whether every element of the result is one that was given, moved or put in. In anomaly mode it is not
    /// looked at: it may be memory that nothing was written to yet, and a number that is put in is meant.
    fn only_moves(&self) -> bool {
        Self::IS_VIEW
    }

    /// PyTorch's name of the recorded node, `MatmulBackward0` for `matmul`.
    fn grad_fn_name(&self) -> String {
        camel_case(Self::NAME) + "Backward0"
    }

    /// Of which inputs its gradients are functions even where they do not depend on them, as PyTorch's are.
    fn ties(&self) -> Ties {
        Ties::Nothing
    }

    /// What `backward` reads, given which inputs need a gradient. All else is freed after forward.
    fn saves(&self, needs: [bool; N]) -> Saves<N> {
        let _ = needs;
        Saves::nothing()
    }

    /// Computes the result; may keep intermediates (mask, argmax) in its own fields.
    fn forward(&mut self, inputs: [&Array; N]) -> Result<Array>;

    /// Computes the result into `out`, which may be one of the inputs. Checks before it writes.
    fn forward_into(&mut self, inputs: [&Array; N], out: &Array) -> Result<()> {
        let result = self.forward(inputs)?;
        check_target(Self::NAME, out, result.shape(), result.dtype())?;
        out.copy_from(&result)
    }

    /// A gradient per input that [`Saved::needs`] one, written with tensor operations so that it can be
    /// differentiated again. It may have the broadcast shape: the engine sums it to the input's shape.
    fn backward(&self, saved: &Saved<N>, grad: &Tensor) -> Result<Grads<N>>;

    /// Shows the intermediates kept in fields, all of them: they are freed with the graph.
    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        let _ = visit;
    }
}

/// Which of its inputs, and whether its output, an operation saves for backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saves<const N: usize> {
    pub(crate) inputs: [bool; N],
    pub(crate) output: bool,
}

impl<const N: usize> Saves<N> {
    /// Nothing: the rule needs only the gradient.
    pub fn nothing() -> Self {
        Self { inputs: [false; N], output: false }
    }

    /// The marked inputs.
    pub fn inputs(inputs: [bool; N]) -> Self {
        Self { inputs, output: false }
    }

    /// The output.
    pub fn output() -> Self {
        Self { inputs: [false; N], output: true }
    }

    /// Every input.
    pub fn all_inputs() -> Self {
        Self::inputs([true; N])
    }

    /// Also the output.
    pub fn and_output(self) -> Self {
        Self { output: true, ..self }
    }

    /// Holds on to the marked inputs and their versions in `kept`, and leaves room for the output.
    #[inline(always)]
    pub(super) fn keep_inputs(self, op: &str, inputs: [&Array; N], kept: &mut SavedSet<N>) -> Result<()> {
        for i in 0..N {
            if self.inputs[i] {
                kept.inputs[i] = Some(SavedArray::new(op, inputs[i])?);
            }
        }
        Ok(())
    }
}

/// What a gradient rule may read: saved arrays as tensors, and what is known of the inputs.
#[derive(Debug)]
pub struct Saved<'a, const N: usize> {
    name: &'static str,
    set: Option<&'a SavedSet<N>>,
    node: &'a NodeRef,
    needs: Needs<'a>,
}

impl<const N: usize> Saved<'_, N> {
    /// Saved input `i`; linked to its history when a graph of the backward pass is recorded.
    pub fn input(&self, i: usize) -> Result<Tensor> {
        let Some(saved) = self.set.and_then(|s| s.inputs[i].as_ref()) else {
            bail!(
                Autograd,
                "{}: input {i} was not saved for backward; name it in `saves` of the operation",
                self.name
            );
        };
        let array = saved.unchanged(self.name, format_args!("input {i}"))?;
        Ok(match &self.node.edges()[i] {
            Some(edge) if mode::is_recording() => Tensor::with_edge(array, edge.clone()),
            _ => Tensor::constant(array),
        })
    }

    /// The saved output; linked to this node when a graph of the backward pass is recorded.
    pub fn output(&self) -> Result<Tensor> {
        let Some(saved) = self.set.and_then(|s| s.output.as_ref()) else {
            bail!(
                Autograd,
                "{}: the output was not saved for backward: a pack hook failed, or `saves` of the operation does not \
                 name it",
                self.name
            );
        };
        let array = saved.unchanged(self.name, "the output")?;
        Ok(if mode::is_recording() {
            let edge = super::node::Edge { node: self.node.clone(), output: 0 };
            Tensor::with_edge(array, edge)
        } else {
            Tensor::constant(array)
        })
    }

    /// Whether a gradient of input `i` is asked for: it requires one, and this run of the engine looks for
    /// it. What is not asked for need not be computed, and is dropped if it is.
    #[inline]
    pub fn needs(&self, i: usize) -> bool {
        self.needs.of(i)
    }

    /// Shape of input `i`, one that requires a gradient.
    pub fn shape(&self, i: usize) -> Dims {
        self.node.edges()[i].as_ref().map(|e| e.meta().shape.clone()).unwrap_or_default()
    }
}

/// An operation in the graph: the value itself and what it saved.
#[derive(Debug)]
pub(crate) struct Recorded<O, const N: usize> {
    op: O,
    saved: Mutex<State<N>>,
}

#[derive(Debug)]
enum State<const N: usize> {
    NothingSaved,
    Kept(SavedSet<N>),
    Freed,
}

impl<O: Op<N>, const N: usize> Recorded<O, N> {
    pub(crate) fn new(op: O, saved: Option<SavedSet<N>>) -> Self {
        Self { op, saved: Mutex::new(saved.map_or(State::NothingSaved, State::Kept)) }
    }

    /// Saves what `saves` names of a call that has returned, while nobody else has this.
    #[inline(always)]
    pub(super) fn save(&mut self, saves: Saves<N>, inputs: [&Tensor; N], output: &Array) -> Result<()> {
        let Ok(state) = self.saved.get_mut() else { return Ok(()) };
        if saves != Saves::nothing() {
            *state = State::Kept(SavedSet::default());
        }
        if let State::Kept(set) = state {
            saves.keep_inputs(O::NAME, inputs.map(Tensor::array), set)?;
            if saves.output {
                set.output = Some(SavedArray::new(O::NAME, output)?);
            }
        }
        if mode::has_saved_hooks() {
            if let State::Kept(set) = state {
                pack_set(O::NAME, set, inputs)?;
            }
            pack_kept(&self.op)?;
        }
        Ok(())
    }

    /// What is saved, for one call of the rule: taken if this is the last, which spares copies of all handles, and
    /// given back should the rule fail.
    fn borrow(&self, is_last: bool) -> Result<Borrowed<'_, N>> {
        let mut state = lock(&self.saved);
        let (set, is_taken) = match &*state {
            State::NothingSaved => (None, false),
            State::Freed => return Err(freed_error()),
            State::Kept(set) if is_last && !set.is_packed() => {
                let State::Kept(set) = std::mem::replace(&mut *state, State::Freed) else { unreachable!() };
                (Some(set), true)
            }
            State::Kept(set) => (Some(set.clone()), false),
        };
        Ok(Borrowed { set, is_taken, from: &self.saved })
    }
}

/// What a rule reads.
struct Borrowed<'a, const N: usize> {
    set: Option<SavedSet<N>>,
    /// Whether it is missing where it came from.
    is_taken: bool,
    from: &'a Mutex<State<N>>,
}

impl<const N: usize> Drop for Borrowed<'_, N> {
    fn drop(&mut self) {
        if let Some(set) = self.set.take_if(|_| self.is_taken) {
            *lock(self.from) = State::Kept(set);
        }
    }
}

impl<O: Op<N>, const N: usize> Backward for Recorded<O, N> {
    fn name(&self) -> String {
        self.op.grad_fn_name()
    }

    fn backward(&self, node: &NodeRef, needs: Needs<'_>, mut grads: OutputGrads) -> Result<InputGrads> {
        let mut borrowed = self.borrow(needs.is_last())?;
        let Some(grad) = grads.pop().flatten() else { return Ok(InputGrads::new()) };
        if let Some(set) = borrowed.set.take_if(|set| set.is_packed()) {
            borrowed.set = Some(set.unpacked(O::NAME)?);
        }
        let saved = Saved { name: O::NAME, set: borrowed.set.as_ref(), node, needs };
        let grads = self.op.backward(&saved, &grad)?;
        borrowed.is_taken = false;
        tie(self.op.ties(), node, grads.into_iter().collect())
    }

    fn saved(&self) -> Vec<(String, SavedArray)> {
        let mut saved = Vec::new();
        if let State::Kept(set) = &*lock(&self.saved) {
            for (i, input) in set.inputs.iter().enumerate() {
                saved.extend(input.clone().map(|input| (format!("input {i}"), input)));
            }
            saved.extend(set.output.clone().map(|output| ("output".into(), output)));
        }
        self.op.visit_kept(&mut |kept| saved.extend(kept.saved().map(|kept| ("intermediate".into(), kept))));
        saved
    }

    fn visit_packed(&self, visit: &mut dyn FnMut(&dyn Any)) {
        if let Some(State::Kept(set)) = try_lock(&self.saved).as_deref() {
            set.visit_packed(visit);
        }
        self.op.visit_kept(&mut |kept| kept.visit_packed(visit));
    }

    fn is_freed(&self) -> bool {
        matches!(*lock(&self.saved), State::Freed)
    }

    fn describe(&self) -> String {
        format!("{:?}", self.op)
    }

    fn free(&self) {
        self.op.visit_kept(&mut |kept| kept.clear());
        let mut state = lock(&self.saved);
        if let State::Kept(_) = *state {
            let old = std::mem::replace(&mut *state, State::Freed);
            drop(state);
            drop(old); // without the lock: hooks may have made anything of it
        }
    }
}

/// An in-place or `out=` target takes a result of `shape` and `dtype`, or this says why not.
pub(crate) fn check_target(op: &str, out: &Array, shape: &[usize], dtype: crate::DType) -> Result<()> {
    if !same(out.shape(), shape) {
        bail!(
            Shape,
            "{op}: output with shape {:?} doesn't match the broadcast shape {shape:?}; the result of an \
             in-place operation must have its target's shape",
            out.shape()
        );
    }
    if dtype.category() > out.dtype().category() {
        bail!(
            DType,
            "{op}: result type {} can't be cast to the desired output type {}; use the out-of-place form",
            dtype.scalar_name(),
            out.dtype().scalar_name()
        );
    }
    Ok(())
}

/// `log_softmax` -> `LogSoftmax`.
fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut letters = word.chars();
        out.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        out.extend(letters);
    }
    out
}
