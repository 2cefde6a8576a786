//! Packing: a panel of rows of A (or columns of B) is copied so that a tile reads it in one stream.

use super::{Float, Mat};
use crate::simd::{Isa, Kernel};

/// Panels that are copied at a time.
const SIDE_BY_SIDE: usize = 16;

/// Packs neighbouring panels: of each, `width` lines of `k` elements become `k` groups of `width`
/// elements. Only the last panel may have fewer lines; the lanes that it lacks are left as they are,
/// for tiles do not read them.
#[derive(Clone, Copy)]
pub(in super::super) struct Pack<T> {
    /// Element (lane, k); `row` is the stride from lane to lane.
    pub src: Mat<T>,
    /// Lines of all panels together.
    pub lanes: usize,
    pub k: usize,
    pub out: *mut T,
    pub is_a: bool,
}

impl<T: Float> Kernel for Pack<T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let level = I::LEVEL;
        let width = super::width::<T>(level, self.is_a);
        // SAFETY: `packed` sizes the buffer for full panels and passes lanes and k inside the matrix.
        unsafe {
            let whole = if self.src.row == 1 { self.lanes / width } else { 0 };
            match width {
                6 => self.copy::<6>(whole),
                12 => self.copy::<12>(whole),
                4 => self.copy::<4>(whole),
                8 => self.copy::<8>(whole),
                16 => self.copy::<16>(whole),
                32 => self.copy::<32>(whole),
                _ => unreachable!("panels of {width} lanes"),
            }
            for panel in whole..self.lanes.div_ceil(width) {
                let first = panel * width;
                let one = Pack {
                    src: self.src.from(first, 0),
                    lanes: width.min(self.lanes - first),
                    out: self.out.add(first * self.k),
                    ..self
                };
                if self.src.col == 1 {
                    one.transpose::<I>(width);
                } else {
                    one.gather(width, 0);
                }
            }
        }
    }
}

/// Copies `pack`'s lines to `pack.out` as a single panel of `width` lanes.
pub(super) struct Transpose<T> {
    pub pack: Pack<T>,
    pub width: usize,
}

impl<T: Float> Kernel for Transpose<T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        // SAFETY: `transpose_block`'s caller promises lanes and k inside the source, and room for the panel.
        unsafe {
            if self.pack.src.col == 1 {
                self.pack.transpose::<I>(self.width);
            } else {
                self.pack.gather(self.width, 0);
            }
        }
    }
}

impl<T: Float> Pack<T> {
    /// Lanes are neighbours in memory. The first `panels` panels are copied side by side, so that
    /// the source is read in long runs: a run per panel would take 64 bytes of each page.
    #[inline(always)]
    unsafe fn copy<const W: usize>(&self, panels: usize) {
        for first in (0..panels).step_by(SIDE_BY_SIDE) {
            for p in 0..self.k {
                for panel in first..panels.min(first + SIDE_BY_SIDE) {
                    let from = self.src.at(panel * W, p);
                    // SAFETY: all W lanes are valid in the source, and the panel has room for k groups.
                    unsafe {
                        let to = self.out.add(panel * W * self.k + p * W);
                        to.cast::<[T; W]>().write_unaligned(from.cast::<[T; W]>().read_unaligned());
                    }
                }
            }
        }
    }

    /// k runs along memory: squares are transposed in registers.
    #[inline(always)]
    unsafe fn transpose<I: Isa>(&self, width: usize) {
        let side = T::SIDE;
        // A square may spill past its group into the next one, which is written later. So one k at
        // least is left to the plain loop, and the groups of lanes go from last to first.
        let blocks = self.k.saturating_sub(1) / side;
        let squares = self.lanes / side;
        let rest = self.lanes % side;
        for block in 0..blocks {
            let p = block * side;
            // SAFETY: lanes and k of each square are inside the source; a spill stays inside the panel.
            unsafe {
                let from = self.src.ptr.add(p);
                let to = self.out.add(p * width);
                for lane in (0..squares + usize::from(rest > 0)).rev().map(|square| square * side) {
                    let lanes = side.min(self.lanes - lane);
                    let corner = from.offset(lane as isize * self.src.row);
                    T::transpose::<I>(corner, self.src.row, lanes, to.add(lane), width);
                }
            }
        }
        // SAFETY: as above.
        unsafe { self.gather(width, blocks * side) };
    }

    /// Any strides, element by element, from `first_k` on.
    #[inline(always)]
    unsafe fn gather(&self, width: usize, first_k: usize) {
        for p in first_k..self.k {
            for lane in 0..self.lanes {
                // SAFETY: lane and p are inside the source and the panel.
                unsafe { *self.out.add(p * width + lane) = *self.src.at(lane, p) };
            }
        }
    }
}

/// Transposes a square the plain way: `out[p * width + lane] = src[lane * row + p]`.
///
/// # Safety
/// `lanes` lines of `side` elements are valid, and `side` groups of `width`.
#[inline(always)]
pub(super) unsafe fn transpose_plain<T: Copy>(
    side: usize,
    src: *const T,
    row: isize,
    lanes: usize,
    out: *mut T,
    width: usize,
) {
    for lane in 0..lanes {
        for p in 0..side {
            // SAFETY: by the caller's promise.
            unsafe { *out.add(p * width + lane) = *src.offset(lane as isize * row).add(p) };
        }
    }
}

/// Transposes 8 x 8 floats; lanes from `lanes` on are written as 0.
///
/// # Safety
/// AVX2; `lanes` lines of 8 elements, and room for 8 lanes in each of 8 groups.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn transpose_8x8(src: *const f32, row: isize, lanes: usize, out: *mut f32, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: by the caller's promise.
    unsafe {
        let mut r = [_mm256_setzero_ps(); 8];
        for (lane, value) in r.iter_mut().enumerate() {
            if lane < lanes {
                *value = _mm256_loadu_ps(src.offset(lane as isize * row));
            }
        }
        let mut pair = r;
        for i in 0..4 {
            pair[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            pair[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut quad = pair;
        for half in 0..2 {
            let p = 4 * half;
            quad[p] = _mm256_shuffle_ps::<0x44>(pair[p], pair[p + 2]);
            quad[p + 1] = _mm256_shuffle_ps::<0xee>(pair[p], pair[p + 2]);
            quad[p + 2] = _mm256_shuffle_ps::<0x44>(pair[p + 1], pair[p + 3]);
            quad[p + 3] = _mm256_shuffle_ps::<0xee>(pair[p + 1], pair[p + 3]);
        }
        for p in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(quad[p], quad[p + 4]);
            _mm256_storeu_ps(out.add(p * width), low);
        }
        for p in 0..4 {
            let high = _mm256_permute2f128_ps::<0x31>(quad[p], quad[p + 4]);
            _mm256_storeu_ps(out.add((p + 4) * width), high);
        }
    }
}

/// Transposes 4 x 4 doubles; lanes from `lanes` on are written as 0.
///
/// # Safety
/// AVX2; `lanes` lines of 4 elements, and room for 4 lanes in each of 4 groups.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn transpose_4x4(src: *const f64, row: isize, lanes: usize, out: *mut f64, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: by the caller's promise.
    unsafe {
        let mut r = [_mm256_setzero_pd(); 4];
        for (lane, value) in r.iter_mut().enumerate() {
            if lane < lanes {
                *value = _mm256_loadu_pd(src.offset(lane as isize * row));
            }
        }
        let (a, b) = (_mm256_unpacklo_pd(r[0], r[1]), _mm256_unpackhi_pd(r[0], r[1]));
        let (c, d) = (_mm256_unpacklo_pd(r[2], r[3]), _mm256_unpackhi_pd(r[2], r[3]));
        _mm256_storeu_pd(out, _mm256_permute2f128_pd::<0x20>(a, c));
        _mm256_storeu_pd(out.add(width), _mm256_permute2f128_pd::<0x20>(b, d));
        _mm256_storeu_pd(out.add(2 * width), _mm256_permute2f128_pd::<0x31>(a, c));
        _mm256_storeu_pd(out.add(3 * width), _mm256_permute2f128_pd::<0x31>(b, d));
    }
}
