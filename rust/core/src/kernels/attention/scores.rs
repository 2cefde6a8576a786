//! What happens to a tile of scores: a row per key, a lane per query.

use super::LANES;
use crate::kernels::rows::{sum_of, Float};
use crate::simd::{dispatch, Isa, Kernel};

/// What a query's scores were so far: their maximum, and the sum of `exp(score - maximum)`.
pub(super) struct Running<'a, T> {
    pub max: &'a mut [T],
    pub sum: &'a mut [T],
    /// What a new block made of the maximum: all that was summed before is to be multiplied by this.
    pub rescale: &'a mut [T],
}

/// Turns scores into `exp(score - maximum)` and takes them into the running maximum and sum.
pub(super) struct Softmax<'a, T> {
    pub tile: &'a mut [T],
    pub running: Running<'a, T>,
}

impl<T: Float> Kernel for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Running { max, sum, rescale } = self.running;
        let lanes = max.len();
        assert!(sum.len() == lanes && rescale.len() == lanes);
        let lowest = T::from_f64(f64::NEG_INFINITY);
        for first in (0..lanes).step_by(LANES) {
            let strip = first..first + LANES;
            let mut top: [T; LANES] = max[strip.clone()].try_into().expect("a strip of lanes");
            let before = top;
            for row in self.tile.chunks_exact(lanes) {
                let row: &[T; LANES] = row[strip.clone()].try_into().expect("a strip of lanes");
                for (top, x) in top.iter_mut().zip(row) {
                    *top = if *x > *top { *x } else { *top };
                }
            }
            // Where all is forbidden the weights are exp(-inf - 0) = 0, not exp(-inf + inf).
            let shift = top.map(|top| if top == lowest { T::default() } else { top });
            let mut added = [T::default(); LANES];
            for row in self.tile.chunks_exact_mut(lanes) {
                let row: &mut [T; LANES] = (&mut row[strip.clone()]).try_into().expect("a strip of lanes");
                for ((x, shift), added) in row.iter_mut().zip(&shift).zip(&mut added) {
                    *x = (*x - *shift).exp_negative::<I>();
                    *added += *x;
                }
            }
            for lane in 0..LANES {
                let factor = (before[lane] - shift[lane]).exp_negative::<I>();
                rescale[first + lane] = factor;
                sum[first + lane] = sum[first + lane] * factor + added[lane];
                max[first + lane] = top[lane];
            }
        }
    }
}

/// From what has run: factors that make the weights' sums 1 in `sum`, and `ln(sum(exp(scores)))` in `max`. Where all is
/// forbidden the factor is 0, and the logarithm infinite, so that the weights computed from it are 0.
pub(super) struct Finish<'a, T> {
    pub max: &'a mut [T],
    pub sum: &'a mut [T],
}

impl<T: Float> Kernel for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let (zero, one) = (T::default(), T::from_f64(1.0));
        for (max, sum) in self.max.iter_mut().zip(self.sum) {
            let is_empty = *sum == zero;
            *max = if is_empty { T::from_f64(f64::INFINITY) } else { *max + sum.ln::<I>() };
            *sum = if is_empty { zero } else { one / *sum };
        }
    }
}

/// Turns scores into weights, given `ln(sum(exp(scores)))` of each query, and gradients of weights into gradients of
/// scores, given the mean of a query's under its weights.
pub(super) struct Slope<'a, T> {
    pub scores: &'a mut [T],
    pub grads: Option<&'a mut [T]>,
    pub logs: &'a [T],
    pub means: &'a [T],
}

impl<T: Float> Kernel for Slope<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let lanes = self.logs.len();
        assert!(self.means.len() == lanes);
        let Some(grads) = self.grads else {
            for row in self.scores.chunks_exact_mut(lanes) {
                for (x, log) in row.iter_mut().zip(self.logs) {
                    *x = (*x - *log).exp_negative::<I>();
                }
            }
            return;
        };
        for (row, grads) in self.scores.chunks_exact_mut(lanes).zip(grads.chunks_exact_mut(lanes)) {
            let lanes = self.logs.iter().zip(self.means);
            for ((x, grad), (log, mean)) in row.iter_mut().zip(grads).zip(lanes) {
                *x = (*x - *log).exp_negative::<I>();
                *grad = *x * (*grad - *mean);
            }
        }
    }
}

/// `tile *= factors`.
pub(super) fn multiply_tile<T: Float>(tile: &mut [T], factors: &[T]) {
    struct Multiply<'a, T>(&'a mut [T], &'a [T]);
    impl<T: Float> Kernel for Multiply<'_, T> {
        const WIDE: bool = false;
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            for (x, factor) in self.0.iter_mut().zip(self.1) {
                *x = *x * *factor;
            }
        }
    }
    dispatch(Multiply(tile, factors));
}

/// `tile += added`.
pub(super) fn add_tile<T: Float>(tile: &mut [T], added: &[T]) {
    struct Add<'a, T>(&'a mut [T], &'a [T]);
    impl<T: Float> Kernel for Add<'_, T> {
        const WIDE: bool = false;
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            for (x, added) in self.0.iter_mut().zip(self.1) {
                *x += *added;
            }
        }
    }
    dispatch(Add(tile, added));
}

/// `tile *= factor`.
pub(super) fn scale_tile<T: Float>(tile: &mut [T], factor: T) {
    struct Scale<'a, T>(&'a mut [T], T);
    impl<T: Float> Kernel for Scale<'_, T> {
        const WIDE: bool = false;
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            for x in self.0 {
                *x = *x * self.1;
            }
        }
    }
    dispatch(Scale(tile, factor));
}

/// `sum(a * b)`.
pub(super) fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    struct Dot<'a, T>(&'a [T], &'a [T]);
    impl<T: Float> Kernel for Dot<'_, T> {
        const WIDE: bool = false;
        type Output = T;
        #[inline(always)]
        fn run<I: Isa>(self) -> T {
            T::from_f64(sum_of([self.0, self.1], |[a, b]| a * b))
        }
    }
    dispatch(Dot(a, b))
}
