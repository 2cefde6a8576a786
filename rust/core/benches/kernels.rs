//! Time per call of single operations over sizes, and what recording and the backward pass add to one.
//!
//! `FIRESTEEL_NUM_THREADS=1 cargo bench --bench kernels [-- name...]`

use std::hint::black_box;
use std::time::Instant;

use firesteel::autograd::{backward, GradMode, Options};
use firesteel::random::Generator;
use firesteel::{par, DType, Result, Tensor};

/// Elements of the inputs: one, a cache line or two, L1, L2, memory.
const SIZES: &[usize] = &[1, 64, 1 << 10, 1 << 15, 1 << 20, 1 << 23];
/// Extent of the last dim, where an operation works on rows.
const COLS: usize = 64;
/// Seconds per measurement.
const BUDGET: f64 = 0.1;
/// Operations in the chain whose backward pass is timed.
const CHAIN: u32 = 10;

/// A name, the tensors of input size that are read and written, and the operation.
struct Case {
    name: &'static str,
    streams: usize,
    run: fn(&Tensor, &Tensor) -> Result<Tensor>,
}

const CASES: &[Case] = &[
    Case { name: "add", streams: 3, run: |x, y| x.add(y) },
    Case { name: "mul", streams: 3, run: |x, y| x.mul(y) },
    Case { name: "relu", streams: 2, run: |x, _| x.relu() },
    Case { name: "exp", streams: 2, run: |x, _| x.exp() },
    Case { name: "tanh", streams: 2, run: |x, _| x.tanh() },
    Case { name: "sum", streams: 1, run: |x, _| x.sum(&[], false) },
    Case { name: "sum(-1)", streams: 1, run: |x, _| x.sum(&[-1], false) },
    Case { name: "sum(0)", streams: 1, run: |x, _| x.sum(&[0], false) },
    Case { name: "softmax(-1)", streams: 2, run: |x, _| x.softmax(-1) },
    Case { name: "log_softmax(-1)", streams: 2, run: |x, _| x.log_softmax(-1) },
];

/// Seconds of the fastest of several rounds of calls.
fn best(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    call()?;
    let calls = (BUDGET / 20.0 / start.elapsed().as_secs_f64()).clamp(1.0, 10_000.0) as u32;
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed().as_secs_f64() < BUDGET {
        let start = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    Ok(best)
}

/// Microseconds of every case at every size, and at the largest the bytes per second it moves.
fn kernels(wanted: &[String]) -> Result<()> {
    let _no_grad = GradMode::disabled();
    let mut generator = Generator::new(0);
    print!("{:<16}", "us per call");
    SIZES.iter().for_each(|size| print!("{size:>11}"));
    println!("{:>11}", "GB/s");
    for case in CASES.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|want| want == case.name)) {
        print!("{:<16}", case.name);
        let mut rate = 0.0;
        for &size in SIZES {
            let shape = [size.div_ceil(COLS), size.min(COLS)];
            let x = Tensor::randn(&shape, DType::F32, &mut generator)?;
            let y = Tensor::randn(&shape, DType::F32, &mut generator)?;
            let seconds = best(|| (case.run)(black_box(&x), &y).map(|out| drop(black_box(out))))?;
            print!("{:>11.3}", seconds * 1e6);
            rate = (case.streams * size * DType::F32.size()) as f64 / seconds / 1e9;
        }
        println!("{rate:>11.1}");
    }
    Ok(())
}

/// Nanoseconds per operation on one element: computed, recorded, and with the backward pass.
fn overhead() -> Result<()> {
    let x = Tensor::full(&[1], 0.5, DType::F32)?;
    let chain = |x: &Tensor| (0..CHAIN).try_fold(x.clone(), |y, _| y.mul(x));
    let report = |what: &str, seconds: f64| println!("{what:<44}{:>9.0}", seconds / f64::from(CHAIN) * 1e9);
    println!("\n{:<44}{:>9}", "mul of one element", "ns per op");
    report("computed", best(|| chain(black_box(&x)).map(drop))?);
    x.set_requires_grad(true)?;
    report("recorded and freed", best(|| chain(black_box(&x)).map(drop))?);
    let both = best(|| {
        backward(&[chain(black_box(&x))?], &[None], None, Options::default())?;
        x.set_grad(None)
    })?;
    report("recorded, walked backward and freed", both);
    Ok(())
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("{} thread(s)", par::num_threads());
    kernels(&wanted)?;
    if wanted.is_empty() {
        overhead()?;
    }
    Ok(())
}
