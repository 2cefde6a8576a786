//! Values that follow from their position: what `arange` and `linspace` write.

use super::map::GRAIN_CHEAP;
use crate::dtype::Element;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// `out[i] = f(i)`
pub fn tabulate<T: Element>(out: &mut [T], f: impl Fn(usize) -> T + Sync) {
    let data = super::map::Shared(out.as_mut_ptr());
    par::for_each_chunk(out.len(), GRAIN_CHEAP, |range| {
        let first = range.start;
        // SAFETY: chunks are disjoint parts of `out`.
        let part = unsafe { std::slice::from_raw_parts_mut(data.at(first as isize), range.len()) };
        part.iter_mut().enumerate().for_each(|(i, out)| *out = f(first + i));
    });
}

/// Values that are converted at a time.
const PIECE: usize = 256;

/// Evenly spaced values, counted from the nearer end, so that both ends are exact.
#[derive(Debug, Clone, Copy)]
pub struct Ramp<R> {
    start: R,
    end: R,
    step: R,
    steps: usize,
    /// Whether product and sum are rounded once.
    fused: bool,
}

/// Some values of a ramp, from the `first` on.
struct RampRun<'a, R> {
    ramp: Ramp<R>,
    first: usize,
    out: &'a mut [R],
}

macro_rules! ramps {
    ($($type:ty),*) => {
        $(
            impl Ramp<$type> {
                /// `steps` values, 2 at least; `fused` if product and sum are to be rounded once.
                pub fn new(start: $type, end: $type, steps: usize, fused: bool) -> Self {
                    debug_assert!(steps > 1);
                    Self { start, end, step: (end - start) / (steps - 1) as $type, steps, fused }
                }

                /// Writes all values, converted; `out` has as many.
                pub fn fill<T: Element>(self, out: &mut [T], convert: impl Fn($type) -> T + Sync) {
                    debug_assert_eq!(out.len(), self.steps);
                    let data = super::map::Shared(out.as_mut_ptr());
                    par::for_each_chunk(out.len(), GRAIN_CHEAP, |range| {
                        let (data, len) = (data.at(range.start as isize), range.len());
                        // SAFETY: chunks are disjoint parts of `out`.
                        let part = unsafe { std::slice::from_raw_parts_mut(data, len) };
                        let mut values = [0.0; PIECE];
                        for (at, part) in (range.start..).step_by(PIECE).zip(part.chunks_mut(PIECE)) {
                            let values = &mut values[..part.len()];
                            dispatch(RampRun { ramp: self, first: at, out: &mut *values });
                            part.iter_mut().zip(&*values).for_each(|(out, &value)| *out = convert(value));
                        }
                    });
                }
            }

            impl Kernel for RampRun<'_, $type> {
                type Output = ();
                #[inline(always)]
                fn run<I: Isa>(self) {
                    let Self { ramp: Ramp { start, end, step, steps, fused }, first, out } = self;
                    let half = (steps / 2).saturating_sub(first).min(out.len());
                    let (near, far) = out.split_at_mut(half);
                    let left = steps - 1 - first - half;
                    let at = |i: usize| i as i64 as $type;
                    if fused {
                        (first..).zip(near).for_each(|(i, out)| *out = step.mul_add(at(i), start));
                        (0..).zip(far).for_each(|(i, out)| *out = (-step).mul_add(at(left - i), end));
                    } else {
                        (first..).zip(near).for_each(|(i, out)| *out = start + step * at(i));
                        (0..).zip(far).for_each(|(i, out)| *out = end - step * at(left - i));
                    }
                }
            }
        )*
    };
}
ramps!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exact_and_pieces_join() {
        for steps in [2, 3, 7, PIECE - 1, PIECE, PIECE + 1, 1000] {
            let mut out = vec![0f64; steps];
            Ramp::<f64>::new(-0.3, 0.7, steps, false).fill(&mut out, |x| x);
            assert_eq!((out[0], out[steps - 1]), (-0.3, 0.7));
            assert!(out.is_sorted());
            let mut narrow = vec![0f32; steps];
            Ramp::<f32>::new(-0.3, 0.7, steps, true).fill(&mut narrow, |x| x);
            assert!(out.iter().zip(&narrow).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6));
        }
    }

    #[test]
    fn positions() {
        let mut out = vec![0i64; 100_000];
        tabulate(&mut out, |i| 3 * i as i64);
        assert!(out.iter().enumerate().all(|(i, &x)| x == 3 * i as i64));
    }
}
