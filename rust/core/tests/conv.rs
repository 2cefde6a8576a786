//! Convolution against its definition, over many geometries, in any number of threads.

use firesteel::kernels::conv::{
    conv2d, conv2d_grad_bias, conv2d_grad_input, conv2d_grad_weight, Conv2dGeometry, Float,
};
use firesteel::par;
use proptest::prelude::*;

/// Calls `visit` with the indices in output, input and weight of every product of the definition.
fn each_product(g: &Conv2dGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let (height, width) = (g.out_height(), g.out_width());
    for index in 0..g.output_numel() {
        let (col, row) = (index % width, index / width % height);
        let (channel, image) =
            (index / (width * height) % g.out_channels, index / (width * height * g.out_channels));
        for input in 0..inputs {
            for tap in 0..g.kernel[0] * g.kernel[1] {
                let y = row * g.stride[0] + tap / g.kernel[1] * g.dilation[0];
                let x = col * g.stride[1] + tap % g.kernel[1] * g.dilation[1];
                let inside =
                    |at: usize, padding: usize, extent: usize| at >= padding && at - padding < extent;
                if inside(y, g.padding[0], g.in_height) && inside(x, g.padding[1], g.in_width) {
                    let plane = image * g.in_channels + channel / outputs * inputs + input;
                    let from = (plane * g.in_height + y - g.padding[0]) * g.in_width + x - g.padding[1];
                    visit(index, from, (channel * inputs + input) * g.kernel[0] * g.kernel[1] + tap);
                }
            }
        }
    }
}

/// Small numbers without a pattern.
fn values<T: Float>(numel: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f64((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
    };
    (0..numel).map(|_| next()).collect()
}

struct Results<T> {
    out: Vec<T>,
    grad_x: Vec<T>,
    grad_weight: Vec<T>,
    grad_bias: Vec<T>,
}

fn kernels<T: Float>(g: &Conv2dGeometry, x: &[T], weight: &[T], bias: &[T], grad: &[T]) -> Results<T> {
    // Outputs start as NaN: every element must be written.
    let nan = |numel: usize| vec![T::from_f64(f64::NAN); numel];
    let mut results = Results {
        out: nan(grad.len()),
        grad_x: nan(x.len()),
        grad_weight: nan(weight.len()),
        grad_bias: nan(bias.len()),
    };
    conv2d(g, x, weight, Some(bias), &mut results.out).unwrap();
    conv2d_grad_input(g, grad, weight, &mut results.grad_x).unwrap();
    conv2d_grad_weight(g, grad, x, &mut results.grad_weight).unwrap();
    conv2d_grad_bias(g, grad, &mut results.grad_bias);
    results
}

fn assert_close<T: Float>(name: &str, g: &Conv2dGeometry, found: &[T], expected: &[f64], tolerance: f64) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found.to_f64() - expected).abs();
        assert!(
            error <= tolerance * (1.0 + expected.abs()),
            "{name}[{index}]: {found:?} instead of {expected} for {g:?}"
        );
    }
}

fn check<T: Float>(g: &Conv2dGeometry, tolerance: f64) {
    let x = values::<T>(g.input_numel(), 1);
    let weight = values::<T>(g.weight_numel(), 2);
    let bias = values::<T>(g.out_channels, 3);
    let grad = values::<T>(g.output_numel(), 4);
    let plane = g.out_height() * g.out_width();
    let channel = |index: usize| index / plane.max(1) % g.out_channels;
    let mut out: Vec<f64> = (0..grad.len()).map(|index| bias[channel(index)].to_f64()).collect();
    let (mut grad_x, mut grad_weight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    let mut grad_bias = vec![0.0; bias.len()];
    each_product(g, |o, i, w| {
        out[o] += x[i].to_f64() * weight[w].to_f64();
        grad_x[i] += grad[o].to_f64() * weight[w].to_f64();
        grad_weight[w] += grad[o].to_f64() * x[i].to_f64();
    });
    grad.iter().enumerate().for_each(|(index, grad)| grad_bias[channel(index)] += grad.to_f64());
    let found = kernels(g, &x, &weight, &bias, &grad);
    assert_close("out", g, &found.out, &out, tolerance);
    assert_close("grad_x", g, &found.grad_x, &grad_x, tolerance);
    assert_close("grad_weight", g, &found.grad_weight, &grad_weight, tolerance);
    assert_close("grad_bias", g, &found.grad_bias, &grad_bias, tolerance);
}

prop_compose! {
    fn geometry()(
        batch in 0..5usize,
        groups in 1..4usize,
        inputs in 1..6usize,
        outputs in prop_oneof![4 => 1..9usize, 1 => 14..40usize],
        extents in [1..20usize, 1..20usize],
        kernel in [1..6usize, 1..6usize],
        stride in [1..4usize, 1..4usize],
        padding in [0..4usize, 0..4usize],
        dilation in [1..4usize, 1..4usize],
    ) -> Conv2dGeometry {
        let fit = |dim: usize| extents[dim].max((dilation[dim] * (kernel[dim] - 1) + 1).saturating_sub(2 * padding[dim]));
        Conv2dGeometry {
            batch, in_channels: groups * inputs, in_height: fit(0), in_width: fit(1),
            out_channels: groups * outputs, kernel, stride, padding, dilation, groups, channels_last: false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_geometry_matches_the_definition(g in geometry()) {
        check::<f64>(&g, 1e-12);
        check::<f32>(&g, 2e-4);
    }
}

const PLAIN: Conv2dGeometry = Conv2dGeometry {
    batch: 2,
    in_channels: 3,
    in_height: 9,
    in_width: 9,
    out_channels: 4,
    kernel: [3, 3],
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    groups: 1,
    channels_last: false,
};

#[test]
fn shapes_that_models_use() {
    let cases = [
        // Depthwise, with and without a multiplier.
        Conv2dGeometry { in_channels: 13, out_channels: 13, groups: 13, ..PLAIN },
        Conv2dGeometry { in_channels: 5, out_channels: 10, groups: 5, stride: [2, 2], ..PLAIN },
        // 1x1, patches, a filter as large as the plane, one dim.
        Conv2dGeometry { in_channels: 64, out_channels: 17, kernel: [1, 1], padding: [0, 0], ..PLAIN },
        Conv2dGeometry {
            in_height: 32,
            in_width: 32,
            kernel: [8, 8],
            stride: [8, 8],
            padding: [0, 0],
            ..PLAIN
        },
        Conv2dGeometry { batch: 9, in_channels: 20, kernel: [9, 9], padding: [0, 0], ..PLAIN },
        Conv2dGeometry { in_height: 1, in_width: 5000, kernel: [1, 7], padding: [0, 3], ..PLAIN },
        // Deeper than one pass over the weights, taller than one tile.
        Conv2dGeometry { in_channels: 70, out_channels: 20, in_height: 12, ..PLAIN },
        Conv2dGeometry {
            in_height: 90,
            in_width: 61,
            kernel: [7, 7],
            stride: [2, 2],
            padding: [3, 3],
            ..PLAIN
        },
    ];
    for g in cases {
        check::<f32>(&g, 5e-4);
        check::<f64>(&g, 1e-12);
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let cases = [
        Conv2dGeometry { batch: 16, in_height: 28, in_width: 28, in_channels: 1, out_channels: 32, ..PLAIN },
        Conv2dGeometry { batch: 7, in_height: 13, in_width: 13, in_channels: 32, out_channels: 40, ..PLAIN },
        Conv2dGeometry { batch: 1, in_channels: 96, out_channels: 96, ..PLAIN },
        Conv2dGeometry {
            batch: 4,
            in_channels: 64,
            out_channels: 64,
            groups: 64,
            in_width: 70,
            in_height: 70,
            ..PLAIN
        },
    ];
    for g in cases {
        let (x, weight) = (values::<f32>(g.input_numel(), 5), values::<f32>(g.weight_numel(), 6));
        let (bias, grad) = (values::<f32>(g.out_channels, 7), values::<f32>(g.output_numel(), 8));
        let bits = |threads: usize| {
            par::set_num_threads(threads).unwrap();
            let r = kernels(&g, &x, &weight, &bias, &grad);
            let all = [r.out, r.grad_x, r.grad_weight, r.grad_bias].concat();
            all.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        for threads in [2, 4] {
            assert!(bits(threads) == one, "{threads} threads changed a bit of {g:?}");
        }
    }
}
