//! Backward through time.

use std::ops::Range;

use super::{add, load, store, tasks, Cell, Float, Step, Weight, LANES};
use crate::kernels::gemm::Mat;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use crate::Result;

/// Gradients of one direction of a layer, but for those that are plain products of what this gives.
pub(crate) struct Backward<'a, T> {
    pub cell: Cell,
    /// In the order in which the layer went through them.
    pub steps: &'a [Step],
    pub width: usize,
    /// (gates * H, H)
    pub weight: &'a [T],
    /// (N, gates * H): the gates.
    pub gates: &'a [T],
    /// (N, H): the hidden state before each step.
    pub before: &'a [T],
    /// (N, H): as the forward pass has kept it.
    pub extra: &'a [T],
    /// (N, H): the gradient of the output.
    pub grad: Option<&'a [T]>,
    /// (B, H): the gradient of the state after the last step, then of that before the first.
    pub hidden: &'a mut [T],
    /// The same of LSTM's cell state; else empty.
    pub cells: &'a mut [T],
    /// (N, gates * H): the gradients of what the gates are functions of.
    pub by_gates: &'a mut [T],
    /// The same of the hidden state's share, where it differs (GRU); else empty.
    pub by_share: &'a mut [T],
}

struct Parts<'a, T> {
    hidden: SharedSlice<'a, T>,
    cells: SharedSlice<'a, T>,
    by_gates: SharedSlice<'a, T>,
    by_share: SharedSlice<'a, T>,
}

impl<T: Float> Backward<'_, T> {
    pub fn run(mut self) -> Result<()> {
        let (w, all) = (self.width, self.cell.gates() * self.width);
        let batch = self.hidden.len() / w;
        let count: usize = self.steps.iter().map(|step| step.rows).sum();
        assert!(self.weight.len() == all * w && self.hidden.len() == batch * w);
        assert!(self.gates.len() == count * all && self.by_gates.len() == count * all);
        assert!(self.before.len() == count * w && self.grad.is_none_or(|grad| grad.len() == count * w));
        assert!(self.steps.iter().all(|step| step.rows <= batch && step.start + step.rows <= count));
        assert!(self.cell != Cell::Lstm || self.cells.len() == batch * w && self.extra.len() == count * w);
        assert!(
            self.cell != Cell::Gru || self.by_share.len() == count * all && self.extra.len() == count * w
        );
        let b = Mat { ptr: self.weight.as_ptr(), row: w as isize, col: 1 };
        // SAFETY: the weight is all x H; it is borrowed.
        let weight = unsafe { Weight::new(b, [all, w], self.steps.len())? };
        let tasks = tasks(self.steps, batch, count * all * w);
        let parts = Parts {
            hidden: SharedSlice::new(std::mem::take(&mut self.hidden)),
            cells: SharedSlice::new(std::mem::take(&mut self.cells)),
            by_gates: SharedSlice::new(std::mem::take(&mut self.by_gates)),
            by_share: SharedSlice::new(std::mem::take(&mut self.by_share)),
        };
        // SAFETY: every task has rows of its own, of each step and of the state.
        par::for_each(tasks.len(), |task| unsafe { self.walk(&parts, &weight, tasks[task].clone()) });
        Ok(())
    }

    /// Takes some rows of the batch back through all steps.
    ///
    /// # Safety
    /// The rows lie in the batch, and no other task has them.
    unsafe fn walk(&self, parts: &Parts<'_, T>, weight: &Weight<T>, rows: Range<usize>) {
        let (w, all) = (self.width, self.cell.gates() * self.width);
        for step in self.steps.iter().rev() {
            let len = step.rows_of(&rows);
            if len == 0 {
                continue;
            }
            let first = step.start + rows.start;
            let (narrow, wide) = (first * w..(first + len) * w, first * all..(first + len) * all);
            // SAFETY: the rows of this step and task; `run` has checked that steps lie in the slices.
            let (hidden, by_gates) = unsafe {
                (parts.hidden.part(rows.start * w, len * w), parts.by_gates.part(first * all, len * all))
            };
            let grad = self.grad.map(|grad| &grad[narrow.clone()]);
            let (gates, before) = (&self.gates[wide], &self.before[narrow.clone()]);
            let mut share = None;
            match self.cell {
                Cell::Lstm => {
                    // SAFETY: as above.
                    let cells = unsafe { parts.cells.part(rows.start * w, len * w) };
                    dispatch(Lstm { w, gates, before: &self.extra[narrow], grad, hidden, cells, by_gates });
                }
                Cell::Gru => {
                    // SAFETY: as above.
                    let by_share = unsafe { parts.by_share.part(first * all, len * all) };
                    let (extra, by_share) = (&self.extra[narrow], share.insert(by_share));
                    dispatch(Gru { w, gates, before, extra, grad, hidden, by_gates, by_share });
                }
                Cell::Tanh => dispatch(Plain::<_, true> { gates, grad, hidden, by_gates }),
                Cell::Relu => dispatch(Plain::<_, false> { gates, grad, hidden, by_gates }),
            }
            let by = share.as_deref().unwrap_or(by_gates);
            weight.multiply(by, hidden, [all, w], self.cell == Cell::Gru);
        }
    }
}

/// One step of LSTM; `hidden` holds the gradient of its result, but for `grad`.
struct Lstm<'a, T> {
    w: usize,
    gates: &'a [T],
    before: &'a [T],
    grad: Option<&'a [T]>,
    hidden: &'a [T],
    cells: &'a mut [T],
    by_gates: &'a mut [T],
}

impl<T: Float> Kernel for Lstm<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (w, one) = (self.w, T::from_f64(1.0));
        for row in 0..self.hidden.len() / w {
            let gates = &self.gates[row * 4 * w..(row + 1) * 4 * w];
            let by_gates = &mut self.by_gates[row * 4 * w..(row + 1) * 4 * w];
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let (mut i, mut f) = (load(gates, j, len), load(gates, w + j, len));
                let (mut g, mut o) = (load(gates, 2 * w + j, len), load(gates, 3 * w + j, len));
                let (before, mut dh) = (load(self.before, at, len), load(self.hidden, at, len));
                if let Some(grad) = self.grad {
                    add(&mut dh, load(grad, at, len));
                }
                let mut dc = load(self.cells, at, len);
                for l in 0..LANES {
                    let t = (f[l] * before[l] + i[l] * g[l]).tanh::<I>();
                    let d = dc[l] + dh[l] * o[l] * (one - t * t);
                    dc[l] = d * f[l];
                    let (di, dg) = (d * g[l] * i[l] * (one - i[l]), d * i[l] * (one - g[l] * g[l]));
                    f[l] = d * before[l] * f[l] * (one - f[l]);
                    o[l] = dh[l] * t * o[l] * (one - o[l]);
                    i[l] = di;
                    g[l] = dg;
                }
                store(self.cells, at, len, dc);
                store(by_gates, j, len, i);
                store(by_gates, w + j, len, f);
                store(by_gates, 2 * w + j, len, g);
                store(by_gates, 3 * w + j, len, o);
            }
        }
    }
}

/// One step of GRU; `hidden` holds the gradient of its result, but for `grad`, then what goes past the gates.
struct Gru<'a, T> {
    w: usize,
    gates: &'a [T],
    before: &'a [T],
    extra: &'a [T],
    grad: Option<&'a [T]>,
    hidden: &'a mut [T],
    by_gates: &'a mut [T],
    by_share: &'a mut [T],
}

impl<T: Float> Kernel for Gru<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (w, one) = (self.w, T::from_f64(1.0));
        for row in 0..self.hidden.len() / w {
            let whole = row * 3 * w..(row + 1) * 3 * w;
            let gates = &self.gates[whole.clone()];
            let (by_gates, by_share) = (&mut self.by_gates[whole.clone()], &mut self.by_share[whole]);
            for j in (0..w).step_by(LANES) {
                let (at, len) = (row * w + j, LANES.min(w - j));
                let (mut r, mut z) = (load(gates, j, len), load(gates, w + j, len));
                let mut n = load(gates, 2 * w + j, len);
                let (before, extra) = (load(self.before, at, len), load(self.extra, at, len));
                let mut dh = load(self.hidden, at, len);
                if let Some(grad) = self.grad {
                    add(&mut dh, load(grad, at, len));
                }
                let mut dn = dh;
                for l in 0..LANES {
                    let d = dh[l];
                    dn[l] = d * (one - z[l]) * (one - n[l] * n[l]);
                    dh[l] = d * z[l];
                    z[l] = d * (before[l] - n[l]) * z[l] * (one - z[l]);
                    n[l] = dn[l] * r[l];
                    r[l] = dn[l] * extra[l] * r[l] * (one - r[l]);
                }
                store(self.hidden, at, len, dh);
                store(by_gates, j, len, r);
                store(by_gates, w + j, len, z);
                store(by_gates, 2 * w + j, len, dn);
                store(by_share, j, len, r);
                store(by_share, w + j, len, z);
                store(by_share, 2 * w + j, len, n);
            }
        }
    }
}

/// One step without gates.
struct Plain<'a, T, const TANH: bool> {
    gates: &'a [T],
    grad: Option<&'a [T]>,
    hidden: &'a [T],
    by_gates: &'a mut [T],
}

impl<T: Float, const TANH: bool> Kernel for Plain<'_, T, TANH> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (zero, one) = (T::default(), T::from_f64(1.0));
        for j in (0..self.hidden.len()).step_by(LANES) {
            let len = LANES.min(self.hidden.len() - j);
            let (y, mut d) = (load(self.gates, j, len), load(self.hidden, j, len));
            if let Some(grad) = self.grad {
                add(&mut d, load(grad, j, len));
            }
            for l in 0..LANES {
                let relu = if y[l] <= zero { zero } else { d[l] };
                d[l] = if TANH { d[l] * (one - y[l] * y[l]) } else { relu };
            }
            store(self.by_gates, j, len, d);
        }
    }
}
