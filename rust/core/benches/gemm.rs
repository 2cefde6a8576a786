//! GFLOP/s of matrix products, best of several runs.
//!
//! `FIRESTEEL_NUM_THREADS=1 cargo bench --bench gemm [-- name...]`

use std::hint::black_box;
use std::time::Instant;

use firesteel::kernels::gemm::{gemm, Mat, MatMut};
use firesteel::par;

/// name, m, n, k, whether a and b are stored transposed
type Shape = (&'static str, usize, usize, usize, bool, bool);

const SHAPES: &[Shape] = &[
    ("32", 32, 32, 32, false, false),
    ("64", 64, 64, 64, false, false),
    ("64t", 64, 64, 64, false, true),
    ("128", 128, 128, 128, false, false),
    ("256", 256, 256, 256, false, false),
    ("256t", 256, 256, 256, false, true),
    ("512", 512, 512, 512, false, false),
    ("512t", 512, 512, 512, false, true),
    ("1024", 1024, 1024, 1024, false, false),
    ("1024t", 1024, 1024, 1024, false, true),
    ("mlp1", 64, 256, 784, false, true),
    ("mlp1-dw", 256, 784, 64, true, false),
    ("mlp1-dx", 64, 784, 256, false, false),
    ("mlp2", 64, 128, 256, false, true),
    ("mlp2-dw", 128, 256, 64, true, false),
    ("mlp2-dx", 64, 256, 128, false, false),
    ("mlp3", 64, 10, 128, false, true),
    ("mlp3-dw", 10, 128, 64, true, false),
    ("mlp3-dx", 64, 128, 10, false, false),
    ("wide", 64, 4096, 1024, false, false),
    ("m1", 1, 1024, 1024, false, false),
    ("m1t", 1, 1024, 1024, false, true),
    ("n1", 1024, 1, 1024, false, false),
    ("m8", 8, 1024, 1024, false, false),
    ("m8t", 8, 1024, 1024, false, true),
    ("m16", 16, 1024, 1024, false, false),
    ("m16t", 16, 1024, 1024, false, true),
];

fn stored(rows: usize, cols: usize, transposed: bool) -> (Vec<f32>, isize, isize) {
    let values = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    match transposed {
        false => (values, cols as isize, 1),
        true => (values, 1, rows as isize),
    }
}

/// Seconds of the fastest call, over about a fifth of a second.
fn best((_, m, n, k, at, bt): Shape) -> f64 {
    let (a, a_row, a_col) = stored(m, k, at);
    let (b, b_row, b_col) = stored(k, n, bt);
    let mut c = vec![0.0f32; m * n];
    let a = Mat { ptr: a.as_ptr(), row: a_row, col: a_col };
    let b = Mat { ptr: b.as_ptr(), row: b_row, col: b_col };
    let out = MatMut { ptr: c.as_mut_ptr(), row: n as isize, col: 1 };
    let calls = (2_000_000 / (m * n * k)).max(1);
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed().as_secs_f64() < 0.2 {
        let start = Instant::now();
        for _ in 0..calls {
            // SAFETY: the matrices have the sizes given and outlive the call.
            unsafe { gemm(m, n, k, black_box(a), b, out, None) };
        }
        best = best.min(start.elapsed().as_secs_f64() / calls as f64);
    }
    black_box(&mut c);
    best
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("{} thread(s)", par::num_threads());
    for shape in SHAPES {
        let (name, m, n, k, ..) = *shape;
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            let seconds = best(*shape);
            let rate = 2.0 * (m * n * k) as f64 / seconds / 1e9;
            println!("{name:>8} {m:>5} x {n:>5} x {k:>5} {:>9.2} us {rate:>7.1} GFLOP/s", seconds * 1e6);
        }
    }
}
