//! Batch normalisation of contiguous `(batch, channels, length)` data, and its gradients.
//!
//! `length` is the product of all dims after the channels. With a length of 1 the data is a matrix whose columns are
//! channels, and loops run along rows; else each (sample, channel) pair is a plane of its own.

use super::rows::{grain, sum_of, Float, RowsMut, GRAIN};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::Range;

/// Channels that are summed side by side where the length is 1.
const TILE: usize = 32;
/// Rows that a tile sums before the sums join float64 totals.
const TILE_ROWS: usize = 64;

/// Extents of the data.
#[derive(Debug, Clone, Copy)]
pub struct Planes {
    /// Samples.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of a plane.
    pub len: usize,
}

/// Mean and biased variance of each channel.
pub fn channel_moments<T: Float>(x: &[T], planes: Planes, mean: &mut [T], variance: &mut [T]) {
    let count = planes.count();
    let mut sums = vec![0.0; planes.channels];
    channel_sums(planes, [x], [], &mut sums, |[x], []| x);
    mean.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean = T::from_f64(sum / count));
    channel_sums(planes, [x], [&*mean], &mut sums, |[x], [m]| (x - m) * (x - m));
    variance.iter_mut().zip(&sums).for_each(|(variance, sum)| *variance = T::from_f64(sum / count));
}

/// `out = (x - mean) * rstd * weight + bias`, all four per channel.
pub fn batch_norm<T: Float>(
    x: &[T],
    planes: Planes,
    mean: &[T],
    rstd: &[T],
    weight: Option<&[T]>,
    bias: Option<&[T]>,
    out: &mut [T],
) {
    let scale = times(rstd, weight);
    match bias {
        Some(bias) => per_channel(planes, [x], [mean, &scale, bias], out, |[x], [m, s, b]| (x - m) * s + b),
        None => per_channel(planes, [x], [mean, &scale], out, |[x], [m, s]| (x - m) * s),
    }
}

/// What the gradients of [`batch_norm`] are computed from.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormBackward<'a, T> {
    /// Gradient of the output.
    pub grad: &'a [T],
    /// Input of the forward pass.
    pub x: &'a [T],
    /// Their extents.
    pub planes: Planes,
    /// What the forward pass subtracted from each channel.
    pub mean: &'a [T],
    /// What the forward pass multiplied each channel by.
    pub rstd: &'a [T],
    /// The affine factor of each channel.
    pub weight: Option<&'a [T]>,
    /// Whether `mean` and `rstd` were those of `x`, so that gradients flow through them.
    pub is_training: bool,
}

impl<T: Float> BatchNormBackward<'_, T> {
    /// Writes the gradients of weight and bias, and of the input if asked for.
    pub fn run(&self, grad_x: Option<&mut [T]>, grad_weight: &mut [T], grad_bias: &mut [T]) {
        let Self { grad, x, planes, mean, rstd, .. } = *self;
        let mut sums = vec![0.0; planes.channels];
        let mut dots = sums.clone();
        channel_sums(planes, [grad], [], &mut sums, |[g], []| g);
        channel_sums(planes, [grad, x], [mean], &mut dots, |[g, x], [m]| g * (x - m));
        for c in 0..planes.channels {
            grad_bias[c] = T::from_f64(sums[c]);
            grad_weight[c] = T::from_f64(dots[c] * rstd[c].to_f64());
        }
        let Some(grad_x) = grad_x else { return };
        let scale = times(rstd, self.weight);
        if !self.is_training {
            return per_channel(planes, [grad], [&scale], grad_x, |[g], [s]| g * s);
        }
        let count = planes.count();
        let shift: Vec<T> = sums.iter().map(|sum| T::from_f64(sum / count)).collect();
        let slope = |(dot, r): (&f64, &T)| T::from_f64(dot * r.to_f64() * r.to_f64() / count);
        let slope: Vec<T> = dots.iter().zip(rstd).map(slope).collect();
        let coefficients = [mean, &scale, &shift, &slope];
        per_channel(planes, [grad, x], coefficients, grad_x, |[g, x], [m, s, shift, slope]| {
            (g - shift - (x - m) * slope) * s
        });
    }
}

/// `rstd * weight` per channel.
fn times<T: Float>(rstd: &[T], weight: Option<&[T]>) -> Vec<T> {
    match weight {
        Some(weight) => rstd.iter().zip(weight).map(|(r, w)| *r * *w).collect(),
        None => rstd.to_vec(),
    }
}

impl Planes {
    /// Elements per channel.
    fn count(self) -> f64 {
        (self.batch * self.len) as f64
    }

    fn numel(self) -> usize {
        self.batch * self.channels * self.len
    }
}

/// `sums[c]` = sum of `f(xs, coefficients[c])` over the elements of channel `c`.
fn channel_sums<T: Float, const N: usize, const K: usize>(
    planes: Planes,
    xs: [&[T]; N],
    coefficients: [&[T]; K],
    sums: &mut [f64],
    f: impl Fn([T; N], [T; K]) -> T + Copy + Sync,
) {
    assert!(xs.iter().all(|x| x.len() == planes.numel()) && sums.len() == planes.channels);
    let sums = RowsMut::new(sums, 1);
    let tile = if planes.len == 1 { TILE } else { 1 };
    par::for_each_chunk(planes.channels.div_ceil(tile), grain(planes.batch * planes.len * tile), |tiles| {
        let channels = tiles.start * tile..planes.channels.min(tiles.end * tile);
        dispatch(Sums { planes, xs, coefficients, sums, f, channels });
    });
}

struct Sums<'a, T, F, const N: usize, const K: usize> {
    planes: Planes,
    xs: [&'a [T]; N],
    coefficients: [&'a [T]; K],
    sums: RowsMut<f64>,
    f: F,
    channels: Range<usize>,
}

impl<T: Float, F, const N: usize, const K: usize> Kernel for Sums<'_, T, F, N, K>
where
    F: Fn([T; N], [T; K]) -> T,
{
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        if self.planes.len == 1 {
            let (mut start, end) = (self.channels.start, self.channels.end);
            start = self.tiles::<TILE>(start, end);
            start = self.tiles::<8>(start, end);
            self.tiles::<1>(start, end);
            return;
        }
        let Planes { batch, channels, len } = self.planes;
        for channel in self.channels.clone() {
            let k = self.coefficients.map(|coefficients| coefficients[channel]);
            let mut total = 0.0;
            for sample in 0..batch {
                let plane = (sample * channels + channel) * len;
                total += sum_of(self.xs.map(|x| &x[plane..plane + len]), |xs| (self.f)(xs, k));
            }
            self.write(channel, total);
        }
    }
}

impl<T: Float, F, const N: usize, const K: usize> Sums<'_, T, F, N, K>
where
    F: Fn([T; N], [T; K]) -> T,
{
    #[inline(always)]
    fn write(&self, channel: usize, total: f64) {
        // SAFETY: tasks have disjoint channels, and `channel_sums` borrows the sums until all have ended.
        unsafe { self.sums.row(channel)[0] = total };
    }

    /// Sums columns in tiles of `W`, as many as fit from `start` to `end`; returns where the rest begins.
    #[inline(always)]
    fn tiles<const W: usize>(&self, mut start: usize, end: usize) -> usize {
        while start + W <= end {
            self.tile::<W>(start);
            start += W;
        }
        start
    }

    /// Sums the `W` columns from `start` on.
    #[inline(always)]
    fn tile<const W: usize>(&self, start: usize) {
        let Planes { batch, channels, .. } = self.planes;
        let mut k = [[T::default(); W]; K];
        for (k, coefficients) in k.iter_mut().zip(self.coefficients) {
            k.copy_from_slice(&coefficients[start..start + W]);
        }
        let mut totals = [0.0; W];
        for rows in (0..batch).step_by(TILE_ROWS) {
            let mut partial = [T::default(); W];
            for row in rows..batch.min(rows + TILE_ROWS) {
                let at = row * channels + start;
                let xs = self.xs.map(|x| &x[at..at + W]);
                for i in 0..W {
                    partial[i] += (self.f)(xs.map(|x| x[i]), std::array::from_fn(|n| k[n][i]));
                }
            }
            totals.iter_mut().zip(partial).for_each(|(total, sum)| *total += sum.to_f64());
        }
        for (i, total) in totals.iter().enumerate() {
            self.write(start + i, *total);
        }
    }
}

/// `out = f(xs, coefficients[c])`, element by element.
fn per_channel<T: Float, const N: usize, const K: usize>(
    planes: Planes,
    xs: [&[T]; N],
    coefficients: [&[T]; K],
    out: &mut [T],
    f: impl Fn([T; N], [T; K]) -> T + Copy + Sync,
) {
    assert!(xs.iter().all(|x| x.len() == out.len()) && out.len() == planes.numel());
    let cols = if planes.len == 1 { planes.channels } else { planes.len };
    if out.is_empty() {
        return;
    }
    let rows = out.len() / cols;
    let out = RowsMut::new(out, cols);
    par::for_each_chunk(rows, (4 * GRAIN / cols).max(1), |rows| {
        dispatch(Map { planes, xs, coefficients, cols, out, f, rows });
    });
}

struct Map<'a, T, F, const N: usize, const K: usize> {
    planes: Planes,
    xs: [&'a [T]; N],
    coefficients: [&'a [T]; K],
    cols: usize,
    out: RowsMut<T>,
    f: F,
    rows: Range<usize>,
}

impl<T: Float, F, const N: usize, const K: usize> Kernel for Map<'_, T, F, N, K>
where
    F: Fn([T; N], [T; K]) -> T,
{
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let cols = self.cols;
        for row in self.rows {
            let xs = self.xs.map(|x| &x[row * cols..(row + 1) * cols]);
            // SAFETY: tasks have disjoint rows, and `per_channel` borrows the output until all have ended.
            let out = unsafe { self.out.row(row) };
            if self.planes.len == 1 {
                let coefficients = self.coefficients.map(|k| &k[..cols]);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = (self.f)(xs.map(|x| x[i]), coefficients.map(|k| k[i]));
                }
            } else {
                let k = self.coefficients.map(|k| k[row % self.planes.channels]);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = (self.f)(xs.map(|x| x[i]), k);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, by: usize, shift: f64) -> Vec<f64> {
        (0..len).map(|i| (i * by % 1013) as f64 / 506.5 - 1.0 + shift).collect()
    }

    fn close<T: Float>(what: &str, got: &[T], exact: &[f64], tolerance: f64) {
        for (got, exact) in got.iter().zip(exact) {
            let is_close = (got.to_f64() - exact).abs() <= tolerance * exact.abs().max(1.0);
            assert!(is_close, "{what}: {got:?} for {exact}");
        }
    }

    fn check<T: Float>(batch: usize, channels: usize, len: usize, is_training: bool, tolerance: f64) {
        let planes = Planes { batch, channels, len };
        let cast = |v: &[f64]| v.iter().map(|v| T::from_f64(*v)).collect::<Vec<T>>();
        let (x, g) = (values(planes.numel(), 7919, 2.0), values(planes.numel(), 271, 0.0));
        let (w, b) = (values(channels, 17, 1.5), values(channels, 23, 0.0));
        let n = planes.count();
        let of = |c: usize| {
            (0..batch)
                .flat_map(move |s| (0..len).map(move |i| (s * channels + c) * len + i))
                .collect::<Vec<_>>()
        };
        let mut exact = [0; 5].map(|_| vec![0.0; channels]);
        let (mut exact_out, mut exact_gx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        for c in 0..channels {
            let at = of(c);
            let mean = at.iter().map(|i| x[*i]).sum::<f64>() / n;
            let variance = at.iter().map(|i| (x[*i] - mean).powi(2)).sum::<f64>() / n;
            let rstd = 1.0 / (variance + 1e-5).sqrt();
            let gw = at.iter().map(|i| g[*i] * (x[*i] - mean) * rstd).sum::<f64>();
            let gb = at.iter().map(|i| g[*i]).sum::<f64>();
            for (exact, value) in exact.iter_mut().zip([mean, variance, rstd, gw, gb]) {
                exact[c] = value;
            }
            for i in at {
                let y = (x[i] - mean) * rstd;
                exact_out[i] = y * w[c] + b[c];
                let through = if is_training { gb / n + y * gw / n } else { 0.0 };
                exact_gx[i] = w[c] * rstd * (g[i] - through);
            }
        }
        let (tx, tg, tw, tb, trstd) = (cast(&x), cast(&g), cast(&w), cast(&b), cast(&exact[2]));
        let zeros = |len: usize| vec![T::default(); len];
        let (mut mean, mut variance, mut out) = (zeros(channels), zeros(channels), zeros(x.len()));
        channel_moments(&tx, planes, &mut mean, &mut variance);
        batch_norm(&tx, planes, &mean, &trstd, Some(&tw), Some(&tb), &mut out);
        let (mut gx, mut gw, mut gb) = (zeros(x.len()), zeros(channels), zeros(channels));
        let backward = BatchNormBackward {
            grad: &tg,
            x: &tx,
            planes,
            mean: &mean,
            rstd: &trstd,
            weight: Some(&tw),
            is_training,
        };
        backward.run(Some(&mut gx), &mut gw, &mut gb);
        close("mean", &mean, &exact[0], tolerance);
        close("variance", &variance, &exact[1], tolerance);
        close("out", &out, &exact_out, tolerance);
        close("grad_x", &gx, &exact_gx, tolerance);
        close("grad_weight", &gw, &exact[3], tolerance * 10.0);
        close("grad_bias", &gb, &exact[4], tolerance * 10.0);
    }

    #[test]
    fn many_extents_in_both_modes() {
        let extents = [(64, 3, 1), (500, 70, 1), (4, 5, 9), (2, 3, 3000), (1, 40, 64), (32, 1, 1)];
        for (batch, channels, len) in extents {
            for is_training in [true, false] {
                check::<f32>(batch, channels, len, is_training, 2e-5);
                check::<f64>(batch, channels, len, is_training, 1e-12);
            }
        }
    }

    #[test]
    fn far_from_zero_the_variance_is_right() {
        let x: Vec<f32> = (0..4096).map(|i| 1000.0 + (i % 2) as f32).collect();
        let planes = Planes { batch: 1, channels: 1, len: x.len() };
        let (mut mean, mut variance) = ([0.0], [0.0]);
        channel_moments(&x, planes, &mut mean, &mut variance);
        assert_eq!((mean, variance), ([1000.5], [0.25]));
    }
}
