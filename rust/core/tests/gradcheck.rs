//! Gradients and second gradients of reductions, scans, powers, choices and activations.

mod common;

use common::{gradcheck, leaf, values};
use firesteel::ops::activation::Approximate;
use firesteel::{Kind, Scalar, Tensor};

const X: [f64; 6] = [0.7, -1.2, 2.1, 0.4, -0.3, 1.6];
const ZEROS: [f64; 6] = [0.7, 0.0, 2.1, 0.0, -0.3, 0.0];
const SHAPE: [usize; 2] = [2, 3];

#[test]
fn sums_and_products() {
    gradcheck("sum", &X, &SHAPE, |x| x.sum(&[0], true));
    gradcheck("mean", &X, &SHAPE, |x| x.mean(&[-1], false));
    for x in [X, ZEROS] {
        gradcheck("prod", &x, &SHAPE, |x| x.prod(None, false));
        gradcheck("prod dim", &x, &SHAPE, |x| x.prod(Some(1), true));
        gradcheck("cumprod", &x, &SHAPE, |x| x.cumprod(1));
    }
    gradcheck("cumsum", &X, &SHAPE, |x| x.cumsum(0));
}

#[test]
fn moments_and_norms() {
    gradcheck("var", &X, &SHAPE, |x| x.var(&[1], 1.0, false));
    gradcheck("std", &X, &SHAPE, |x| x.std(&[], 0.0, false));
    gradcheck("logsumexp", &X, &SHAPE, |x| x.logsumexp(&[0], true));
    for p in [1.0, 1.5, 2.0, 3.0, f64::INFINITY, f64::NEG_INFINITY] {
        gradcheck(&format!("norm {p}"), &X, &SHAPE, |x| x.norm(p, &[1], false));
    }
}

#[test]
fn extremes_and_sorting() {
    gradcheck("max", &X, &SHAPE, Tensor::max);
    gradcheck("amin", &X, &SHAPE, |x| x.amin(&[0], true));
    gradcheck("max_dim", &X, &SHAPE, |x| Ok(x.max_dim(0, false)?.0));
    gradcheck("sort", &X, &SHAPE, |x| Ok(x.sort(-1, true)?.0));
    gradcheck("topk", &X, &SHAPE, |x| Ok(x.topk(2, 1, true)?.0));
}

#[test]
fn powers_limits_and_choices() {
    let positive = X.map(f64::abs);
    for exponent in [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 1.7] {
        gradcheck(&format!("pow {exponent}"), &positive, &SHAPE, |x| x.pow_scalar(exponent));
    }
    gradcheck("pow tensor", &positive, &SHAPE, |x| x.pow(&(x * 0.5)));
    gradcheck("scalar pow", &X, &SHAPE, |x| Tensor::scalar_pow(2.5, x));
    gradcheck("clamp", &X, &SHAPE, |x| x.clamp(Some(Scalar::Float(-1.0)), Some(Scalar::Float(1.0))));
    gradcheck("clamp tensor", &X, &SHAPE, |x| x.clamp_tensor(Some(&(x * 0.3)), Some(&(x * x))));
    gradcheck("where", &X, &SHAPE, |x| Tensor::where_self(&x.gt_scalar(0.5)?, &(x * x), x));
    gradcheck("masked_fill", &X, &SHAPE, |x| (x * x).masked_fill(&x.gt_scalar(0.5)?, 2.0));
    gradcheck("lerp", &X, &SHAPE, |x| x.lerp_tensor(&(x * x), &(x * 0.2)));
}

#[test]
fn activations() {
    gradcheck("gelu", &X, &SHAPE, |x| x.gelu(Approximate::None));
    gradcheck("gelu tanh", &X, &SHAPE, |x| x.gelu(Approximate::Tanh));
    gradcheck("softplus", &X, &SHAPE, |x| x.softplus(2.0, 3.0));
    gradcheck("elu", &X, &SHAPE, |x| x.elu(1.3, 1.0, 1.0));
    gradcheck("log_sigmoid", &X, &SHAPE, Tensor::log_sigmoid);
    gradcheck("mish", &X, &SHAPE, Tensor::mish);
    gradcheck("hardswish", &X, &SHAPE, Tensor::hardswish);
    gradcheck("leaky_relu", &X, &SHAPE, |x| x.leaky_relu(0.1));
}

#[test]
fn long_sums_stay_accurate() {
    // 0.1 is not a float32: a sum in one register would be off by several percent.
    for shape in [vec![4_000_000], vec![2_000_000, 2], vec![2, 2_000_000]] {
        let x = Tensor::full(&shape, 0.1, firesteel::DType::F32).unwrap();
        let total = x.sum(&[], false).unwrap().array().item_f64().unwrap();
        assert!((total - 400_000.0).abs() < 1.0, "{shape:?}: {total}");
        let by_column = x.sum(&[0], false).unwrap().sum(&[], false).unwrap().array().item_f64().unwrap();
        assert!((by_column - 400_000.0).abs() < 1.0, "{shape:?}: {by_column}");
    }
}

#[test]
fn ties_share_or_take_the_gradient() {
    let x = leaf(&[2.0, 1.0, 2.0], &[3]);
    let run = |y: Tensor| {
        firesteel::autograd::grad(&[y], &[None], std::slice::from_ref(&x), Default::default())
            .unwrap()
            .remove(0)
            .unwrap()
    };
    assert_eq!(values(&run(x.max().unwrap())), [0.5, 0.0, 0.5]);
    assert_eq!(values(&run(x.max_dim(0, false).unwrap().0)), [1.0, 0.0, 0.0]);
}

#[test]
fn errors_say_what_is_wrong() {
    let empty = Tensor::zeros(&[2, 0], firesteel::DType::F32).unwrap();
    let error = empty.max_dim(1, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Index);
    assert!(error.message().contains("Expected reduction dim 1 to have non-zero size"), "{error}");
    let ints = Tensor::ones(&[2], firesteel::DType::I64).unwrap();
    let error = ints.pow_scalar(-1i64).unwrap_err();
    assert!(error.message().contains("Integers to negative integer powers are not allowed."), "{error}");
    assert!(ints.mean(&[], false).unwrap_err().message().contains("could not infer output dtype"));
}
