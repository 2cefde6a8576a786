//! The gradient of the bias: sums of all outputs of a channel.

use super::{ConvGeometry, Float};
use crate::kernels::gemm::{Vector, Vectored};
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd;

/// Elements that are worth a task of their own.
const GRAIN: usize = 1 << 17;
/// Vectors of sums: as many as hide the latency of an addition.
const SUMS: usize = 4;

/// Writes the gradient of the bias of `conv`: the sum of each channel of `grad_out`.
///
/// # Panics
/// For channels that come last.
pub fn conv_grad_bias<T: Float>(geometry: &ConvGeometry, grad_out: &[T], grad_bias: &mut [T]) {
    assert!(!geometry.channels_last);
    assert_eq!(grad_bias.len(), geometry.out_channels);
    assert_eq!(grad_out.len(), geometry.output_numel());
    let volume = geometry.out_extents().iter().product::<usize>();
    let channels = geometry.out_channels;
    let out = SharedSlice::new(grad_bias);
    par::for_each_chunk(channels, GRAIN.div_ceil((geometry.batch * volume).max(1)), |range| {
        for channel in range {
            let first = grad_out.get(channel * volume..).unwrap_or_default(); // nothing of no images
            let sum =
                simd::dispatch(Channel { first, batch: geometry.batch, volume, step: channels * volume });
            // SAFETY: chunks are disjoint and lie in 0..out_channels.
            unsafe { out.at(channel).write(T::from_f64(sum)) };
        }
    });
}

/// The volumes of a channel, `step` elements apart.
struct Channel<'a, T> {
    first: &'a [T],
    batch: usize,
    volume: usize,
    step: usize,
}

impl<T: Float> Vectored for Channel<'_, T> {
    type Elem = T;
    type Output = f64;

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) -> f64 {
        let mut total = 0.0;
        for image in 0..self.batch {
            let volume = &self.first[image * self.step..][..self.volume];
            // Doubles between volumes: a batch has many.
            // SAFETY: the caller's promise.
            total += unsafe { sum::<V>(volume) }.to_f64();
        }
        total
    }
}

/// The sum of a volume.
///
/// # Safety
/// The instruction set of `V` is there.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // constant bounds: all sums stay in registers
unsafe fn sum<V: Vector>(volume: &[V::Elem]) -> V::Elem {
    // SAFETY: vectors inside of the volume, and the rest of it.
    unsafe {
        let mut sums = [V::zero(); SUMS];
        let mut at = 0;
        while at + SUMS * V::LANES <= volume.len() {
            for i in 0..SUMS {
                sums[i] = sums[i].add(V::load(volume.as_ptr().add(at + i * V::LANES)));
            }
            at += SUMS * V::LANES;
        }
        while at < volume.len() {
            let len = V::LANES.min(volume.len() - at);
            sums[0] = sums[0].add(V::load_part(volume.as_ptr().add(at), len));
            at += len;
        }
        let [a, b, c, d] = sums;
        a.add(b).add(c.add(d)).sum()
    }
}
