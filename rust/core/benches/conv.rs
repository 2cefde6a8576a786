//! Times of convolution and max pooling on the layers of small image classifiers, float32.
//!
//! `cargo bench --bench conv`; `FIRESTEEL_NUM_THREADS` sets the threads (1 unless set).

use std::hint::black_box;
use std::time::Instant;

use firesteel::kernels::conv::{conv, conv_grad_input, conv_grad_weight, ConvGeometry};
use firesteel::kernels::pool::{max_pool2d, PoolGeometry};
use firesteel::par;

/// Best of several runs, in microseconds.
fn time(mut body: impl FnMut()) -> f64 {
    body();
    let once = || {
        let start = Instant::now();
        body();
        start.elapsed().as_secs_f64() * 1e6
    };
    std::iter::repeat_with(once).take(15).fold(f64::INFINITY, f64::min)
}

fn main() {
    if std::env::var_os("FIRESTEEL_NUM_THREADS").is_none() {
        par::set_num_threads(1).expect("one thread is always allowed");
    }
    println!(
        "{:34} {:>9} {:>9} {:>9} us, {} thread(s)",
        "",
        "forward",
        "grad_x",
        "grad_w",
        par::num_threads()
    );
    //  batch, in channels, extent, out channels, kernel, stride, padding, groups
    for [batch, inputs, extent, outputs, kernel, stride, padding, groups] in [
        [64, 1, 28, 32, 3, 1, 0, 1],
        [64, 32, 13, 64, 3, 1, 0, 1],
        [64, 1, 28, 6, 5, 1, 2, 1],
        [64, 6, 14, 16, 5, 1, 0, 1],
        [64, 32, 12, 64, 5, 1, 0, 1],
        [8, 64, 28, 64, 3, 1, 1, 1],
        [8, 64, 28, 128, 3, 2, 1, 1],
        [8, 128, 14, 256, 1, 1, 0, 1],
        [8, 64, 56, 64, 3, 1, 1, 64],
        [32, 3, 32, 16, 3, 1, 1, 1],
        [32, 16, 32, 16, 3, 1, 1, 1],
        [32, 16, 32, 32, 3, 2, 1, 1],
        [32, 32, 16, 32, 3, 1, 1, 1],
        [32, 64, 8, 64, 3, 1, 1, 1],
        [4, 3, 224, 64, 7, 2, 3, 1],
        [8, 64, 56, 64, 3, 1, 1, 1],
        [8, 256, 28, 64, 1, 1, 0, 1],
        [8, 64, 56, 128, 1, 2, 0, 1],
        [32, 64, 16, 64, 3, 1, 1, 4],
    ] {
        let g = ConvGeometry {
            batch,
            in_channels: inputs,
            in_extents: [1, extent, extent],
            out_channels: outputs,
            kernel: [1, kernel, kernel],
            stride: [1, stride, stride],
            padding: [0, padding, padding],
            dilation: [1; 3],
            groups,
            channels_last: false,
        };
        layer(&g);
    }
    for [batch, inputs, extent, outputs, stride, groups] in [
        [4, 8, 16, 16, 1, 1],
        [2, 1, 32, 32, 1, 1],
        [4, 32, 8, 64, 1, 1],
        [4, 16, 16, 32, 2, 1],
        [2, 32, 16, 32, 1, 32],
    ] {
        layer(&ConvGeometry {
            batch,
            in_channels: inputs,
            in_extents: [extent; 3],
            out_channels: outputs,
            kernel: [3; 3],
            stride: [stride; 3],
            padding: [1; 3],
            dilation: [1; 3],
            groups,
            channels_last: false,
        });
    }
    for [planes, extent] in [[64 * 32, 26], [64 * 64, 32]] {
        pool(planes, extent);
    }
}

fn layer(g: &ConvGeometry) {
    let values = |numel: usize| (0..numel).map(|i| (i % 17) as f32 - 8.0).collect::<Vec<f32>>();
    let (x, weight, grad) = (values(g.input_numel()), values(g.weight_numel()), values(g.output_numel()));
    let (mut out, mut grad_x, mut grad_weight) = (grad.clone(), x.clone(), weight.clone());
    let forward = time(|| conv(g, black_box(&x), &weight, None, &mut out).unwrap());
    let to_x = time(|| conv_grad_input(g, black_box(&grad), &weight, &mut grad_x).unwrap());
    let to_weight = time(|| conv_grad_weight(g, black_box(&grad), &x, &mut grad_weight).unwrap());
    let flops = 2.0 * (g.output_numel() * g.weight_numel() / g.out_channels) as f64;
    println!(
        "N{} C{} {:?} -> {} k{} s{} p{} g{:<8} {forward:9.0} {to_x:9.0} {to_weight:9.0}   forward {:.0} GF/s",
        g.batch,
        g.in_channels,
        g.in_extents,
        g.out_channels,
        g.kernel[2],
        g.stride[2],
        g.padding[2],
        g.groups,
        flops / forward / 1e3
    );
}

fn pool(planes: usize, extent: usize) {
    let half = extent / 2;
    let g = PoolGeometry {
        planes,
        in_height: extent,
        in_width: extent,
        out_height: half,
        out_width: half,
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        dilation: [1, 1],
    };
    let x: Vec<f32> = (0..planes * extent * extent).map(|i| (i * 7919 % 1013) as f32).collect();
    let (mut out, mut indices) = (vec![0.0; planes * half * half], vec![0; planes * half * half]);
    let forward = time(|| max_pool2d(&g, black_box(&x), &mut out, Some(&mut indices)));
    println!("max_pool2d 2x2 {planes} x {extent}x{extent}: {forward:.0} us");
}
