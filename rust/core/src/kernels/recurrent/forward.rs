//! Forward through time.

use std::ops::Range;

use super::{for_rows, load, store, Cell, Float, Step, Weight, LANES};
use crate::kernels::gemm::Mat;
use crate::kernels::shared::SharedSlice;
use crate::simd::{dispatch, Isa, Kernel};
use crate::Result;

/// One direction of a layer. Matrices are row-major; `N` counts the rows of all steps, `H` is the width.
pub(crate) struct Forward<'a, T> {
    pub cell: Cell,
    /// In the order in which the layer goes through them.
    pub steps: &'a [Step],
    pub width: usize,
    /// (gates * H, H)
    pub weight: &'a [T],
    /// What is added to the product with the hidden state: of GRU alone, the others' is in `gates` already.
    pub bias: Option<&'a [T]>,
    /// (N, gates * H): the input's share, biases included; then the gates themselves.
    pub gates: &'a mut [T],
    /// (B, H): the state before the first step, then after the last.
    pub hidden: &'a mut [T],
    /// (B, H): the cell state of LSTM; else empty.
    pub cells: &'a mut [T],
    /// (N, H)
    pub out: &'a mut [T],
    /// For the gradients, (N, H) each.
    pub kept: Option<Kept<'a, T>>,
}

/// What a gradient needs beside the gates.
pub(crate) struct Kept<'a, T> {
    /// The hidden state before each step.
    pub hidden: &'a mut [T],
    /// The cell state before each step (LSTM), or the hidden state's share of the new gate (GRU); else empty.
    pub extra: &'a mut [T],
}

/// The parts that rows are cut from.
struct Parts<'a, T> {
    gates: SharedSlice<'a, T>,
    hidden: SharedSlice<'a, T>,
    cells: SharedSlice<'a, T>,
    out: SharedSlice<'a, T>,
    kept: Option<[SharedSlice<'a, T>; 2]>,
}

impl<T: Float> Forward<'_, T> {
    pub fn run(self) -> Result<()> {
        let (w, all) = (self.width, self.cell.gates() * self.width);
        let batch = self.hidden.len() / w;
        let count: usize = self.steps.iter().map(|step| step.rows).sum();
        assert!(self.weight.len() == all * w && self.hidden.len() == batch * w);
        assert!(self.gates.len() == count * all && self.out.len() == count * w);
        assert!(self.steps.iter().all(|step| step.rows <= batch && step.start + step.rows <= count));
        assert!(self.cell != Cell::Lstm || self.cells.len() == batch * w);
        let extra = if matches!(self.cell, Cell::Lstm | Cell::Gru) { count * w } else { 0 };
        assert!(self.kept.iter().all(|kept| kept.hidden.len() == count * w && kept.extra.len() == extra));
        let b = Mat { ptr: self.weight.as_ptr(), row: 1, col: w as isize };
        // SAFETY: the transposed weight is H x all; it is borrowed.
        let weight = unsafe { Weight::new(b, [w, all], self.steps.len())? };
        let parts = Parts {
            gates: SharedSlice::new(self.gates),
            hidden: SharedSlice::new(self.hidden),
            cells: SharedSlice::new(self.cells),
            out: SharedSlice::new(self.out),
            kept: self.kept.map(|kept| [kept.hidden, kept.extra].map(SharedSlice::new)),
        };
        let (cell, steps, bias) = (self.cell, self.steps, self.bias);
        for_rows(batch, count * all * w, |rows| {
            // SAFETY: every task has rows of its own, of each step and of the state.
            unsafe { parts.walk(cell, steps, w, &weight, bias, rows) };
        });
        Ok(())
    }
}

impl<T: Float> Parts<'_, T> {
    /// Takes some rows of the batch through all steps.
    ///
    /// # Safety
    /// The rows lie in the batch, and no other task has them.
    unsafe fn walk(
        &self,
        cell: Cell,
        steps: &[Step],
        w: usize,
        weight: &Weight<T>,
        bias: Option<&[T]>,
        rows: Range<usize>,
    ) {
        let all = cell.gates() * w;
        let mut share = vec![T::default(); if cell == Cell::Gru { rows.len() * all } else { 0 }];
        for step in steps {
            let len = step.rows.min(rows.end).saturating_sub(rows.start);
            if len == 0 {
                continue; // all of these sequences are over, or have not begun
            }
            let first = step.start + rows.start;
            // SAFETY: the rows of this step and task; `run` has checked that steps lie in the slices.
            let (gates, hidden, out) = unsafe {
                (
                    self.gates.part(first * all, len * all),
                    self.hidden.part(rows.start * w, len * w),
                    self.out.part(first * w, len * w),
                )
            };
            let kept = self.kept.map(|[before, extra]| {
                let has_extra = matches!(cell, Cell::Lstm | Cell::Gru);
                // SAFETY: as above.
                unsafe {
                    before.part(first * w, len * w).copy_from_slice(hidden);
                    extra.part(if has_extra { first * w } else { 0 }, if has_extra { len * w } else { 0 })
                }
            });
            let share = &mut share[..if cell == Cell::Gru { len * all } else { 0 }];
            match cell {
                Cell::Gru => weight.multiply(hidden, share, [w, all], false),
                _ => weight.multiply(hidden, gates, [w, all], true),
            }
            match cell {
                Cell::Lstm => {
                    // SAFETY: as above; the state of this cell has as many rows as the hidden one.
                    let cells = unsafe { self.cells.part(rows.start * w, len * w) };
                    dispatch(Lstm { w, gates, cells, hidden, out, kept });
                }
                Cell::Gru => dispatch(Gru { w, gates, share, bias, hidden, out, kept }),
                Cell::Tanh => dispatch(Plain::<_, true> { gates, hidden, out }),
                Cell::Relu => dispatch(Plain::<_, false> { gates, hidden, out }),
            }
        }
    }
}

/// One step of LSTM.
struct Lstm<'a, T> {
    w: usize,
    gates: &'a mut [T],
    cells: &'a mut [T],
    hidden: &'a mut [T],
    out: &'a mut [T],
    kept: Option<&'a mut [T]>,
}

impl<T: Float> Kernel for Lstm<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let w = self.w;
        for row in 0..self.hidden.len() / w {
            let gates = &mut self.gates[row * 4 * w..(row + 1) * 4 * w];
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let [mut i, mut f, mut g, mut o] = [0, 1, 2, 3].map(|gate| load(gates, gate * w + j, len));
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
                if let Some(kept) = &mut self.kept {
                    store(kept, at, len, before);
                    [i, f, g, o]
                        .into_iter()
                        .enumerate()
                        .for_each(|(gate, x)| store(gates, gate * w + j, len, x));
                }
            }
        }
    }
}

/// One step of GRU.
struct Gru<'a, T> {
    w: usize,
    gates: &'a mut [T],
    /// The product with the hidden state, of `gates`' size, and what is added to it.
    share: &'a [T],
    bias: Option<&'a [T]>,
    hidden: &'a mut [T],
    out: &'a mut [T],
    kept: Option<&'a mut [T]>,
}

impl<T: Float> Kernel for Gru<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let w = self.w;
        for row in 0..self.hidden.len() / w {
            let gates = &mut self.gates[row * 3 * w..(row + 1) * 3 * w];
            let share = &self.share[row * 3 * w..(row + 1) * 3 * w];
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let [mut r, mut z, mut n] = [0, 1, 2].map(|gate| load(gates, gate * w + j, len));
                let [mut rh, mut zh, mut nh] = [0, 1, 2].map(|gate| load(share, gate * w + j, len));
                if let Some(bias) = self.bias {
                    let [rb, zb, nb] = [0, 1, 2].map(|gate| load(bias, gate * w + j, len));
                    for l in 0..LANES {
                        rh[l] = rh[l] + rb[l];
                        zh[l] = zh[l] + zb[l];
                        nh[l] = nh[l] + nb[l];
                    }
                }
                let mut h = load(self.hidden, at, len);
                for l in 0..LANES {
                    r[l] = (r[l] + rh[l]).sigmoid::<I>();
                    z[l] = (z[l] + zh[l]).sigmoid::<I>();
                    n[l] = (n[l] + r[l] * nh[l]).tanh::<I>();
                    h[l] = (h[l] - n[l]) * z[l] + n[l];
                }
                store(self.hidden, at, len, h);
                store(self.out, at, len, h);
                if let Some(kept) = &mut self.kept {
                    store(kept, at, len, nh);
                    [r, z, n]
                        .into_iter()
                        .enumerate()
                        .for_each(|(gate, x)| store(gates, gate * w + j, len, x));
                }
            }
        }
    }
}

/// One step without gates.
struct Plain<'a, T, const TANH: bool> {
    gates: &'a mut [T],
    hidden: &'a mut [T],
    out: &'a mut [T],
}

impl<T: Float, const TANH: bool> Kernel for Plain<'_, T, TANH> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let zero = T::default();
        for j in (0..self.hidden.len()).step_by(LANES) {
            let len = LANES.min(self.hidden.len() - j);
            let mut h = load(self.gates, j, len);
            for x in &mut h {
                // A nan stays one.
                let relu = if *x < zero { zero } else { *x };
                *x = if TANH { x.tanh::<I>() } else { relu };
            }
            store(self.gates, j, len, h);
            store(self.hidden, j, len, h);
            store(self.out, j, len, h);
        }
    }
}
