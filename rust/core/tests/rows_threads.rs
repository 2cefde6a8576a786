//! Row kernels give the same bits on any number of threads.

use firesteel::kernels::batch_norm::{channel_moments, BatchNormBackward, Planes};
use firesteel::kernels::norm::{normalise, normalise_backward};
use firesteel::kernels::softmax::{log_softmax, softmax_backward};
use firesteel::par::set_num_threads;

fn results(threads: usize) -> Vec<Vec<f32>> {
    set_num_threads(threads).unwrap();
    let (rows, cols) = (1500, 70);
    let x: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919 % 1013) as f32 * 0.01).sin()).collect();
    let zeros = |len: usize| vec![0.0_f32; len];
    let (mut y, mut mean, mut rstd) = (zeros(x.len()), zeros(rows), zeros(rows));
    normalise(&x, cols, None, None, 1e-5, &mut y, Some(&mut mean), &mut rstd);
    let (mut gx, mut gw, mut gb) = (zeros(x.len()), zeros(cols), zeros(cols));
    normalise_backward(&y, &x, Some(&mean), &rstd, None, cols, Some(&mut gx), Some(&mut gw), Some(&mut gb))
        .unwrap();
    let (mut log, mut soft) = (zeros(x.len()), zeros(x.len()));
    log_softmax(&x, cols, &mut log);
    softmax_backward(&y, &x, cols, &mut soft);
    let mut all = vec![y, mean, rstd, gx, gw, gb, log, soft];
    for planes in
        [Planes { batch: rows, channels: cols, len: 1 }, Planes { batch: 15, channels: 100, len: 70 }]
    {
        let c = planes.channels;
        let (mut mean, mut variance, mut gx) = (zeros(c), zeros(c), zeros(x.len()));
        let (mut gw, mut gb) = (zeros(c), zeros(c));
        channel_moments(&x, planes, &mut mean, &mut variance);
        let (grad, rstd) = (&all[0], &variance);
        BatchNormBackward { grad, x: &x, planes, mean: &mean, rstd, weight: None, is_training: true }.run(
            Some(&mut gx),
            &mut gw,
            &mut gb,
        );
        all.extend([mean, variance, gx, gw, gb]);
    }
    all
}

#[test]
fn bits_do_not_depend_on_threads() {
    let bits = |all: Vec<Vec<f32>>| all.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>();
    let one = bits(results(1));
    for threads in [2, 5] {
        assert_eq!(one, bits(results(threads)), "{threads} threads");
    }
}
