//! Pooling against its definition, over many geometries, in any number of threads.

use std::num::NonZeroIsize;

use firesteel::kernels::pool::{
    avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward, pool_extent, AvgDivisor, PoolGeometry,
};
use firesteel::par;
use proptest::prelude::*;

/// Input positions of the window of output (row, col), and the window's size in the padded input.
fn window(g: &PoolGeometry, row: usize, col: usize) -> (Vec<usize>, usize) {
    let (mut inside, mut padded) = (Vec::new(), 0);
    for i in 0..g.kernel[0] {
        for j in 0..g.kernel[1] {
            let y = (row * g.stride[0] + i * g.dilation[0]) as isize - g.padding[0] as isize;
            let x = (col * g.stride[1] + j * g.dilation[1]) as isize - g.padding[1] as isize;
            let (height, width) = (g.in_height as isize, g.in_width as isize);
            padded += usize::from(y < height + g.padding[0] as isize && x < width + g.padding[1] as isize);
            if (0..height).contains(&y) && (0..width).contains(&x) {
                inside.push((y * width + x) as usize);
            }
        }
    }
    (inside, padded)
}

fn each_window(g: &PoolGeometry, mut visit: impl FnMut(usize, usize, Vec<usize>, usize)) {
    for plane in 0..g.planes {
        for row in 0..g.out_height {
            for col in 0..g.out_width {
                let (inside, padded) = window(g, row, col);
                visit((plane * g.out_height + row) * g.out_width + col, plane, inside, padded);
            }
        }
    }
}

/// Few different values, so that equal ones meet in a window.
fn values(numel: usize) -> Vec<f32> {
    (0..numel).map(|index| ((index * 7919 + index / 13 * 31) % 23) as f32 - 11.0).collect()
}

fn check_max(g: &PoolGeometry, x: &[f32]) {
    let numel = g.planes * g.out_height * g.out_width;
    let (mut out, mut indices) = (vec![0.0; numel], vec![-1; numel]);
    max_pool2d(g, x, &mut out, Some(&mut indices));
    let mut alone = vec![0.0; out.len()];
    max_pool2d(g, x, &mut alone, None);
    assert_eq!(format!("{alone:?}"), format!("{out:?}"));
    let plane_numel = g.in_height * g.in_width;
    let grad = values(numel);
    let mut expected_grad = vec![0.0; x.len()];
    each_window(g, |index, plane, inside, _| {
        let x = &x[plane * plane_numel..(plane + 1) * plane_numel];
        let mut at = inside[0];
        for place in inside {
            if x[place] > x[at] || x[place].is_nan() {
                at = place;
            }
        }
        assert_eq!(indices[index], at as i64, "index {index} of {g:?}");
        assert_eq!(out[index].to_bits(), x[at].to_bits(), "value {index} of {g:?}");
        expected_grad[plane * plane_numel + at] += grad[index];
    });
    let mut grad_x = vec![f32::NAN; x.len()];
    max_pool2d_backward(g, &grad, &indices, &mut grad_x);
    assert_eq!(grad_x, expected_grad, "gradient of {g:?}");
}

fn check_avg(g: &PoolGeometry, divisor: AvgDivisor) {
    let x: Vec<f64> = values(g.planes * g.in_height * g.in_width).into_iter().map(f64::from).collect();
    let numel = g.planes * g.out_height * g.out_width;
    let grad: Vec<f64> = values(numel).into_iter().map(f64::from).collect();
    let (mut out, mut grad_x) = (vec![f64::NAN; numel], vec![f64::NAN; x.len()]);
    avg_pool2d(g, divisor, &x, &mut out);
    avg_pool2d_backward(g, divisor, &grad, &mut grad_x);
    let plane_numel = g.in_height * g.in_width;
    let mut expected_grad = vec![0.0; x.len()];
    each_window(g, |index, plane, inside, padded| {
        let count = match divisor {
            AvgDivisor::Padded => padded as isize,
            AvgDivisor::Inside => inside.len() as isize,
            AvgDivisor::Fixed(count) => count.get(),
        };
        let sum: f64 = inside.iter().map(|place| x[plane * plane_numel + place]).sum();
        let mean = if inside.is_empty() { 0.0 } else { sum / count as f64 };
        assert!((out[index] - mean).abs() < 1e-12, "{} for {mean} at {index} of {g:?}", out[index]);
        inside
            .iter()
            .for_each(|place| expected_grad[plane * plane_numel + place] += grad[index] / count as f64);
    });
    for (found, expected) in grad_x.iter().zip(&expected_grad) {
        assert!((found - expected).abs() < 1e-11, "gradient {found} for {expected} of {g:?}");
    }
}

prop_compose! {
    fn geometry(max_dilation: usize)(
        planes in 0..4usize,
        extents in [1..18usize, 1..18usize],
        kernel in [1..5usize, 1..5usize],
        stride in [1..5usize, 1..5usize],
        halves in [0.0..1.0f64, 0.0..1.0f64],
        dilation in [1..=max_dilation, 1..=max_dilation],
        ceil_mode in any::<bool>(),
    ) -> PoolGeometry {
        let padding = [0, 1].map(|dim| ((kernel[dim] / 2 + 1) as f64 * halves[dim]) as usize);
        let reach = |dim: usize| dilation[dim] * (kernel[dim] - 1) + 1;
        let fit = [0, 1].map(|dim| extents[dim].max(reach(dim)));
        let count = |dim: usize| pool_extent(fit[dim], kernel[dim], stride[dim], padding[dim], dilation[dim], ceil_mode);
        PoolGeometry {
            planes, in_height: fit[0], in_width: fit[1], out_height: count(0), out_width: count(1),
            kernel, stride, padding, dilation,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn max_matches_the_definition(g in geometry(3), nan in 0..50usize) {
        let mut x = values(g.planes * g.in_height * g.in_width);
        // From 25 on, no NaN.
        if nan < 25 {
            x.iter_mut().skip(nan).step_by(37).for_each(|x| *x = f32::NAN);
        }
        check_max(&g, &x);
    }

    #[test]
    fn avg_matches_the_definition(g in geometry(1), fixed in 1..9isize) {
        for divisor in [AvgDivisor::Padded, AvgDivisor::Inside, AvgDivisor::Fixed(NonZeroIsize::new(fixed).unwrap())] {
            check_avg(&g, divisor);
        }
    }
}

#[test]
fn two_by_two_windows() {
    for width in [2, 3, 16, 27] {
        let g = PoolGeometry {
            planes: 3,
            in_height: 9,
            in_width: width,
            out_height: 4,
            out_width: width / 2,
            kernel: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
        };
        let mut x = values(3 * 9 * width);
        check_max(&g, &x);
        x.iter_mut().step_by(11).for_each(|x| *x = f32::NAN);
        x.iter_mut().skip(3).step_by(7).for_each(|x| *x = f32::NEG_INFINITY);
        let numel = 3 * 4 * (width / 2);
        let (mut out, mut indices) = (vec![0.0; numel], vec![0; numel]);
        par::set_num_threads(1).unwrap();
        max_pool2d(&g, &x, &mut out, Some(&mut indices));
        let one = (out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), indices.clone());
        par::set_num_threads(4).unwrap();
        max_pool2d(&g, &x, &mut out, Some(&mut indices));
        assert_eq!(one, (out.iter().map(|x| x.to_bits()).collect(), indices));
    }
}

/// Values of `torch.nn.functional.max_pool1d`'s output lengths.
#[test]
fn extents_follow_pytorch() {
    assert_eq!(pool_extent(5, 2, 2, 0, 1, false), 2);
    assert_eq!(pool_extent(5, 2, 2, 0, 1, true), 3);
    assert_eq!(pool_extent(6, 3, 2, 1, 1, true), 4);
    // The last window would start in the padding after the input.
    assert_eq!(pool_extent(3, 2, 2, 1, 1, true), 2);
    assert_eq!(pool_extent(4, 1, 3, 0, 1, true), 2);
    assert_eq!(pool_extent(1, 2, 1, 0, 1, false), 0);
}
