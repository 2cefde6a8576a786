//! Recurrent layers: one direction of a layer over a whole sequence.
//!
//! The rows of a batch do not meet before the weights' gradients are summed, so each thread takes some rows
//! through all steps and never waits for another in between.

mod backward;
mod forward;

pub(crate) use backward::Backward;
pub(crate) use forward::{Forward, Input, Kept};

use std::ops::{AddAssign, Range};

use super::gemm::{gemm, Float as Multiplied, Mat, MatMut, PackedRight};
use super::rows;
use crate::par;
use crate::Result;

/// A type that recurrent layers compute in.
pub(crate) trait Float: rows::Float + Multiplied {}
impl<T: rows::Float + Multiplied> Float for T {}

/// What happens at a step, with its gates in the order of PyTorch's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Gates i, f, g, o: `c = f c + i g`, `h = o tanh(c)`.
    Lstm,
    /// Gates r, z, n: `n = tanh(n_x + r n_h)`, `h = (1 - z) n + z h`.
    Gru,
    /// `h = tanh(..)`
    Tanh,
    /// `h = max(.., 0)`
    Relu,
}

impl Cell {
    /// Number of gates.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }
}

/// One step of a sequence: its first row among those of all steps, and how many rows of the batch it has. Where
/// sequences differ in length the longer ones are the first rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Row of the first.
    pub start: usize,
    /// Number of rows.
    pub rows: usize,
}

impl Step {
    /// How many of these rows of the batch it has.
    fn rows_of(&self, rows: &Range<usize>) -> usize {
        self.rows.min(rows.end).saturating_sub(rows.start)
    }
}

/// Elements computed at a time: one AVX-512 register of f32.
const LANES: usize = 16;
/// Work that is worth a thread: about 20 microseconds of multiplications.
const GRAIN: usize = 1 << 20;
/// With fewer steps than this it does not pay to pack the weight.
const PACK_FROM: usize = 3;

/// The elements from `at` on, the lanes after the `len`-th 0.
#[inline(always)]
fn load<T: Copy + Default>(x: &[T], at: usize, len: usize) -> [T; LANES] {
    match x[at..at + len].first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut out = [T::default(); LANES];
            out[..len].copy_from_slice(&x[at..at + len]);
            out
        }
    }
}

/// Adds lane to lane.
// Written as a loop: `map` of arrays is not compiled for the instruction set, and took a sixth of the time.
#[inline(always)]
fn add<T: AddAssign + Copy>(sum: &mut [T; LANES], x: [T; LANES]) {
    for l in 0..LANES {
        sum[l] += x[l];
    }
}

/// Writes the first `len` lanes.
#[inline(always)]
fn store<T: Copy>(out: &mut [T], at: usize, len: usize, values: [T; LANES]) {
    match out[at..at + len].first_chunk_mut() {
        Some(whole) => *whole = values,
        None => out[at..at + len].copy_from_slice(&values[..len]),
    }
}

/// The rows of a batch in parts of equal work, one for each thread; all of them need `work` multiplications.
fn tasks(steps: &[Step], batch: usize, work: usize) -> Vec<Range<usize>> {
    // Without packing the product itself takes all threads, and its bits depend on the number of rows.
    let limit = if steps.len() < PACK_FROM { 1 } else { par::num_threads() };
    let count = limit.min(batch).min(work / GRAIN).max(1);
    let total: usize = steps.iter().map(|step| step.rows).sum();
    let mut lengths: Vec<usize> = steps.iter().map(|step| step.rows).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let (mut tasks, mut start, mut done) = (Vec::with_capacity(count), 0, 0);
    for row in 0..batch {
        // Steps that have this row.
        while lengths.last().is_some_and(|rows| *rows <= row) {
            lengths.pop();
        }
        done += lengths.len();
        if done * count >= total * (tasks.len() + 1) {
            tasks.push(start..row + 1);
            start = row + 1;
        }
    }
    tasks
}

/// The weight that the hidden state is multiplied by at every step.
enum Weight<T> {
    Packed(PackedRight<T>),
    Plain(Mat<T>),
}

impl<T: Float> Weight<T> {
    /// `b` (k x n) for so many steps.
    ///
    /// # Safety
    /// Its elements may be read while this lives.
    unsafe fn new(b: Mat<T>, [k, n]: [usize; 2], steps: usize) -> Result<Self> {
        if steps < PACK_FROM {
            return Ok(Self::Plain(b));
        }
        // SAFETY: the caller's promise.
        Ok(Self::Packed(unsafe { PackedRight::new(b, k, n)? }))
    }

    /// `out = x @ b`, or `out += x @ b`.
    fn multiply(&self, x: &[T], out: &mut [T], [k, n]: [usize; 2], accumulate: bool) {
        let m = x.len() / k;
        assert!(x.len() == m * k && out.len() == m * n);
        let a = Mat { ptr: x.as_ptr(), row: k as isize, col: 1 };
        let c = MatMut { ptr: out.as_mut_ptr(), row: n as isize, col: 1 };
        // SAFETY: the slices hold m x k and m x n elements, and are borrowed.
        unsafe {
            match self {
                Self::Packed(b) => b.multiply(m, a, c, accumulate),
                Self::Plain(b) => gemm(m, n, k, a, *b, c, accumulate.then(|| c.read())),
            }
        }
    }
}
