//! Checks that several test files share.
#![allow(dead_code)] // each test file uses a part

use firesteel::autograd::{grad, Options};
use firesteel::{Result, Tensor};

/// A float64 leaf that asks for a gradient.
pub fn leaf(values: &[f64], shape: &[usize]) -> Tensor {
    let x = Tensor::from_slice(values, shape).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

/// All elements in row-major order.
pub fn values(x: &Tensor) -> Vec<f64> {
    x.array().to_vec().unwrap()
}

/// A sum in which every element has a weight of its own.
fn weighted(y: &Tensor) -> Tensor {
    let weights: Vec<f64> = (0..y.numel()).map(|i| 0.5 + 0.3 * (i % 7) as f64).collect();
    let weights = Tensor::from_slice(&weights, y.shape()).unwrap();
    (y * weights).sum(&[], false).unwrap()
}

fn gradient(x: &Tensor, f: &dyn Fn(&Tensor) -> Result<Tensor>) -> Tensor {
    let keep = Options { retain_graph: true, create_graph: true };
    let y = weighted(&f(x).unwrap());
    grad(&[y], &[None], std::slice::from_ref(x), keep).unwrap().remove(0).unwrap()
}

/// Fails unless the gradient of `f` at `x`, and the gradient of that, agree with differences.
pub fn gradcheck(name: &str, x: &[f64], shape: &[usize], f: impl Fn(&Tensor) -> Result<Tensor>) {
    compare(name, x, shape, &f);
    compare(&format!("{name}: second"), x, shape, &|x| Ok(gradient(x, &f)));
}

fn compare(name: &str, x: &[f64], shape: &[usize], f: &dyn Fn(&Tensor) -> Result<Tensor>) {
    let y = f(&leaf(x, shape)).unwrap();
    let exact = if y.requires_grad() {
        values(&gradient(&leaf(x, shape), f))
    } else {
        vec![0.0; x.len()] // a constant, as far as the graph knows
    };
    let step = 1e-6;
    for i in 0..x.len() {
        let at = |delta: f64| {
            let mut moved = x.to_vec();
            moved[i] += delta;
            values(&weighted(&f(&leaf(&moved, shape)).unwrap()))[0]
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        let error = (slope - exact[i]).abs();
        assert!(
            error < 1e-5 * (1.0 + slope.abs()),
            "{name}: element {i}: {} by rule, {slope} by difference",
            exact[i]
        );
    }
}
