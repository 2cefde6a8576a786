//! Matrix products: algebraic laws over ranks and strides, numeric first and second gradients, threads.

use firesteel::autograd::{grad, Options};
use firesteel::{par, DType, Result, Tensor};

/// Numbers in [-1, 1) that look random.
fn draw(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(next).collect();
    Tensor::from_slice(&values, shape).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.array().to_vec().unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64) {
    assert_eq!(a.shape(), b.shape());
    for (x, y) in values(a).into_iter().zip(values(b)) {
        assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "{x} is not {y}");
    }
}

type Function = fn(&[Tensor]) -> Result<Tensor>;

/// The gradients of `sum(f(inputs)^2)`.
fn gradients(f: Function, inputs: &[Tensor], create_graph: bool) -> Vec<Tensor> {
    let y = f(inputs).unwrap();
    let loss = (&y * &y).sum(&[], false).unwrap();
    let options = Options { retain_graph: create_graph, create_graph };
    let grads = grad(&[loss], &[None], inputs, options).unwrap();
    grads.into_iter().map(Option::unwrap).collect()
}

/// Compares `exact[i]` with the difference quotients of `loss` in input `i`.
fn compare(inputs: &[Tensor], exact: &[Tensor], loss: impl Fn(&[Tensor]) -> f64) {
    const STEP: f64 = 1e-6;
    for (i, exact) in exact.iter().enumerate() {
        for (j, exact) in values(exact).into_iter().enumerate() {
            let at = |step: f64| {
                let mut moved = inputs.to_vec();
                let mut numbers = values(&inputs[i]);
                numbers[j] += step;
                moved[i] = Tensor::from_slice(&numbers, inputs[i].shape()).unwrap();
                moved.iter().for_each(|x| x.set_requires_grad(true).unwrap());
                loss(&moved)
            };
            let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!(
                (exact - numeric).abs() < 1e-6 * (1.0 + numeric.abs()),
                "input {i}[{j}]: {exact} {numeric}"
            );
        }
    }
}

/// First and second derivatives of `f` at random inputs of `shapes`.
fn check(f: Function, shapes: &[&[usize]]) {
    let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| draw(i as u64 + 7, s)).collect();
    inputs.iter().for_each(|x| x.set_requires_grad(true).unwrap());
    let total = |x: &Tensor| values(x).iter().sum::<f64>();
    compare(&inputs, &gradients(f, &inputs, false), |x| total(&f(x).unwrap().square().unwrap()));

    let first = gradients(f, &inputs, true);
    let squares = first.iter().map(|g| (g * g).sum(&[], false).unwrap());
    let loss = squares.reduce(|a, b| a + b).unwrap();
    let second = grad(&[loss], &[None], &inputs, Options::default()).unwrap();
    let second: Vec<Tensor> = second.into_iter().map(Option::unwrap).collect();
    compare(&inputs, &second, |x| gradients(f, x, false).iter().map(|g| total(&(g * g))).sum());
}

#[test]
fn gradients_of_all_ranks() {
    let product: Function = |x| x[0].matmul(&x[1]);
    let pairs: [(&[usize], &[usize]); 10] = [
        (&[3], &[3]),
        (&[2, 3], &[3]),
        (&[3], &[3, 2]),
        (&[2, 3], &[3, 2]),
        (&[2, 2, 3], &[3]),
        (&[3], &[2, 3, 2]),
        (&[2, 2, 3], &[3, 2]),
        (&[2, 3], &[2, 3, 2]),
        (&[2, 1, 2, 3], &[2, 3, 1]),
        (&[1, 2, 3], &[2, 3, 2]),
    ];
    for (a, b) in pairs {
        check(product, &[a, b]);
    }
}

#[test]
fn gradients_of_sums_with_products() {
    check(|x| x[0].addmm(&x[1], &x[2], 0.5, -2.0), &[&[2], &[3, 2], &[2, 2]]);
    check(|x| x[0].addmv(&x[1], &x[2], 1i64, 1i64), &[&[3], &[3, 2], &[2]]);
    check(|x| x[0].baddbmm(&x[1], &x[2], 1i64, 2i64), &[&[1, 2], &[2, 2, 2], &[2, 2, 2]]);
    check(|x| x[0].linear(&x[1], Some(&x[2])), &[&[2, 2, 3], &[2, 3], &[2]]);
    check(|x| x[0].linear(&x[1], Some(&x[2])), &[&[3], &[2, 3], &[2]]);
    check(|x| x[0].linear(&x[1], None), &[&[2, 3], &[2, 3]]);
    check(|x| Tensor::einsum("bn,anm,bm->ba", &[&x[0], &x[1], &x[2]]), &[&[2, 2], &[2, 2, 2], &[2, 2]]);
    check(|x| Tensor::einsum("iij,...j->i...", &[&x[0], &x[1]]), &[&[2, 2, 3], &[2, 3]]);
    check(|x| x[0].diagonal(1, 0, 1), &[&[2, 3]]);
}

#[test]
fn strides_do_not_matter() {
    let (a, b) = (draw(1, &[3, 17, 33]), draw(2, &[3, 33, 20]));
    let product = a.matmul(&b).unwrap();
    let turned = |x: &Tensor| x.transpose(-2, -1).unwrap().contiguous().unwrap().transpose(-2, -1).unwrap();
    assert_close(&turned(&a).matmul(&turned(&b)).unwrap(), &product, 1e-13);
    let outside = |x: &Tensor| x.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap();
    assert_close(&outside(&a).matmul(&outside(&b)).unwrap(), &product, 1e-13);
    // (a b)^T = b^T a^T
    let swapped = b.transpose(-2, -1).unwrap().matmul(&a.transpose(-2, -1).unwrap()).unwrap();
    assert_close(&swapped.transpose(-2, -1).unwrap(), &product, 1e-13);
    // A shared matrix gives what its copies give.
    let shared = b.select(0, 0).unwrap();
    let copies = shared.expand(&[3, 33, 20]).unwrap().contiguous().unwrap();
    assert_close(&outside(&a).matmul(&shared).unwrap(), &a.matmul(&copies).unwrap(), 1e-13);
}

#[test]
fn products_are_associative_and_distribute() {
    let (a, b, c) = (draw(1, &[5, 6]), draw(2, &[6, 7]), draw(3, &[7, 4]));
    let left = a.matmul(&b).unwrap().matmul(&c).unwrap();
    assert_close(&left, &a.matmul(&b.matmul(&c).unwrap()).unwrap(), 1e-13);
    assert_close(&left, &Tensor::einsum("ij,jk,kl", &[&a, &b, &c]).unwrap(), 1e-13);
    assert_close(&left, &a.matmul(&b).unwrap().tensordot(&c, [&[1], &[0]]).unwrap(), 1e-13);
    let sum = &b + &b;
    assert_close(&a.matmul(&sum).unwrap(), &(a.matmul(&b).unwrap() * 2.0), 1e-13);
}

#[test]
fn empty_sums_are_zero() {
    let product = draw(1, &[3, 0]).matmul(&draw(2, &[0, 2])).unwrap();
    assert_eq!(values(&product), [0.0; 6]);
    let bias = draw(3, &[2]);
    let out = draw(1, &[3, 0]).linear(&draw(2, &[2, 0]), Some(&bias)).unwrap();
    assert_eq!(values(&out), values(&bias).repeat(3));
    assert_eq!(draw(1, &[0, 2, 3]).matmul(&draw(2, &[3, 4])).unwrap().shape(), [0, 2, 4]);
}

#[test]
fn the_number_of_threads_leaves_no_trace() {
    let to_f32 = |x: Tensor| x.to_dtype(DType::F32).unwrap();
    let (a, b) = (to_f32(draw(1, &[7, 65, 130])), to_f32(draw(2, &[7, 130, 91])));
    let (x, w) = (to_f32(draw(3, &[150, 200])), to_f32(draw(4, &[170, 200])));
    let all =
        || [a.matmul(&b).unwrap(), x.linear(&w, None).unwrap(), a.matmul(&b.select(0, 0).unwrap()).unwrap()];
    par::set_num_threads(1).unwrap();
    let alone = all();
    par::set_num_threads(4).unwrap();
    for (one, many) in alone.iter().zip(all()) {
        assert_eq!(values(one), values(&many));
    }
}

#[test]
fn errors_say_the_shapes() {
    let text = |result: Result<Tensor>| result.unwrap_err().message().to_owned();
    assert_eq!(
        text(draw(1, &[3, 4]).matmul(&draw(2, &[5, 6]))),
        "matmul: (3, 4) @ (5, 6): last size 4 must equal second-to-last size 5; transpose or reshape one of them"
    );
    let narrow = draw(2, &[4, 2]).to_dtype(DType::F32).unwrap();
    assert!(text(draw(1, &[3, 4]).matmul(&narrow)).contains("same dtype, but got: float64 != float32"));
    assert!(text(Tensor::einsum("ij->k", &[&draw(1, &[2, 2])])).starts_with("einsum: output subscript "));
}
