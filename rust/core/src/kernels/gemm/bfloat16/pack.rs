//! Packing in pairs along k: two numbers that one instruction multiplies stand side by side.

use super::super::pack::{Pack as Plain, Transpose};
use super::Mat;
use crate::dtype::bf16;
use crate::simd::{Isa, Kernel};

/// Packs panels of `W` lines: pair after pair, two numbers of each line. What an odd k or the last panel lacks is 0.
#[derive(Clone, Copy)]
pub(super) struct Pack<const W: usize> {
    /// Element (lane, k).
    pub src: Mat<bf16>,
    /// Lines of all panels together.
    pub lanes: usize,
    pub k: usize,
    /// Room for whole panels.
    pub out: *mut u32,
}

impl<const W: usize> Kernel for Pack<W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let pairs = self.k.div_ceil(2);
        // SAFETY: lanes and k are inside the source, panels inside the room, by the struct's description.
        unsafe {
            let whole = if self.src.row == 1 { self.lanes / W } else { 0 };
            self.interleave(whole);
            for first in (whole * W..self.lanes).step_by(W) {
                let one = Self {
                    src: self.src.from(first, 0),
                    lanes: W.min(self.lanes - first),
                    out: self.out.add(first * pairs),
                    ..self
                };
                one.panel::<I>();
            }
        }
    }
}

/// The pair that a register holds: the first number in its low half.
#[inline(always)]
fn pair(first: bf16, second: bf16) -> u32 {
    u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
}

impl<const W: usize> Pack<W> {
    /// Lanes are neighbours in memory: two rows become one of pairs. Panels are written side by side, so that the
    /// source is read in long runs (2048 columns: half the time).
    #[inline(always)]
    unsafe fn interleave(&self, panels: usize) {
        let pairs = self.k.div_ceil(2);
        for p in 0..pairs {
            for panel in 0..panels {
                // SAFETY: by the description of the fields.
                unsafe {
                    let load = |k: usize| self.src.at(panel * W, k).cast::<[bf16; W]>().read_unaligned();
                    let first = load(2 * p);
                    let second = if 2 * p + 1 < self.k { load(2 * p + 1) } else { [bf16::ZERO; W] };
                    let to = self.out.add((panel * pairs + p) * W);
                    for lane in 0..W {
                        *to.add(lane) = pair(first[lane], second[lane]);
                    }
                }
            }
        }
    }

    /// One panel, which need not be whole.
    #[inline(always)]
    unsafe fn panel<I: Isa>(&self) {
        let Self { src, lanes, k, out } = *self;
        // SAFETY: by the description of the fields.
        unsafe {
            if lanes < W {
                out.write_bytes(0, k.div_ceil(2) * W);
            }
            let mut first = 0;
            if src.col == 1 && src.row % 2 == 0 && src.ptr.cast::<f32>().is_aligned() {
                // Pairs are side by side already, and move as float32 do.
                let src = Mat { ptr: src.ptr.cast::<f32>(), row: src.row / 2, col: 1 };
                let pack = Plain { src, lanes, k: k / 2, out: out.cast(), is_a: false };
                Transpose { pack, width: W }.run::<I>();
                first = k / 2;
            }
            for p in first..k.div_ceil(2) {
                for lane in 0..lanes {
                    let second = if 2 * p + 1 < k { *src.at(lane, 2 * p + 1) } else { bf16::ZERO };
                    *out.add(p * W + lane) = pair(*src.at(lane, 2 * p), second);
                }
            }
        }
    }
}
