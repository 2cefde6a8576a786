//! Convolution against its definition, over many geometries, in any number of threads.

use firesteel::kernels::conv::{
    conv, conv_grad_bias, conv_grad_input, conv_grad_weight, ConvGeometry, Float,
};
use firesteel::ops::conv::{ConvOptions, ConvPadding};
use firesteel::{par, DType, Kind, Tensor};
use proptest::prelude::*;

/// Calls `visit` with the indices in output, input and weight of every product of the definition.
fn each_product(g: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let (volume, taps) = (g.out_extents().iter().product::<usize>(), g.kernel.iter().product::<usize>());
    let position = |index: usize, [_, rows, cols]: [usize; 3]| {
        [index / (rows * cols), index / cols % rows, index % cols]
    };
    for index in 0..g.output_numel() {
        let at = position(index % volume, g.out_extents());
        let (channel, image) = (index / volume % g.out_channels, index / (volume * g.out_channels));
        for (input, tap) in (0..inputs).flat_map(|input| (0..taps).map(move |tap| (input, tap))) {
            let reach = position(tap, g.kernel);
            let padded = [0, 1, 2].map(|dim| at[dim] * g.stride[dim] + reach[dim] * g.dilation[dim]);
            if (0..3)
                .all(|dim| padded[dim] >= g.padding[dim] && padded[dim] - g.padding[dim] < g.in_extents[dim])
            {
                let plane = image * g.in_channels + channel / outputs * inputs + input;
                let from =
                    (0..3).fold(plane, |from, dim| from * g.in_extents[dim] + padded[dim] - g.padding[dim]);
                visit(index, from, (channel * inputs + input) * taps + tap);
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

fn kernels<T: Float>(g: &ConvGeometry, x: &[T], weight: &[T], bias: &[T], grad: &[T]) -> Results<T> {
    // Outputs start as NaN: every element must be written.
    let nan = |numel: usize| vec![T::from_f64(f64::NAN); numel];
    let mut results = Results {
        out: nan(grad.len()),
        grad_x: nan(x.len()),
        grad_weight: nan(weight.len()),
        grad_bias: nan(bias.len()),
    };
    conv(g, x, weight, Some(bias), &mut results.out).unwrap();
    conv_grad_input(g, grad, weight, &mut results.grad_x).unwrap();
    conv_grad_weight(g, grad, x, &mut results.grad_weight).unwrap();
    conv_grad_bias(g, grad, &mut results.grad_bias);
    results
}

fn assert_close<T: Float>(name: &str, g: &ConvGeometry, found: &[T], expected: &[f64], tolerance: f64) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found.to_f64() - expected).abs();
        assert!(
            error <= tolerance * (1.0 + expected.abs()),
            "{name}[{index}]: {found:?} instead of {expected} for {g:?}"
        );
    }
}

fn check<T: Float>(g: &ConvGeometry, tolerance: f64) {
    let x = values::<T>(g.input_numel(), 1);
    let weight = values::<T>(g.weight_numel(), 2);
    let bias = values::<T>(g.out_channels, 3);
    let grad = values::<T>(g.output_numel(), 4);
    let volume = g.out_extents().iter().product::<usize>();
    let channel = |index: usize| index / volume.max(1) % g.out_channels;
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
        slices in prop_oneof![2 => Just([1, 1, 1, 0, 1]), 1 => [1..8usize, 1..4usize, 1..4usize, 0..4usize, 1..4usize]],
        extents in [1..20usize, 1..20usize],
        kernel in [1..6usize, 1..6usize],
        stride in [1..4usize, 1..4usize],
        padding in [0..4usize, 0..4usize],
        dilation in [1..4usize, 1..4usize],
    ) -> ConvGeometry {
        let with = |at: usize, plane: [usize; 2]| [slices[at], plane[0], plane[1]];
        let [extents, kernel, stride] = [with(0, extents), with(1, kernel), with(2, stride)];
        let [padding, dilation] = [with(3, padding), with(4, dilation)];
        let in_extents = [0, 1, 2].map(|dim| {
            extents[dim].max((dilation[dim] * (kernel[dim] - 1) + 1).saturating_sub(2 * padding[dim]))
        });
        ConvGeometry {
            batch, in_channels: groups * inputs, in_extents,
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

const PLAIN: ConvGeometry = ConvGeometry {
    batch: 2,
    in_channels: 3,
    in_extents: [1, 9, 9],
    out_channels: 4,
    kernel: [1, 3, 3],
    stride: [1, 1, 1],
    padding: [0, 1, 1],
    dilation: [1, 1, 1],
    groups: 1,
    channels_last: false,
};

const VOLUME: ConvGeometry = ConvGeometry { in_extents: [4, 5, 6], kernel: [3; 3], padding: [1; 3], ..PLAIN };

#[test]
fn shapes_that_models_use() {
    let cases = [
        // Depthwise, with and without a multiplier.
        ConvGeometry { in_channels: 13, out_channels: 13, groups: 13, ..PLAIN },
        ConvGeometry { in_channels: 5, out_channels: 10, groups: 5, stride: [1, 2, 2], ..PLAIN },
        // 1x1, patches, a filter as large as the plane, one dim.
        ConvGeometry { in_channels: 64, out_channels: 17, kernel: [1; 3], padding: [0; 3], ..PLAIN },
        ConvGeometry {
            in_extents: [1, 32, 32],
            kernel: [1, 8, 8],
            stride: [1, 8, 8],
            padding: [0; 3],
            ..PLAIN
        },
        ConvGeometry { batch: 9, in_channels: 20, kernel: [1, 9, 9], padding: [0; 3], ..PLAIN },
        ConvGeometry { in_extents: [1, 1, 5000], kernel: [1, 1, 7], padding: [0, 0, 3], ..PLAIN },
        // Deeper than one pass over the weights, taller than one tile.
        ConvGeometry { in_channels: 70, out_channels: 20, in_extents: [1, 12, 9], ..PLAIN },
        ConvGeometry {
            in_extents: [1, 90, 61],
            kernel: [1, 7, 7],
            stride: [1, 2, 2],
            padding: [0, 3, 3],
            ..PLAIN
        },
        // Volumes: small ones, tiles of a few slices, tiles of rows; depthwise, patches, filters along the slices.
        ConvGeometry { batch: 5, in_extents: [3, 4, 5], out_channels: 20, ..VOLUME },
        ConvGeometry { in_extents: [13, 15, 14], ..VOLUME },
        ConvGeometry { in_extents: [13, 15, 14], stride: [2; 3], out_channels: 33, ..VOLUME },
        ConvGeometry { in_extents: [3, 41, 44], out_channels: 8, batch: 1, ..VOLUME },
        ConvGeometry { in_extents: [6, 9, 20], in_channels: 6, out_channels: 6, groups: 6, ..VOLUME },
        ConvGeometry { in_extents: [8, 8, 8], kernel: [4; 3], stride: [4; 3], padding: [0; 3], ..VOLUME },
        ConvGeometry { in_extents: [9, 6, 7], kernel: [5, 1, 1], padding: [2, 0, 0], ..VOLUME },
        ConvGeometry { in_extents: [2, 2, 2], kernel: [5; 3], padding: [2; 3], ..VOLUME },
    ];
    for g in cases {
        check::<f32>(&g, 5e-4);
        check::<f64>(&g, 1e-12);
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let cases = [
        ConvGeometry { batch: 16, in_extents: [1, 28, 28], in_channels: 1, out_channels: 32, ..PLAIN },
        ConvGeometry { batch: 7, in_extents: [1, 13, 13], in_channels: 32, out_channels: 40, ..PLAIN },
        ConvGeometry { batch: 1, in_channels: 96, out_channels: 96, ..PLAIN },
        ConvGeometry {
            batch: 4,
            in_channels: 64,
            out_channels: 64,
            groups: 64,
            in_extents: [1, 70, 70],
            ..PLAIN
        },
        ConvGeometry { batch: 1, in_extents: [9, 16, 16], in_channels: 8, out_channels: 40, ..VOLUME },
        ConvGeometry { in_extents: [9, 16, 16], in_channels: 32, out_channels: 32, groups: 32, ..VOLUME },
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

#[test]
fn integers_are_refused_by_the_name_that_was_called() {
    let ones = |rank: usize| Tensor::ones(&[1, 1, 2, 2, 2][..rank], DType::I64).unwrap();
    let (x1, x2, x3) = (ones(3), ones(4), ones(5));
    let (options, room) = (ConvOptions::default(), [0; 3]);
    let none = ConvPadding::Zeros([0; 3]);
    let refused = [
        ("conv1d", x1.conv1d(&x1, None, none, options)),
        ("conv2d", x2.conv2d(&x2, None, none, options)),
        ("conv3d", x3.conv3d(&x3, None, none, options)),
        ("conv_transpose1d", x1.conv_transpose1d(&x1, None, room, options)),
        ("conv_transpose2d", x2.conv_transpose2d(&x2, None, room, options)),
        ("conv_transpose3d", x3.conv_transpose3d(&x3, None, room, options)),
    ];
    for (name, result) in refused {
        let error = result.unwrap_err();
        let text = format!("{name}: not defined for int64; convert with .float() first");
        assert_eq!((error.kind(), error.message()), (Kind::DType, text.as_str()));
    }
}
