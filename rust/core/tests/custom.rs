//! What programs in Rust build on: operations of their own, hooks of nodes, and hooks on what is saved.

mod common;

use common::{leaf, values};
use firesteel::autograd::node::{Backward, InputGrads, OutputGrads};
use firesteel::autograd::{
    apply, apply_many, backward, grad, pop_saved_hooks, push_saved_hooks, record_custom, GradMode, Grads,
    Needs, NodeHook, NodeRef, Op, Options, Packed, Produced, Saved, SavedHooks,
};
use firesteel::{Array, Error, Kind, Result, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

fn run(root: &Tensor) -> Result<()> {
    backward(&[root.sum(&[], false)?], &[None], None, Options::default())
}

fn grad_of(x: &Tensor) -> Vec<f64> {
    values(&x.grad().expect("a gradient has arrived"))
}

/// The identity, whose rule asks for what was never saved.
#[derive(Debug)]
struct Forgetful {
    asks_for_input: bool,
}

impl Op<1> for Forgetful {
    const NAME: &'static str = "forgetful";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        Ok(Tensor::constant(x.clone()).copy()?.array().clone())
    }

    fn backward(&self, saved: &Saved<1>, _grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(if self.asks_for_input { saved.input(0)? } else { saved.output()? })])
    }
}

#[test]
fn a_rule_reads_only_what_its_operation_saves() {
    let cases = [
        (true, "input 0 was not saved for backward; name it in `saves` of the operation"),
        (
            false,
            "the output was not saved for backward: a pack hook failed, or `saves` of the operation does not",
        ),
    ];
    for (asks_for_input, what) in cases {
        let x = leaf(&[1.0, 2.0], &[2]);
        let error = run(&apply(Forgetful { asks_for_input }, [&x]).unwrap()).unwrap_err();
        assert_eq!(error.kind(), Kind::Autograd);
        assert!(error.message().starts_with(&format!("forgetful: {what}")), "{error}");
        assert!(x.grad().is_none());
    }
}

/// The sum and the difference of two tensors, as one operation of two outputs.
#[derive(Debug)]
struct SumAndDifference;

impl Backward for SumAndDifference {
    fn name(&self) -> String {
        "SumAndDifferenceBackward".into()
    }

    fn backward(&self, _node: &NodeRef, needs: Needs<'_>, grads: OutputGrads) -> Result<InputGrads> {
        let [sum, difference] = [0, 1].map(|i| grads[i].clone());
        let side = |sign: f64| match (&sum, &difference) {
            (Some(s), Some(d)) => Some(s + &(d * sign)),
            (Some(s), None) => Some(s.clone()),
            (None, d) => d.as_ref().map(|d| d * sign),
        };
        Ok([1.0, -1.0].into_iter().enumerate().map(|(i, sign)| side(sign).filter(|_| needs.of(i))).collect())
    }
}

fn computed(a: &Tensor, b: &Tensor) -> [Tensor; 2] {
    let _mode = GradMode::disabled();
    [a + b, a - b]
}

fn sum_and_difference(a: &Tensor, b: &Tensor) -> Vec<Tensor> {
    let outputs = computed(a, b).map(|x| x.array().clone());
    apply_many(SumAndDifference, &[a, b], outputs.into()).unwrap()
}

#[test]
fn an_operation_of_several_outputs() {
    let (a, b) = (leaf(&[1.0, 2.0], &[2]), leaf(&[3.0, 5.0], &[2]));
    let outputs = sum_and_difference(&a, &b);
    assert_eq!([values(&outputs[0]), values(&outputs[1])], [[4.0, 7.0], [-2.0, -3.0]]);
    let edges: Vec<_> = outputs.iter().map(|x| x.grad_fn().expect("recorded")).collect();
    assert!(edges[0].node.is_same(&edges[1].node));
    assert_eq!((edges[0].output, edges[1].output), (0, 1));
    // Both outputs, then one alone: no gradient has come to the other.
    run(&(&outputs[0] * &(&outputs[1] * 1.0))).unwrap();
    assert_eq!((grad_of(&a), grad_of(&b)), (vec![2.0, 4.0], vec![-6.0, -10.0])); // of a^2 - b^2
    let second = &sum_and_difference(&a, &b)[1];
    let asked = [b.clone()];
    let found = grad(&[second.sum(&[], false).unwrap()], &[None], &asked, Options::default()).unwrap();
    assert_eq!(values(found[0].as_ref().unwrap()), [-1.0, -1.0]);
}

#[test]
fn what_asks_for_no_gradient_is_not_recorded() {
    let (a, b) = (leaf(&[1.0], &[1]), leaf(&[2.0], &[1]));
    let plain = sum_and_difference(&a.detach(), &b.detach());
    let off = GradMode::disabled();
    let unrecorded = sum_and_difference(&a, &b);
    drop(off);
    let indices = Tensor::from_slice(&[0i64], &[1]).unwrap().array().clone();
    let beside_integers = apply_many(SumAndDifference, &[&a, &b], vec![a.array().clone(), indices]).unwrap();
    for tensor in plain.iter().chain(&unrecorded).chain(&beside_integers) {
        assert!(tensor.is_leaf() && !tensor.requires_grad());
    }
}

#[test]
fn outputs_of_every_kind() {
    let (a, b) = (leaf(&[1.0, 2.0], &[2]), leaf(&[3.0, 5.0], &[2]));
    let written = &a * 1.0;
    let [sum, constant] = computed(&written, &b);
    let inputs = [written.clone(), b.clone()];
    let off = GradMode::disabled();
    written.add_(&b).unwrap();
    drop(off);
    let outputs =
        vec![Produced::Written(written.clone()), Produced::Same(b.clone()), Produced::Constant(constant)];
    let (outputs, node) = record_custom("mine", &inputs, outputs, || SumAndDifference).unwrap();
    let node = node.expect("an input asks for a gradient");
    assert_eq!((node.name(), node.outputs().len()), ("SumAndDifferenceBackward".into(), 3));
    assert!(outputs[0].is_same(&written) && written.grad_fn().is_some_and(|e| e.node.is_same(&node)));
    assert!(!outputs[1].is_same(&b) && !outputs[1].is_leaf() && outputs[1].array().is_same_memory(b.array()));
    assert!(!outputs[2].requires_grad());
    run(&outputs[0]).unwrap();
    assert_eq!((grad_of(&a), grad_of(&b)), (vec![1.0, 1.0], vec![1.0, 1.0]));

    let (outputs, node) =
        record_custom("mine", &[a.detach()], vec![Produced::New(sum)], || SumAndDifference).unwrap();
    assert!(node.is_none() && outputs[0].is_leaf());
    let leaf_written = vec![Produced::Written(a.clone())];
    let error =
        record_custom("mine", std::slice::from_ref(&a), leaf_written, || SumAndDifference).unwrap_err();
    assert!(error.message().contains("a leaf Variable that requires grad"), "{error}");
}

/// Doubles what comes to a node, and counts how often it is asked; `extra` returns one gradient too many.
struct Doubling {
    calls: AtomicUsize,
    extra: bool,
}

impl Doubling {
    fn new(extra: bool) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), extra })
    }

    fn doubled(&self, grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let doubled = grads.iter().map(|grad| grad.as_ref().map(|grad| grad * 2.0));
        doubled.chain(self.extra.then_some(None)).collect()
    }
}

impl NodeHook for Doubling {
    fn before(&self, outputs: &[Option<Tensor>]) -> Result<Option<Vec<Option<Tensor>>>> {
        Ok(Some(self.doubled(outputs)))
    }

    fn after(
        &self,
        inputs: &[Option<Tensor>],
        outputs: &[Option<Tensor>],
    ) -> Result<Option<Vec<Option<Tensor>>>> {
        assert!(outputs.iter().all(Option::is_some));
        Ok(Some(self.doubled(inputs)))
    }
}

#[test]
fn hooks_before_and_after_a_rule() {
    let x = leaf(&[1.0, 2.0], &[2]);
    let y = &x * 3.0;
    let node = y.grad_fn().unwrap().node;
    let (before, after) = (Doubling::new(false), Doubling::new(false));
    let handles = [node.register_prehook(before.clone()), node.register_hook(after.clone())];
    let keep = Options { retain_graph: true, create_graph: false };
    let root = y.sum(&[], false).unwrap();
    for expected in [12.0, 15.0] {
        backward(std::slice::from_ref(&root), &[None], None, keep).unwrap();
        assert_eq!(grad_of(&x), [expected; 2]);
        handles.iter().for_each(|handle| handle.remove());
    }
    assert_eq!([&before, &after].map(|hook| hook.calls.load(Ordering::Relaxed)), [1, 1]);

    let too_many = node.register_prehook(Doubling::new(true));
    let error = backward(std::slice::from_ref(&root), &[None], None, keep).unwrap_err();
    let text =
        "hook: it has returned an incorrect number of values: got 2, but expected 1; return a gradient";
    assert!(error.message().contains(text), "{error}");
    too_many.remove();
    backward(&[root], &[None], None, keep).unwrap();
}

/// Keeps what is saved as a list of numbers; `stretched` gives back one element too many.
struct Lists {
    packed: AtomicUsize,
    stretched: bool,
}

struct List {
    numbers: Vec<f64>,
    shape: Vec<usize>,
}

impl SavedHooks for Lists {
    fn pack(&self, tensor: &Tensor) -> Result<Box<dyn Packed>> {
        self.packed.fetch_add(1, Ordering::Relaxed);
        let mut list = List { numbers: tensor.array().to_vec()?, shape: tensor.shape().to_vec() };
        if self.stretched {
            list.numbers.push(0.0);
            list.shape = vec![list.numbers.len()];
        }
        Ok(Box::new(list))
    }
}

impl Packed for List {
    fn unpack(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.numbers, &self.shape)
    }

    fn arrays(&self) -> Vec<Array> {
        Vec::new()
    }
}

/// Refuses to keep anything.
struct Refusing;

impl SavedHooks for Refusing {
    fn pack(&self, _tensor: &Tensor) -> Result<Box<dyn Packed>> {
        Err(Error::external("no room", "the hook's own error"))
    }
}

/// `body`, while these hooks keep what is saved.
fn under<T>(hooks: Arc<dyn SavedHooks>, body: impl FnOnce() -> T) -> T {
    push_saved_hooks(hooks);
    let result = body();
    assert!(pop_saved_hooks().is_some());
    result
}

#[test]
fn saved_tensors_are_kept_as_a_hook_keeps_them() {
    let x = leaf(&[1.0, 2.0], &[2]);
    let lists = Arc::new(Lists { packed: AtomicUsize::new(0), stretched: false });
    let y = under(lists.clone(), || &x * &x);
    assert_eq!(lists.packed.load(Ordering::Relaxed), 2);
    run(&y).unwrap();
    assert_eq!(grad_of(&x), [2.0, 4.0]);
    drop(&x * &x); // without hooks again
    assert_eq!(lists.packed.load(Ordering::Relaxed), 2);
    assert!(pop_saved_hooks().is_none());
}

#[test]
fn hooks_on_saved_tensors_that_fail() {
    let x = leaf(&[1.0, 2.0], &[2]);
    let stretched = Arc::new(Lists { packed: AtomicUsize::new(0), stretched: true });
    let y = under(stretched, || x.exp().unwrap());
    let error = run(&y).unwrap_err();
    let text =
        "exp: the unpack hook returned a tensor of shape [3] (float64) for the output of shape [2] (float64)";
    assert!(error.kind() == Kind::Shape && error.message().starts_with(text), "{error}");
    let error = under(Arc::new(Refusing), || x.exp()).unwrap_err();
    let own = error.into_payload().and_then(|own| own.downcast::<&str>().ok());
    assert_eq!(own.as_deref(), Some(&"the hook's own error"));
    assert!(x.grad().is_none());
}
