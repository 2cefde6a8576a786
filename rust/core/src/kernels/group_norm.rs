//! Group normalisation of contiguous `(N, C, ...)`, and its gradients: a group of a sample's channels is a row.

use super::rows::{grain, sum_of, Float};
use super::shared::SharedSlice;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::borrow::Cow;
use std::ops::Range;

/// Sizes of an input `(N, C, ...)` whose channels are taken in groups.
#[derive(Debug, Clone, Copy)]
pub struct Groups {
    /// N
    pub samples: usize,
    /// C
    pub channels: usize,
    /// Elements of a channel of a sample.
    pub plane: usize,
    /// Groups of a sample.
    pub groups: usize,
}

impl Groups {
    /// Groups in all.
    pub fn rows(&self) -> usize {
        self.samples * self.groups
    }

    /// Elements of a group.
    fn cols(&self) -> usize {
        self.channels / self.groups * self.plane
    }

    /// Channels of all samples that make up a row, which are as many planes.
    fn planes(&self, row: usize) -> Range<usize> {
        let size = self.channels / self.groups;
        row * size..(row + 1) * size
    }

    /// The channels of a row in one sample.
    fn channels(&self, row: usize) -> Range<usize> {
        self.planes(row % self.groups)
    }

    fn plane(&self, plane: usize) -> Range<usize> {
        plane * self.plane..(plane + 1) * self.plane
    }
}

/// `out = (x - mean) * rstd * weight + bias`, with the mean and deviation of each group, and numbers per channel;
/// also writes each group's `mean` and `rstd`.
pub fn group_norm<T: Float>(
    x: &[T],
    sizes: Groups,
    weight: Option<&[T]>,
    bias: Option<&[T]>,
    eps: f64,
    out: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    assert!(x.len() == sizes.rows() * sizes.cols() && out.len() == x.len());
    assert!(mean.len() == sizes.rows() && rstd.len() == sizes.rows());
    if x.is_empty() {
        return;
    }
    let (weight, bias) = (&*or_all(weight, 1.0, sizes), &*or_all(bias, 0.0, sizes));
    let (out, stats) = (SharedSlice::new(out), [SharedSlice::new(mean), SharedSlice::new(rstd)]);
    par::for_each_chunk(sizes.rows(), grain(sizes.cols()), |rows| {
        dispatch(Forward { x, sizes, weight, bias, eps, out, stats, rows });
    });
}

/// A number for each channel: those given, or the same for all.
fn or_all<T: Float>(parameter: Option<&[T]>, value: f64, sizes: Groups) -> Cow<'_, [T]> {
    match parameter {
        Some(parameter) => {
            assert_eq!(parameter.len(), sizes.channels);
            Cow::Borrowed(parameter)
        }
        None => Cow::Owned(vec![T::from_f64(value); sizes.channels]),
    }
}

struct Forward<'a, T> {
    x: &'a [T],
    sizes: Groups,
    weight: &'a [T],
    bias: &'a [T],
    eps: f64,
    out: SharedSlice<'a, T>,
    stats: [SharedSlice<'a, T>; 2],
    rows: Range<usize>,
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (cols, count) = (self.sizes.cols(), self.sizes.cols() as f64);
        for row in self.rows {
            let x = &self.x[row * cols..(row + 1) * cols];
            let mean = T::from_f64(sum_of([x], |[x]| x) / count);
            let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / count;
            let rstd = T::from_f64(1.0 / (variance + self.eps).sqrt());
            // SAFETY: tasks have disjoint rows, and `group_norm` borrows the outputs until all have ended.
            unsafe {
                self.stats[0].part(row, 1)[0] = mean;
                self.stats[1].part(row, 1)[0] = rstd;
            }
            let channels = self.sizes.channels(row);
            let (weight, bias) = (&self.weight[channels.clone()], &self.bias[channels]);
            if self.sizes.plane == 1 {
                // SAFETY: as above.
                let out = unsafe { self.out.part(row * cols, cols) };
                for (((out, &x), &weight), &bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    *out = (x - mean) * rstd * weight + bias;
                }
                continue;
            }
            for ((plane, &weight), &bias) in self.sizes.planes(row).zip(weight).zip(bias) {
                let (x, scale) = (&self.x[self.sizes.plane(plane)], rstd * weight);
                // SAFETY: as above: a plane belongs to one row.
                let out = unsafe { self.out.part(plane * self.sizes.plane, self.sizes.plane) };
                out.iter_mut().zip(x).for_each(|(out, &x)| *out = (x - mean) * scale + bias);
            }
        }
    }
}

/// What the gradients of [`group_norm`] are computed from.
#[derive(Debug, Clone, Copy)]
pub struct GroupNormBackward<'a, T> {
    /// Gradient of the output.
    pub grad: &'a [T],
    /// The input.
    pub x: &'a [T],
    /// Its sizes.
    pub sizes: Groups,
    /// Means of the groups.
    pub mean: &'a [T],
    /// One over their deviations.
    pub rstd: &'a [T],
    /// Factors of the channels.
    pub weight: Option<&'a [T]>,
}

impl<T: Float> GroupNormBackward<'_, T> {
    /// Writes the gradients that are asked for. Those of the parameters are sums over samples of sums over
    /// planes, in their order.
    pub fn run(&self, grad_x: Option<&mut [T]>, grad_weight: Option<&mut [T]>, grad_bias: Option<&mut [T]>) {
        let sizes = self.sizes;
        assert!(self.x.len() == sizes.rows() * sizes.cols() && self.grad.len() == self.x.len());
        assert!(grad_x.as_ref().is_none_or(|grad_x| grad_x.len() == self.x.len()));
        let planes = sizes.samples * sizes.channels;
        // Of each plane: the gradient's sum, and that of its products with the deviations from the mean.
        let (mut sums, mut dots) = (vec![0f64; planes], vec![0f64; planes]);
        if !self.x.is_empty() {
            let weight = &*or_all(self.weight, 1.0, sizes);
            let grad_x = grad_x.map(SharedSlice::new);
            let per_plane = [SharedSlice::new(&mut sums), SharedSlice::new(&mut dots)];
            par::for_each_chunk(sizes.rows(), grain(sizes.cols()), |rows| {
                dispatch(BackwardRows { kernel: self, weight, per_plane, grad_x, rows });
            });
        }
        let group = |plane: usize| plane / (sizes.channels / sizes.groups);
        let over_samples = |channel: usize, of: &dyn Fn(usize) -> f64| {
            let total = (0..sizes.samples).fold(0.0, |sum, n| sum + of(n * sizes.channels + channel));
            T::from_f64(total)
        };
        for (channel, out) in grad_weight.into_iter().flatten().enumerate() {
            *out = over_samples(channel, &|plane| dots[plane] * self.rstd[group(plane)].to_f64());
        }
        for (channel, out) in grad_bias.into_iter().flatten().enumerate() {
            *out = over_samples(channel, &|plane| sums[plane]);
        }
    }
}

struct BackwardRows<'a, T> {
    kernel: &'a GroupNormBackward<'a, T>,
    weight: &'a [T],
    /// Sums and dot products of the planes.
    per_plane: [SharedSlice<'a, f64>; 2],
    grad_x: Option<SharedSlice<'a, T>>,
    rows: Range<usize>,
}

impl<T: Float> Kernel for BackwardRows<'_, T> {
    type Output = ();
    /// With `d = grad * weight` and the normalised row `y`: `rstd * (d - mean(d) - y * mean(d * y))`.
    #[inline(always)]
    fn run<I: Isa>(self) {
        let GroupNormBackward { grad, x, sizes, mean, rstd, .. } = *self.kernel;
        let (cols, count) = (sizes.cols(), sizes.cols() as f64);
        for row in self.rows {
            let (mean, rstd, planes) = (mean[row], rstd[row], sizes.planes(row));
            let (g, x) = (&grad[row * cols..(row + 1) * cols], &x[row * cols..(row + 1) * cols]);
            let weight = &self.weight[sizes.channels(row)];
            // SAFETY: tasks have disjoint rows, whose planes and elements are their own; the caller borrows the
            // outputs until all have ended.
            let (sums, dots, out) = unsafe {
                (
                    self.per_plane[0].part(planes.start, planes.len()),
                    self.per_plane[1].part(planes.start, planes.len()),
                    self.grad_x.map(|grad_x| grad_x.part(row * cols, cols)),
                )
            };
            plane_sums(g, x, sizes.plane, mean, sums, dots);
            let Some(out) = out else { continue };
            let weighted = |values: &[f64]| -> f64 {
                values.iter().zip(weight).fold(0.0, |sum, (value, weight)| sum + value * weight.to_f64())
            };
            let shift = T::from_f64(weighted(sums) / count);
            let slope = T::from_f64(weighted(dots) * rstd.to_f64() * rstd.to_f64() / count);
            let by_x = |g: T, x: T, weight: T| (g * weight - shift - (x - mean) * slope) * rstd;
            if sizes.plane == 1 {
                for (((out, &g), &x), &weight) in out.iter_mut().zip(g).zip(x).zip(weight) {
                    *out = by_x(g, x, weight);
                }
                continue;
            }
            let of_planes = g.chunks_exact(sizes.plane).zip(x.chunks_exact(sizes.plane)).zip(weight);
            for (out, ((g, x), &weight)) in out.chunks_exact_mut(sizes.plane).zip(of_planes) {
                out.iter_mut().zip(g).zip(x).for_each(|((out, &g), &x)| *out = by_x(g, x, weight));
            }
        }
    }
}

/// The sum of `g` over each plane, and that of `g (x - mean)`.
#[inline(always)]
fn plane_sums<T: Float>(g: &[T], x: &[T], plane: usize, mean: T, sums: &mut [f64], dots: &mut [f64]) {
    let of_planes = sums.iter_mut().zip(dots);
    if plane == 1 {
        for ((sum, dot), (&g, &x)) in of_planes.zip(g.iter().zip(x)) {
            (*sum, *dot) = (g.to_f64(), (g * (x - mean)).to_f64());
        }
        return;
    }
    for ((sum, dot), (g, x)) in of_planes.zip(g.chunks_exact(plane).zip(x.chunks_exact(plane))) {
        *sum = sum_of([g], |[g]| g);
        *dot = sum_of([g, x], |[g, x]| g * (x - mean));
    }
}
