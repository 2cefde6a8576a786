//! The engine: values of gradients, deep graphs, in-place writes to views, freed graphs.

use firesteel::autograd::{backward, grad, GradMode, Options};
use firesteel::{DType, Scalar, Tensor};

fn leaf(values: &[f64]) -> Tensor {
    let x = Tensor::from_slice(values, &[values.len()]).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

fn run(root: &Tensor) {
    backward(std::slice::from_ref(root), &[None], None, Options::default()).unwrap();
}

fn values(x: &Tensor) -> Vec<f64> {
    x.array().to_vec().unwrap()
}

#[test]
fn third_derivative_of_a_power() {
    let x = leaf(&[2.0]);
    let mut y = &(&x * &x) * &(&x * &x);
    let keep = Options { retain_graph: true, create_graph: true };
    for expected in [32.0, 48.0, 48.0] {
        y = grad(&[y], &[None], std::slice::from_ref(&x), keep).unwrap().remove(0).unwrap();
        assert_eq!(values(&y), [expected]);
    }
}

#[test]
fn a_million_nodes_on_a_small_stack() {
    let worker = std::thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let x = leaf(&[1.0]);
        let mut y = x.clone();
        for _ in 0..1_000_000 {
            y = &y + 1.0;
        }
        run(&y);
        assert_eq!(values(&x.grad().unwrap()), [1.0]);
        let mut z = x.clone();
        for _ in 0..1_000_000 {
            z = &z * 1.0;
        }
        drop(z); // freed without a backward pass
    });
    worker.unwrap().join().unwrap();
}

#[test]
fn nodes_that_use_one_node_twice_are_freed_on_a_small_stack() {
    type Step = fn(&Tensor) -> Tensor;
    let steps: [Step; 3] = [
        |y| y * y,
        |y| y + y,
        |y| {
            let pieces = y.split(1, 0).unwrap();
            Tensor::cat(&[&pieces[1], &pieces[0]], 0).unwrap()
        },
    ];
    let worker = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        for step in steps {
            let mut y = leaf(&[1.0, 1.0]);
            for _ in 0..50_000 {
                y = step(&y);
            }
        }
    });
    worker.unwrap().join().unwrap();
}

#[test]
fn gradients_of_gradients_are_freed_on_a_small_stack() {
    let worker = std::thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let mut x = leaf(&[1.0]);
        for _ in 0..50_000 {
            let y = leaf(&[1.0]);
            drop(&y * 2.0); // makes the leaf's node
            y.set_grad(Some(x)).unwrap();
            x = y;
        }
    });
    worker.unwrap().join().unwrap();
}

#[test]
fn a_view_of_a_leaf_that_is_a_view_cannot_be_written() {
    let w = Tensor::from_slice(&[1.0; 4], &[4]).unwrap().view(&[2, 2]).unwrap();
    w.set_requires_grad(true).unwrap();
    let row = w.select(0, 0).unwrap();
    assert!(row.mul_(&leaf(&[2.0, 2.0])).unwrap_err().message().contains("a view of a leaf"));
    let base = Tensor::from_slice(&[1.0; 4], &[4]).unwrap();
    let view = base.slice(0, 0, 2, 1).unwrap();
    base.set_requires_grad(true).unwrap();
    assert!(view.fill_(Scalar::from(0.0)).unwrap_err().message().contains("a view of a leaf"));
    let _mode = GradMode::disabled();
    row.fill_(Scalar::from(0.0)).unwrap();
    assert!(w.is_leaf());
    assert_eq!(values(&w), [0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn writing_a_view_rebases_the_base() {
    let x = leaf(&[1.0, 2.0, 3.0]);
    let base = &x * 1.0;
    let other = base.slice(0, 1, 3, 1).unwrap();
    let view = base.slice(0, 0, 2, 1).unwrap();
    view.mul_(&Tensor::from_slice(&[10.0, 20.0], &[2]).unwrap()).unwrap();
    // base = [10 x0, 20 x1, x2]; other = [20 x1, x2]; view = [10 x0, 20 x1]
    assert_eq!(values(&base), [10.0, 40.0, 3.0]);
    let z =
        (&base.sum(&[], false).unwrap() + &other.sum(&[], false).unwrap()) + view.sum(&[], false).unwrap();
    run(&z);
    assert_eq!(values(&x.grad().unwrap()), [20.0, 60.0, 2.0]);
}

#[test]
fn in_place_values_are_saved_before_the_write() {
    let x = leaf(&[3.0]);
    let w = leaf(&[5.0]);
    let y = &x * 1.0;
    y.mul_(&w).unwrap();
    run(&y.sum(&[], false).unwrap());
    assert_eq!(values(&x.grad().unwrap()), [5.0]);
    assert_eq!(values(&w.grad().unwrap()), [3.0]);
}

#[test]
fn changed_saved_values_and_freed_graphs_are_errors() {
    let x = leaf(&[3.0]);
    let y = x.exp().unwrap();
    y.add_(&Tensor::ones(&[1], DType::F64).unwrap()).unwrap();
    let error = backward(&[y.sum(&[], false).unwrap()], &[None], None, Options::default()).unwrap_err();
    assert!(error.message().contains("modified by an inplace operation"), "{error}");
    assert!(error.message().contains("is at version 1; expected version 0"), "{error}");

    let z = (&x * &x).sum(&[], false).unwrap();
    run(&z);
    let error = backward(&[z], &[None], None, Options::default()).unwrap_err();
    assert!(error.message().contains("retain_graph=True"), "{error}");
}

#[test]
fn leaves_cannot_be_written_while_recording() {
    let x = leaf(&[3.0]);
    let one = Tensor::ones(&[1], DType::F64).unwrap();
    assert!(x.add_(&one).unwrap_err().message().contains("a leaf Variable that requires grad"));
    assert_eq!(values(&x), [3.0]);
    let _mode = GradMode::disabled();
    x.add_(&one).unwrap();
    assert_eq!(values(&x), [4.0]);
}

#[test]
fn a_view_that_nothing_recorded_cannot_be_written_unnoticed() {
    let x = leaf(&[1.0, 2.0]);
    let off = GradMode::disabled();
    let view = x.slice(0, 0, 1, 1).unwrap();
    drop(off);
    let zero = || view.fill_(Scalar::from(0.0));
    assert!(zero().unwrap_err().message().contains("A view was created in no_grad mode"));
    assert_eq!(values(&x), [1.0, 2.0]);
    let off = GradMode::disabled();
    zero().unwrap();
    drop(off);
    assert_eq!(values(&x), [0.0, 2.0]);
    drop(x);
    zero().unwrap(); // nobody can ask for the history any more
}

#[test]
fn inference_tensors_are_for_inference_alone() {
    let x = leaf(&[3.0]);
    let inference = GradMode::inference(true);
    let (made, view) = (&x * 1.0, x.slice(0, 0, 1, 1).unwrap());
    assert!(made.is_inference() && !made.requires_grad() && !view.is_inference());
    {
        let _grad = GradMode::set(true); // records nothing
        assert!((&x * 1.0).is_leaf());
    }
    made.add_(&made).unwrap();
    drop(inference);
    assert!(made.add_(&x.detach()).unwrap_err().message().contains("Inplace update to inference tensor"));
    assert!(made.set_requires_grad(true).unwrap_err().message().contains("clone() it"));
    assert!(x.mul(&made).unwrap_err().message().contains("cannot be saved for backward"));
    assert_eq!(values(&made), [6.0]);
    let copy = made.copy().unwrap();
    assert!(!copy.is_inference());
    run(&x.mul(&copy).unwrap().sum(&[], false).unwrap());
    assert_eq!(values(&x.grad().unwrap()), [6.0]);
}

#[test]
fn broadcast_gradients_are_summed() {
    let x = leaf(&[1.0, 2.0]);
    let y = leaf(&[3.0]);
    run(&(&x * &y).sum(&[], false).unwrap());
    assert_eq!(values(&x.grad().unwrap()), [3.0, 3.0]);
    assert_eq!(values(&y.grad().unwrap()), [3.0]);
}
