//! Forward through time.

use std::ops::Range;

use super::{add, load, store, tasks, Cell, Float, Step, Weight, LANES};
use crate::array::Array;
use crate::kernels::gemm::Mat;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use crate::Result;

/// Rows of the input that are multiplied at a time: their share of the gates stays in L2. LSTM of 64 steps, 32 wide,
/// batch 64: 0.50 ms; 0.58 with all shares computed first.
const CHUNK_ROWS: usize = 128;

/// One direction of a layer. Matrices are row-major; `N` counts the rows of all steps, `H` is the width.
pub(crate) struct Forward<'a, T> {
    pub cell: Cell,
    /// In the order in which the layer goes through them.
    pub steps: &'a [Step],
    pub width: usize,
    pub input: Input<'a, T>,
    /// (gates * H, H)
    pub weight: &'a [T],
    /// (gates * H) each: what is added to the input's share and to the product with the hidden state. Cells but GRU
    /// add both to the same, and read only the first: their sum.
    pub biases: Option<[&'a [T]; 2]>,
    /// (B, H): the state before the first step, then after the last.
    pub hidden: &'a mut [T],
    /// (B, H): the cell state of LSTM; else empty.
    pub cells: &'a mut [T],
    /// (N, H)
    pub out: &'a mut [T],
    pub kept: Option<Kept<'a, T>>,
}

/// The input's share of the gates, without biases.
pub(crate) enum Input<'a, T> {
    /// As it is, (N, gates * H); it is written over.
    Share(&'a mut [T]),
    /// To be computed from (N, width) and the weight (gates * H, width).
    Sequence { x: &'a [T], width: usize, weight: &'a [T] },
}

/// What the gradients need.
pub(crate) struct Kept<'a, T> {
    /// (N, gates * H)
    pub gates: &'a mut [T],
    /// (N, H): the hidden state before each step.
    pub hidden: &'a mut [T],
    /// (N, H): the cell state before each step (LSTM), or the hidden state's share of the new gate (GRU); else
    /// empty.
    pub extra: &'a mut [T],
}

impl<T: Float> Forward<'_, T> {
    pub fn run(self) -> Result<()> {
        let (w, all) = (self.width, self.cell.gates() * self.width);
        let batch = self.hidden.len() / w;
        let count: usize = self.steps.iter().map(|step| step.rows).sum();
        assert!(
            self.weight.len() == all * w && self.hidden.len() == batch * w && self.out.len() == count * w
        );
        assert!(self.biases.iter().flatten().all(|bias| bias.len() == all));
        assert!(self.steps.iter().all(|step| step.rows <= batch && step.start + step.rows <= count));
        assert!(self.cell != Cell::Lstm || self.cells.len() == batch * w);
        let extra = if has_extra(self.cell) { count * w } else { 0 };
        assert!(self.kept.iter().all(|kept| {
            kept.gates.len() == count * all && kept.hidden.len() == count * w && kept.extra.len() == extra
        }));
        let work = count * all * w;
        let tasks = tasks(self.steps, batch, work);
        let input = match self.input {
            Input::Share(share) => {
                assert!(share.len() == count * all);
                Source::Share(SharedSlice::new(share))
            }
            Input::Sequence { x, width, weight } => {
                assert!(x.len() == count * width && weight.len() == all * width);
                let b = Mat { ptr: weight.as_ptr(), row: 1, col: width as isize };
                // SAFETY: the transposed weight is width x all; it is borrowed.
                let weight = unsafe { Weight::new(b, [width, all], self.steps.len())? };
                Source::Sequence { x, width, weight }
            }
        };
        let (x_width, share_width) = match &input {
            Source::Share(_) => (0, 0),
            Source::Sequence { width, .. } => (*width, all),
        };
        let widths = [x_width, share_width, if self.cell == Cell::Gru { all } else { 0 }];
        // For every task a chunk of rows and a step.
        let room = |width: usize| Array::empty(&[(tasks.len() * CHUNK_ROWS + batch) * width], T::DTYPE);
        let (mut x, mut share, mut product) = (room(widths[0])?, room(widths[1])?, room(widths[2])?);
        let b = Mat { ptr: self.weight.as_ptr(), row: 1, col: w as isize };
        let pass = Pass {
            cell: self.cell,
            steps: self.steps,
            w,
            input,
            // SAFETY: the transposed weight is H x all; it is borrowed.
            weight: unsafe { Weight::new(b, [w, all], self.steps.len())? },
            biases: self.biases,
            hidden: SharedSlice::new(self.hidden),
            cells: SharedSlice::new(self.cells),
            out: SharedSlice::new(self.out),
            kept: self.kept.map(|kept| [kept.gates, kept.hidden, kept.extra].map(SharedSlice::new)),
        };
        let scratch = [&mut x, &mut share, &mut product].map(|array| SharedSlice::new(array.slice_mut()));
        par::for_each(tasks.len(), |task| {
            let rows = tasks[task].clone();
            let [x, share, product] = scratch;
            // SAFETY: the tasks' rooms follow each other, as `room` has counted.
            let scratch = unsafe {
                Scratch {
                    x: room_of(x, task, &rows, widths[0]),
                    share: room_of(share, task, &rows, widths[1]),
                    product: room_of(product, task, &rows, widths[2]),
                }
            };
            // SAFETY: every task has rows of its own, of each step and of the state.
            unsafe { pass.walk(rows, scratch) };
        });
        Ok(())
    }
}

/// A task's part of the room for all.
///
/// # Safety
/// No other task has these rows.
unsafe fn room_of<'a, T>(
    x: SharedSlice<'a, T>,
    task: usize,
    rows: &Range<usize>,
    width: usize,
) -> &'a mut [T] {
    // SAFETY: the caller's promise; `run` has made the room.
    unsafe { x.part((task * CHUNK_ROWS + rows.start) * width, (CHUNK_ROWS + rows.len()) * width) }
}

fn has_extra(cell: Cell) -> bool {
    matches!(cell, Cell::Lstm | Cell::Gru)
}

/// As [`Input`], ready for all tasks.
enum Source<'a, T> {
    Share(SharedSlice<'a, T>),
    Sequence { x: &'a [T], width: usize, weight: Weight<T> },
}

/// What all tasks read, and the slices that they cut their rows from.
struct Pass<'a, T> {
    cell: Cell,
    steps: &'a [Step],
    w: usize,
    input: Source<'a, T>,
    weight: Weight<T>,
    biases: Option<[&'a [T]; 2]>,
    hidden: SharedSlice<'a, T>,
    cells: SharedSlice<'a, T>,
    out: SharedSlice<'a, T>,
    kept: Option<[SharedSlice<'a, T>; 3]>,
}

/// Room for a task's intermediate results: in arrays, whose rows begin at cache lines. In `Vec`s, which do not, the same
/// LSTM took 0.79 ms.
struct Scratch<'a, T> {
    x: &'a mut [T],
    share: &'a mut [T],
    product: &'a mut [T],
}

impl<T: Float> Pass<'_, T> {
    /// Takes some rows of the batch through all steps.
    ///
    /// # Safety
    /// The rows lie in the batch, and no other task has them.
    unsafe fn walk(&self, rows: Range<usize>, mut scratch: Scratch<'_, T>) {
        let mut rest = self.steps;
        while !rest.is_empty() {
            // As many steps as make the rows of a chunk, and one at least.
            let mut count = 0;
            let fits = rest.iter().position(|step| {
                count += step.rows_of(&rows);
                count > CHUNK_ROWS && count > step.rows_of(&rows)
            });
            let (steps, later) = rest.split_at(fits.unwrap_or(rest.len()));
            self.share(steps, &rows, &mut scratch);
            let mut at = 0;
            for step in steps.iter().filter(|step| step.rows_of(&rows) > 0) {
                let len = step.rows_of(&rows) * self.cell.gates() * self.w;
                let share = match &self.input {
                    Source::Sequence { .. } => &mut scratch.share[at..at + len],
                    // SAFETY: the rows of this step and task, whose place `run` has checked.
                    Source::Share(share) => unsafe {
                        share.part((step.start + rows.start) * self.cell.gates() * self.w, len)
                    },
                };
                // SAFETY: the caller's promise.
                unsafe { self.step(step, &rows, share, scratch.product) };
                at += len;
            }
            rest = later;
        }
    }

    /// Computes the input's share of the gates for some steps, one after the other.
    fn share(&self, steps: &[Step], rows: &Range<usize>, scratch: &mut Scratch<'_, T>) {
        let Source::Sequence { x, width, weight } = &self.input else { return };
        let all = self.cell.gates() * self.w;
        let parts = steps.iter().filter(|step| step.rows_of(rows) > 0).map(|step| {
            let first = step.start + rows.start;
            first..first + step.rows_of(rows)
        });
        let count = parts.clone().map(|part| part.len()).sum::<usize>();
        let Some(first) = parts.clone().next() else { return };
        // On one thread the rows of neighbouring steps often are neighbours, too.
        let is_run = parts.clone().zip(parts.clone().skip(1)).all(|(part, next)| part.end == next.start);
        let source = if is_run {
            &x[first.start * width..(first.start + count) * width]
        } else {
            let mut at = 0;
            for part in parts {
                let source = &x[part.start * width..part.end * width];
                scratch.x[at..at + source.len()].copy_from_slice(source);
                at += source.len();
            }
            &scratch.x[..at]
        };
        let share = &mut scratch.share[..count * all];
        weight.multiply(source, share, [*width, all], false);
    }

    /// One step, whose input's share of the gates is `share`.
    ///
    /// # Safety
    /// As for `walk`.
    unsafe fn step(&self, step: &Step, rows: &Range<usize>, share: &mut [T], product: &mut [T]) {
        let (w, all, cell) = (self.w, self.cell.gates() * self.w, self.cell);
        let (first, len) = (step.start + rows.start, step.rows_of(rows));
        // SAFETY: the rows of this step and task; `run` has checked that steps lie in the slices.
        let (hidden, out) =
            unsafe { (self.hidden.part(rows.start * w, len * w), self.out.part(first * w, len * w)) };
        let kept = self.kept.map(|[gates, before, extra]| {
            let (extra_at, extra_len) = if has_extra(cell) { (first * w, len * w) } else { (0, 0) };
            // SAFETY: as above.
            unsafe {
                before.part(first * w, len * w).copy_from_slice(hidden);
                [gates.part(first * all, len * all), extra.part(extra_at, extra_len)]
            }
        });
        if cell == Cell::Gru {
            self.weight.multiply(hidden, &mut product[..len * all], [w, all], false);
        } else {
            self.weight.multiply(hidden, share, [w, all], true);
        }
        let (biases, bias) = (self.biases, self.biases.map(|[both, _]| both));
        match cell {
            Cell::Lstm => {
                // SAFETY: as above; the state of this cell has as many rows as the hidden one.
                let cells = unsafe { self.cells.part(rows.start * w, len * w) };
                dispatch(Lstm { w, share, bias, cells, hidden, out, kept });
            }
            Cell::Gru => dispatch(Gru { w, share, product, biases, hidden, out, kept }),
            Cell::Tanh => dispatch(Plain::<_, true> { w, share, bias, hidden, out, kept }),
            Cell::Relu => dispatch(Plain::<_, false> { w, share, bias, hidden, out, kept }),
        }
    }
}

/// One step of LSTM.
struct Lstm<'a, T> {
    w: usize,
    share: &'a [T],
    bias: Option<&'a [T]>,
    cells: &'a mut [T],
    hidden: &'a mut [T],
    out: &'a mut [T],
    /// Gates and extra.
    kept: Option<[&'a mut [T]; 2]>,
}

impl<T: Float> Kernel for Lstm<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let w = self.w;
        for row in 0..self.hidden.len() / w {
            let whole = row * 4 * w..(row + 1) * 4 * w;
            let share = &self.share[whole.clone()];
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let (mut i, mut f) = (load(share, j, len), load(share, w + j, len));
                let (mut g, mut o) = (load(share, 2 * w + j, len), load(share, 3 * w + j, len));
                if let Some(bias) = self.bias {
                    add(&mut i, load(bias, j, len));
                    add(&mut f, load(bias, w + j, len));
                    add(&mut g, load(bias, 2 * w + j, len));
                    add(&mut o, load(bias, 3 * w + j, len));
                }
                let before = load(self.cells, at, len);
                let (mut c, mut h) = (before, before);
                for l in 0..LANES {
                    i[l] = i[l].sigmoid::<I>();
                    f[l] = f[l].sigmoid::<I>();
                    g[l] = g[l].tanh::<I>();
                    o[l] = o[l].sigmoid::<I>();
                    c[l] = f[l] * before[l] + i[l] * g[l];
                    h[l] = o[l] * c[l].tanh::<I>();
                }
                store(self.cells, at, len, c);
                store(self.hidden, at, len, h);
                store(self.out, at, len, h);
                if let Some([gates, extra]) = &mut self.kept {
                    store(extra, at, len, before);
                    let gates = &mut gates[whole.clone()];
                    store(gates, j, len, i);
                    store(gates, w + j, len, f);
                    store(gates, 2 * w + j, len, g);
                    store(gates, 3 * w + j, len, o);
                }
            }
        }
    }
}

/// One step of GRU.
struct Gru<'a, T> {
    w: usize,
    share: &'a [T],
    /// The product with the hidden state.
    product: &'a [T],
    /// What is added to each.
    biases: Option<[&'a [T]; 2]>,
    hidden: &'a mut [T],
    out: &'a mut [T],
    /// Gates and extra.
    kept: Option<[&'a mut [T]; 2]>,
}

impl<T: Float> Kernel for Gru<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let (w, one) = (self.w, T::from_f64(1.0));
        for row in 0..self.hidden.len() / w {
            let whole = row * 3 * w..(row + 1) * 3 * w;
            let (share, product) = (&self.share[whole.clone()], &self.product[whole.clone()]);
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let (mut r, mut z) = (load(share, j, len), load(share, w + j, len));
                let (mut n, mut of_n) = (load(share, 2 * w + j, len), load(product, 2 * w + j, len));
                add(&mut r, load(product, j, len));
                add(&mut z, load(product, w + j, len));
                if let Some([input, hidden]) = self.biases {
                    for bias in [input, hidden] {
                        add(&mut r, load(bias, j, len));
                        add(&mut z, load(bias, w + j, len));
                    }
                    add(&mut n, load(input, 2 * w + j, len));
                    add(&mut of_n, load(hidden, 2 * w + j, len));
                }
                let mut h = load(self.hidden, at, len);
                for l in 0..LANES {
                    r[l] = r[l].sigmoid::<I>();
                    z[l] = z[l].sigmoid::<I>();
                    n[l] = (n[l] + r[l] * of_n[l]).tanh::<I>();
                    h[l] = (one - z[l]) * n[l] + z[l] * h[l];
                }
                store(self.hidden, at, len, h);
                store(self.out, at, len, h);
                if let Some([gates, extra]) = &mut self.kept {
                    store(extra, at, len, of_n);
                    let gates = &mut gates[whole.clone()];
                    store(gates, j, len, r);
                    store(gates, w + j, len, z);
                    store(gates, 2 * w + j, len, n);
                }
            }
        }
    }
}

/// One step without gates.
struct Plain<'a, T, const TANH: bool> {
    w: usize,
    share: &'a [T],
    bias: Option<&'a [T]>,
    hidden: &'a mut [T],
    out: &'a mut [T],
    /// The results once more, and nothing else.
    kept: Option<[&'a mut [T]; 2]>,
}

impl<T: Float, const TANH: bool> Kernel for Plain<'_, T, TANH> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let (w, zero) = (self.w, T::default());
        for row in 0..self.hidden.len() / w {
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let mut h = load(self.share, at, len);
                if let Some(bias) = self.bias {
                    add(&mut h, load(bias, j, len));
                }
                for x in &mut h {
                    // A nan stays one.
                    let relu = if *x < zero { zero } else { *x };
                    *x = if TANH { x.tanh::<I>() } else { relu };
                }
                store(self.hidden, at, len, h);
                store(self.out, at, len, h);
                if let Some([gates, _]) = &mut self.kept {
                    store(gates, at, len, h);
                }
            }
        }
    }
}
