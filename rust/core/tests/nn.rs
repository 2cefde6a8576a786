//! First and second derivatives of layers and losses against differences of their values.

use firesteel::autograd::{grad, Options};
use firesteel::ops::conv::{ConvOptions, ConvPadding};
use firesteel::ops::loss::{ClassLoss, Reduction};
use firesteel::ops::norm::BatchNormOptions;
use firesteel::ops::pool::PoolOptions;
use firesteel::{Result, Tensor};

type Function = dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Numbers without a pattern, no two of them close.
fn values(numel: usize, seed: usize) -> Vec<f64> {
    (0..numel).map(|i| ((i * 7919 + seed * 271 + 13) % 1013) as f64 / 506.5 - 1.0).collect()
}

fn leaves(shapes: &[&[usize]], shift: Option<(usize, usize, f64)>) -> Vec<Tensor> {
    let leaf = |(k, shape): (usize, &&[usize])| {
        let mut data = values(shape.iter().product(), k);
        if let Some((_, at, by)) = shift.filter(|shift| shift.0 == k) {
            data[at] += by;
        }
        let x = Tensor::from_slice(&data, shape).unwrap();
        x.set_requires_grad(true).unwrap();
        x
    };
    shapes.iter().enumerate().map(leaf).collect()
}

/// A sum in which every element has a factor of its own.
fn weighted(x: &Tensor, seed: usize) -> Tensor {
    let factors = Tensor::from_slice(&values(x.numel(), seed + 50), x.shape()).unwrap();
    (x * factors).sum(&[], false).unwrap()
}

/// Compares the gradients of `f` (a 0-d tensor) at `shapes` with differences.
fn check_against_differences(name: &str, f: &Function, shapes: &[&[usize]]) {
    const STEP: f64 = 1e-6;
    let inputs = leaves(shapes, None);
    let grads = grad(&[f(&inputs).unwrap()], &[None], &inputs, Options::default()).unwrap();
    for (k, found) in grads.iter().enumerate() {
        let found: Vec<f64> = found.as_ref().unwrap().array().to_vec().unwrap();
        for (at, found) in found.into_iter().enumerate() {
            let value = |by: f64| f(&leaves(shapes, Some((k, at, by)))).unwrap().array().item_f64().unwrap();
            let expected = (value(STEP) - value(-STEP)) / (2.0 * STEP);
            let error = (found - expected).abs();
            assert!(
                error < 1e-6 * (1.0 + expected.abs()),
                "{name}: input {k}[{at}]: {found}, not {expected}"
            );
        }
    }
}

/// Checks the fused gradients, those that are recorded, and the second derivatives.
fn check(name: &str, f: impl Fn(&[Tensor]) -> Result<Tensor> + 'static, shapes: &[&[usize]]) {
    let value = move |x: &[Tensor]| Ok(weighted(&f(x)?, 0));
    check_against_differences(name, &value, shapes);
    let slope = move |x: &[Tensor]| {
        let keep = Options { retain_graph: true, create_graph: true };
        let grads = grad(&[value(x)?], &[None], x, keep)?;
        // The inputs are added with factor 0, so that each has a gradient.
        let mut sum = Tensor::from_slice(&[0.0], &[])?;
        for (k, (grad, x)) in grads.into_iter().zip(x).enumerate() {
            sum = sum + weighted(&grad.unwrap(), k) + x.sum(&[], false)? * 0.0;
        }
        Ok(sum)
    };
    check_against_differences(&format!("gradient of {name}"), &slope, shapes);
}

#[test]
fn softmax() {
    check("softmax", |x| x[0].softmax(1), &[&[2, 3, 2]]);
    check("log_softmax", |x| x[0].log_softmax(-1), &[&[3, 4]]);
}

#[test]
fn convolutions() {
    for (stride, padding, dilation, groups) in
        [([1; 3], [0; 3], [1; 3], 1), ([2, 2, 1], [1, 1, 0], [1, 1, 2], 2)]
    {
        let options = ConvOptions { stride, dilation, groups, ..ConvOptions::default() };
        let padding = ConvPadding::Zeros(padding);
        let conv = move |x: &[Tensor]| x[0].conv2d(&x[1], Some(&x[2]), padding, options);
        check("conv2d", conv, &[&[2, 2, 4, 5], &[2, 2 / groups, 2, 3], &[2]]);
        let conv = move |x: &[Tensor]| x[0].conv3d(&x[1], Some(&x[2]), padding, options);
        check("conv3d", conv, &[&[1, 2, 3, 2, 5], &[2, 2 / groups, 3, 2, 3], &[2]]);
    }
    let same = |x: &[Tensor]| x[0].conv1d(&x[1], None, ConvPadding::Same, ConvOptions::default());
    check("conv1d", same, &[&[2, 5], &[3, 2, 4]]);
    let options = ConvOptions { stride: [2; 3], padding: [1, 1, 0], ..ConvOptions::default() };
    let transposed = move |x: &[Tensor]| x[0].conv_transpose2d(&x[1], Some(&x[2]), [0, 1, 0], options);
    check("conv_transpose2d", transposed, &[&[1, 2, 3, 2], &[2, 2, 2, 2], &[2]]);
    let transposed = move |x: &[Tensor]| x[0].conv_transpose3d(&x[1], Some(&x[2]), [0, 1, 0], options);
    check("conv_transpose3d", transposed, &[&[1, 2, 2, 2, 2], &[2, 1, 3, 2, 2], &[1]]);
}

#[test]
fn output_padding_undoes_padding_at_the_end() {
    let inputs = leaves(&[&[1, 2, 4, 3], &[2, 3, 3, 2]], None);
    let dilated = ConvOptions { dilation: [2; 3], ..ConvOptions::default() };
    let padded = ConvOptions { padding: [1; 3], ..dilated };
    let whole = inputs[0].conv_transpose2d(&inputs[1], None, [0; 3], dilated).unwrap();
    let found = inputs[0].conv_transpose2d(&inputs[1], None, [1; 3], padded).unwrap();
    let (height, width) = (whole.shape()[2], whole.shape()[3]);
    let expected = whole.narrow(2, 1, height - 1).unwrap().narrow(3, 1, width - 1).unwrap();
    assert_eq!(found.shape(), expected.shape());
    let difference = (found - expected).abs().unwrap().max().unwrap();
    assert!(difference.array().item_f64().unwrap() < 1e-12);
}

#[test]
fn pools() {
    let options =
        PoolOptions { kernel: [2, 3], stride: [2, 1], padding: [1, 1], dilation: [1, 1], ceil_mode: true };
    check("max_pool2d", move |x| Ok(x[0].max_pool2d(&options, false)?.0), &[&[2, 4, 5]]);
    check("avg_pool2d", move |x| x[0].avg_pool2d(&options, false, None), &[&[2, 4, 5]]);
    check("adaptive_avg_pool2d", |x| x[0].adaptive_avg_pool2d([3, 2]), &[&[1, 4, 5]]);
}

#[test]
fn normalisations() {
    let shapes: [&[usize]; 3] = [&[3, 2, 3], &[2, 3], &[2, 3]];
    check("layer_norm", |x| x[0].layer_norm(&[2, 3], Some(&x[1]), Some(&x[2]), 1e-5), &shapes);
    for training in [true, false] {
        let options = BatchNormOptions { training, momentum: 0.1, eps: 1e-5 };
        let norm = move |x: &[Tensor]| {
            let mean = Tensor::from_slice(&[0.5, -0.5], &[2])?;
            let variance = Tensor::from_slice(&[0.5, 2.0], &[2])?;
            x[0].batch_norm([Some(&mean), Some(&variance)], Some(&x[1]), Some(&x[2]), options)
        };
        check("batch_norm", norm, &[&[3, 2, 2], &[2], &[2]]);
    }
}

#[test]
fn losses() {
    for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
        check("mse_loss", move |x| x[0].mse_loss(&x[1], reduction), &[&[3, 4], &[3, 4]]);
        check("smooth_l1_loss", move |x| x[0].smooth_l1_loss(&x[1], 0.7, reduction), &[&[3, 4], &[3, 4]]);
        let logits = move |x: &[Tensor]| x[0].binary_cross_entropy_with_logits(&x[1], None, None, reduction);
        check("binary_cross_entropy_with_logits", logits, &[&[3, 4], &[3, 4]]);
        for label_smoothing in [0.0, 0.2] {
            let options = move || -> Result<ClassLoss> {
                let weight = Some(Tensor::from_slice(&[0.5, 1.0, 2.0], &[3])?);
                Ok(ClassLoss { weight, reduction, label_smoothing, ..ClassLoss::default() })
            };
            let targets = || Tensor::from_slice(&[2i64, -100, 0, 1], &[2, 2]);
            check("cross_entropy", move |x| x[0].cross_entropy(&targets()?, &options()?), &[&[2, 3, 2]]);
            check("nll_loss", move |x| x[0].nll_loss(&targets()?, &options()?), &[&[2, 3, 2]]);
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let text = |result: Result<Tensor>| result.unwrap_err().to_string();
    let x = Tensor::from_slice(&values(12, 0), &[3, 4]).unwrap();
    let targets = Tensor::from_slice(&[0i64, 7, 1], &[3]).unwrap();
    let error = text(x.cross_entropy(&targets, &ClassLoss::default()));
    assert!(error.contains("Target 7 is out of bounds"), "{error}");
    let error = text(x.layer_norm(&[5], None, None, 1e-5));
    assert!(error.contains("[5]") && error.contains("[3, 4]"), "{error}");
    assert!(text(x.dropout(1.5, true)).contains("1.5"));
}
