//! Cross-entropy of logits and class indices over contiguous rows, and its gradient.

use super::rows::{grain, max_of, sum_of, Float, RowsMut};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::Range;

/// Elements whose exponentials are held at a time: they stay in the first-level cache.
const TILE: usize = 512;

/// What a cross-entropy is of. Targets are class indices below `classes`, or `ignore_index`.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy<'a, T> {
    /// Rows of `classes` elements.
    pub logits: &'a [T],
    /// One class per row.
    pub targets: &'a [i64],
    /// Length of a row.
    pub classes: usize,
    /// A weight per class; all 1 if absent.
    pub weight: Option<&'a [T]>,
    /// Rows of this target count for nothing.
    pub ignore_index: i64,
    /// The share of each target that is spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
}

/// What [`CrossEntropy::forward`] writes, one value per row.
#[derive(Debug)]
pub struct CrossEntropyRows<'a, T> {
    /// The loss; 0 for ignored rows.
    pub losses: &'a mut [T],
    /// The target's weight, which the mean divides by; 0 for ignored rows.
    pub row_weights: &'a mut [T],
    /// The largest logit.
    pub maxima: &'a mut [T],
    /// `ln(sum(exp(logits - maximum)))`. Apart from the maximum, so that large logits cost no digits.
    pub log_sums: &'a mut [T],
}

impl<T: Float> CrossEntropy<'_, T> {
    /// The loss of each row, and what the mean and [`CrossEntropy::backward`] need.
    ///
    /// With smoothing `s`, class weights `w`, log-probabilities `l` and target `t`, a row's loss is
    /// `-(1 - s) w[t] l[t] - s / classes * sum(w * l)`.
    pub fn forward(&self, out: CrossEntropyRows<'_, T>) {
        assert_eq!(self.logits.len(), self.targets.len() * self.classes);
        let CrossEntropyRows { losses, row_weights, maxima, log_sums } = out;
        let out = [losses, row_weights, maxima, log_sums].map(|x| RowsMut::new(x, 1));
        par::for_each_chunk(self.targets.len(), grain(self.classes), |rows| {
            dispatch(Forward { input: *self, out, rows });
        });
    }

    /// Gradient of the logits, from the gradient of each row's loss.
    pub fn backward(&self, maxima: &[T], log_sums: &[T], grad_rows: &[T], grad_logits: &mut [T]) {
        assert!(grad_logits.len() == self.logits.len() && grad_rows.len() == self.targets.len());
        if self.classes == 0 {
            return; // rows without elements are no rows to `RowsMut`
        }
        let weight_sum = match self.weight {
            Some(weight) => sum_of([weight], |[w]| w),
            None => self.classes as f64,
        };
        let grad_logits = RowsMut::new(grad_logits, self.classes);
        par::for_each_chunk(self.targets.len(), grain(self.classes), |rows| {
            dispatch(Backward { input: *self, maxima, log_sums, grad_rows, grad_logits, weight_sum, rows });
        });
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &[T] {
        &self.logits[row * self.classes..(row + 1) * self.classes]
    }

    /// The row's class and its weight, unless the row is ignored.
    #[inline(always)]
    fn target(&self, row: usize) -> Option<(usize, f64)> {
        let target = self.targets[row];
        if target == self.ignore_index {
            return None;
        }
        let target = target as usize;
        Some((target, self.weight.map_or(1.0, |weight| weight[target].to_f64())))
    }

    /// Smoothing per class.
    #[inline(always)]
    fn spread(&self) -> f64 {
        self.label_smoothing / self.classes as f64
    }

    /// Loss, target's weight, maximum and log-sum of a row.
    #[inline(always)]
    fn row_loss<I: Isa>(&self, row: usize) -> [T; 4] {
        let x = self.row(row);
        let max = max_of(x);
        let log_sum = T::from_f64(exp_sum::<T, I>(x, max)).ln::<I>();
        let Some((target, weight)) = self.target(row) else {
            return [T::default(), T::default(), max, log_sum];
        };
        let mut loss = weight * (log_sum - (x[target] - max)).to_f64();
        if self.label_smoothing > 0.0 {
            let all = match self.weight {
                Some(weight) => sum_of([x, weight], |[x, w]| w * (log_sum - (x - max))),
                None => sum_of([x], |[x]| log_sum - (x - max)),
            };
            loss = (1.0 - self.label_smoothing) * loss + self.spread() * all;
        }
        [T::from_f64(loss), T::from_f64(weight), max, log_sum]
    }
}

/// `sum(exp(x - max))`.
#[inline(always)]
fn exp_sum<T: Float, I: Isa>(x: &[T], max: T) -> f64 {
    let mut tile = [T::default(); TILE];
    let mut total = 0.0;
    for x in x.chunks(TILE) {
        let tile = &mut tile[..x.len()];
        for (e, x) in tile.iter_mut().zip(x) {
            *e = (*x - max).exp::<I>();
        }
        total += sum_of([&*tile], |[e]| e);
    }
    total
}

struct Forward<'a, T> {
    input: CrossEntropy<'a, T>,
    out: [RowsMut<T>; 4],
    rows: Range<usize>,
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for row in self.rows {
            let values = self.input.row_loss::<I>(row);
            for (out, value) in self.out.iter().zip(values) {
                // SAFETY: tasks have disjoint rows, and `forward` borrows the outputs until all have ended.
                unsafe { out.row(row)[0] = value };
            }
        }
    }
}

struct Backward<'a, T> {
    input: CrossEntropy<'a, T>,
    maxima: &'a [T],
    log_sums: &'a [T],
    grad_rows: &'a [T],
    grad_logits: RowsMut<T>,
    weight_sum: f64,
    rows: Range<usize>,
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let input = self.input;
        for row in self.rows {
            // SAFETY: tasks have disjoint rows, and `backward` borrows the output until all have ended.
            let out = unsafe { self.grad_logits.row(row) };
            let Some((target, weight)) = input.target(row) else {
                out.fill(T::default());
                continue;
            };
            let grad = self.grad_rows[row].to_f64();
            let on_target = (1.0 - input.label_smoothing) * weight * grad;
            let spread = input.spread() * grad;
            let scale = T::from_f64(on_target + spread * self.weight_sum);
            let (max, log_sum) = (self.maxima[row], self.log_sums[row]);
            for (out, x) in out.iter_mut().zip(input.row(row)) {
                *out = ((*x - max) - log_sum).exp::<I>() * scale;
            }
            let spread = T::from_f64(spread);
            match input.weight {
                _ if input.label_smoothing == 0.0 => {}
                Some(weight) => out.iter_mut().zip(weight).for_each(|(out, w)| *out = *out - spread * *w),
                None => out.iter_mut().for_each(|out| *out = *out - spread),
            }
            out[target] = out[target] - T::from_f64(on_target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IGNORED: i64 = -100;

    /// Losses and their gradient, straight from the definition.
    fn naive(x: &[f64], target: i64, weight: &[f64], s: f64, grad: f64) -> (f64, Vec<f64>) {
        if target == IGNORED {
            return (0.0, vec![0.0; x.len()]);
        }
        let max = x.iter().cloned().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        let share =
            |c: usize| weight[c] * (s / x.len() as f64 + if c as i64 == target { 1.0 - s } else { 0.0 });
        let loss = (0..x.len()).map(|c| share(c) * (lse - x[c])).sum();
        let total: f64 = (0..x.len()).map(share).sum();
        (loss, (0..x.len()).map(|c| grad * ((x[c] - lse).exp() * total - share(c))).collect())
    }

    fn check<T: Float>(rows: usize, classes: usize, is_weighted: bool, smoothing: f64, tolerance: f64) {
        let values = |len: usize, scale: f64, by: usize| -> Vec<f64> {
            (0..len).map(|i| scale * ((i * by % 1013) as f64 / 506.5 - 1.0)).collect()
        };
        let cast = |v: &[f64]| v.iter().map(|v| T::from_f64(*v)).collect::<Vec<T>>();
        let (x, grads) = (values(rows * classes, 4.0, 7919), values(rows, 1.0, 271));
        let weight: Vec<f64> =
            (0..classes).map(|c| if is_weighted { 0.5 + c as f64 / classes as f64 } else { 1.0 }).collect();
        let targets: Vec<i64> =
            (0..rows).map(|r| if r % 5 == 3 { IGNORED } else { (r * 31 % classes) as i64 }).collect();
        let (tx, tw, tg) = (cast(&x), cast(&weight), cast(&grads));
        let input = CrossEntropy {
            logits: &tx,
            targets: &targets,
            classes,
            weight: is_weighted.then_some(&tw[..]),
            ignore_index: IGNORED,
            label_smoothing: smoothing,
        };
        let mut out = vec![vec![T::default(); rows]; 4];
        let [losses, row_weights, maxima, log_sums] = &mut out[..] else { unreachable!() };
        input.forward(CrossEntropyRows { losses, row_weights, maxima, log_sums });
        let mut grad_x = vec![T::default(); rows * classes];
        input.backward(maxima, log_sums, &tg, &mut grad_x);
        for row in 0..rows {
            let range = row * classes..(row + 1) * classes;
            let (loss, grad) = naive(&x[range.clone()], targets[row], &weight, smoothing, grads[row]);
            assert!((losses[row].to_f64() - loss).abs() <= tolerance * loss.abs().max(1.0));
            let expected = if targets[row] == IGNORED { 0.0 } else { weight[targets[row] as usize] };
            assert!((row_weights[row].to_f64() - expected).abs() < 1e-6);
            for (got, exact) in grad_x[range].iter().zip(grad) {
                assert!((got.to_f64() - exact).abs() <= tolerance, "{got:?} for {exact}");
            }
        }
    }

    #[test]
    fn every_option() {
        for (rows, classes) in [(9, 1), (16, 10), (40, 33), (6, 1200)] {
            for is_weighted in [false, true] {
                for smoothing in [0.0, 0.1, 1.0] {
                    check::<f32>(rows, classes, is_weighted, smoothing, 3e-6);
                    check::<f64>(rows, classes, is_weighted, smoothing, 1e-13);
                }
            }
        }
    }

    #[test]
    fn large_logits_keep_their_digits() {
        let logits = [10_000.0_f32, 9_999.0, 9_998.0];
        let input = CrossEntropy {
            logits: &logits,
            targets: &[1],
            classes: 3,
            weight: None,
            ignore_index: IGNORED,
            label_smoothing: 0.0,
        };
        let mut out = [[0.0_f32]; 4];
        let [losses, row_weights, maxima, log_sums] = &mut out;
        input.forward(CrossEntropyRows { losses, row_weights, maxima, log_sums });
        assert!((losses[0] - 1.407_606).abs() < 1e-6);
        let mut grad = [0.0; 3];
        input.backward(maxima, log_sums, &[1.0], &mut grad);
        assert!((grad[0] - 0.665_240_96).abs() < 1e-6);
    }
}
