//! Against the plain formula in float64.

use super::{backward, forward, Inputs, Outcome};
use crate::array::Array;
use crate::kernels::attention::Float;
use crate::par;

fn sample(shape: &[usize], seed: usize) -> Array {
    let len: usize = shape.iter().product();
    let values: Vec<f64> = (0..len).map(|i| ((i + seed) * 7919 % 1013) as f64 / 506.5 - 1.0).collect();
    Array::from_slice(&values, shape).unwrap()
}

struct Reference {
    out: Vec<f64>,
    grads: [Vec<f64>; 3],
}

/// One head, by the formulas.
#[allow(clippy::needless_range_loop)] // indices as in the formulas
fn reference(
    [l, s, e, f]: [usize; 4],
    x: [&[f64]; 4],
    mask: Option<&[f64]>,
    is_causal: bool,
    scale: f64,
) -> Reference {
    let [q, k, v, g] = x;
    let mut out = vec![0.0; l * f];
    let mut grads = [vec![0.0; l * e], vec![0.0; s * e], vec![0.0; s * f]];
    for i in 0..l {
        let score = |j: usize| {
            let dot: f64 = (0..e).map(|c| q[i * e + c] * k[j * e + c]).sum();
            if is_causal && j > i {
                f64::NEG_INFINITY
            } else {
                dot * scale + mask.map_or(0.0, |mask| mask[i * s + j])
            }
        };
        let scores: Vec<f64> = (0..s).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let max = if max.is_finite() { max } else { 0.0 };
        let total: f64 = scores.iter().map(|x| (x - max).exp()).sum();
        let p: Vec<f64> =
            scores.iter().map(|x| if total > 0.0 { (x - max).exp() / total } else { 0.0 }).collect();
        for c in 0..f {
            out[i * f + c] = (0..s).map(|j| p[j] * v[j * f + c]).sum();
        }
        let d: Vec<f64> = (0..s).map(|j| (0..f).map(|c| g[i * f + c] * v[j * f + c]).sum()).collect();
        let mean: f64 = (0..s).map(|j| p[j] * d[j]).sum();
        for j in 0..s {
            let slope = p[j] * (d[j] - mean) * scale;
            for c in 0..e {
                grads[0][i * e + c] += slope * k[j * e + c];
                grads[1][j * e + c] += slope * q[i * e + c];
            }
            for c in 0..f {
                grads[2][j * f + c] += p[j] * g[i * f + c];
            }
        }
    }
    Reference { out, grads }
}

/// Results and gradients of `heads` heads in `T`, each as float64.
fn computed<T: Float>(
    inputs: [&Array; 4],
    mask: Option<&Array>,
    is_causal: bool,
    scale: f64,
) -> [Vec<f64>; 4] {
    let [query, key, value, grad] = inputs.map(|x| x.to_dtype(T::DTYPE).unwrap());
    let mask = mask.map(|mask| mask.to_dtype(T::DTYPE).unwrap());
    let inputs =
        Inputs { query: &query, key: &key, value: &value, mask: mask.as_ref(), drop: None, scale, is_causal };
    let out = Array::empty(grad.shape(), T::DTYPE).unwrap();
    let mut logs = vec![T::default(); query.shape()[0] * query.shape()[1]];
    forward::<T>(&inputs, &out, &mut logs);
    let grads = [&query, &key, &value].map(|x| Array::empty(x.shape(), T::DTYPE).unwrap());
    let outcome = Outcome { out: &out, grad: &grad, logs: &logs };
    backward::<T>(&inputs, &outcome, grads.each_ref().map(Some)).unwrap();
    let [a, b, c] = grads;
    [out, a, b, c].map(|x| x.to_vec::<f64>().unwrap())
}

fn check(heads: usize, sizes: [usize; 4], has_mask: bool, is_causal: bool) {
    let [l, s, e, f] = sizes;
    let (query, key) = (sample(&[heads, l, e], 1), sample(&[heads, s, e], 2));
    let (value, grad) = (sample(&[heads, s, f], 3), sample(&[heads, l, f], 4));
    let mut mask = sample(&[heads, l, s], 5);
    for (i, x) in mask.slice_mut::<f64>().iter_mut().enumerate() {
        // The first query of each head sees nothing, the others not all.
        *x = if i % (l * s) < s || i % 7 == 3 { f64::NEG_INFINITY } else { *x };
    }
    let mask = has_mask.then_some(&mask);
    let scale = 1.5;
    let all = [&query, &key, &value, &grad];
    let double = computed::<f64>(all, mask, is_causal, scale);
    let single = computed::<f32>(all, mask, is_causal, scale);
    for head in 0..heads {
        let part = |x: &Array| {
            let len = x.numel() / heads;
            x.slice::<f64>()[head * len..(head + 1) * len].to_vec()
        };
        let (x, mask) = (all.map(part), mask.map(part));
        let exact = reference(sizes, x.each_ref().map(|x| x.as_slice()), mask.as_deref(), is_causal, scale);
        let [a, b, c] = exact.grads;
        for (n, exact) in [exact.out, a, b, c].into_iter().enumerate() {
            let len = exact.len();
            for (i, exact) in exact.iter().enumerate() {
                for (got, tolerance) in [(&double, 1e-12), (&single, 2e-5)] {
                    let got = got[n][head * len + i];
                    assert!(
                        (got - exact).abs() <= tolerance * exact.abs().max(1.0),
                        "{n} {i}: {got} for {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn sizes_of_all_kinds() {
    for (heads, sizes) in [
        (1, [1, 1, 1, 1]),
        (3, [5, 7, 3, 2]),
        (2, [4, 300, 20, 5]),
        (2, [34, 30, 20, 5]),
        (2, [16, 16, 8, 8]),
        (1, [70, 300, 33, 17]),
        (2, [130, 129, 64, 32]),
        (17, [20, 600, 8, 8]),
        (1, [3, 0, 4, 4]),
        (1, [3, 4, 0, 4]),
        (2, [0, 3, 2, 2]),
    ] {
        for has_mask in [false, true] {
            for is_causal in [false, true] {
                check(heads, sizes, has_mask, is_causal);
            }
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let before = par::num_threads();
    let run = |threads, heads| {
        par::set_num_threads(threads).unwrap();
        let shape = [heads, 300, 32];
        let [a, b, c, d] = [1, 2, 3, 4].map(|seed| sample(&shape, seed));
        computed::<f32>([&a, &b, &c, &d], None, true, 0.3)
    };
    for heads in [2, 20] {
        let one = run(1, heads);
        assert!(run(2, heads) == one && run(5, heads) == one);
    }
    par::set_num_threads(before).unwrap();
}
