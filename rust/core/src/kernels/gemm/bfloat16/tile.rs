//! The register tile: rows of a packed in pairs, times a panel of b.

// Indexed loops of constant length: every one is unrolled, and sums stay in registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::{Mat, MatMut};
use crate::dtype::bf16;

/// Rows of a panel of a, and of a tile at most.
pub(super) const ROWS: usize = 12;
/// Columns of a panel of b, and of a tile at most: two vectors of sums.
pub(super) const COLUMNS: usize = 32;
const LANES: usize = 16;

/// A tile's operands, for a block of k.
pub(super) struct Tile {
    pub pairs: usize,
    /// Per pair, two numbers of each of `ROWS` rows.
    pub a: *const u32,
    /// Per pair, two numbers of each of `COLUMNS` columns.
    pub b: *const u32,
    pub rows: usize,
    pub columns: usize,
    /// Sums from block to block: room for a whole tile, with rows that are contiguous.
    pub sums: MatMut<f32>,
    pub is_first: bool,
    pub is_last: bool,
    pub c: MatMut<bf16>,
    /// What the last block adds; rows are contiguous.
    pub added: Option<Mat<bf16>>,
}

impl Tile {
    /// Computes it.
    ///
    /// # Safety
    /// The pointers are valid for the tile, and the processor has AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub unsafe fn compute(&self) {
        // SAFETY: the caller's promise. Panels hold whole tiles: rows that are missing are multiplied and not stored.
        unsafe {
            match self.rows {
                0..=2 => self.block::<2>(),
                3..=4 => self.block::<4>(),
                5..=8 => self.block::<8>(),
                _ => self.block::<ROWS>(),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn block<const M: usize>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; M];
            if self.is_last {
                for i in 0..M {
                    _mm_prefetch::<_MM_HINT_T0>(self.c.at(i, 0).cast());
                }
            }
            if !self.is_first {
                for i in 0..M {
                    for half in 0..2 {
                        sums[i][half] = _mm512_loadu_ps(self.sums.at(i, half * LANES));
                    }
                }
            }
            let (mut a, mut b) = (self.a, self.b);
            for _ in 0..self.pairs {
                let columns: [__m512bh; 2] = [
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.cast())),
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.add(LANES).cast())),
                ];
                for i in 0..M {
                    let row = transmute::<__m512i, __m512bh>(_mm512_set1_epi32((*a.add(i)).cast_signed()));
                    for half in 0..2 {
                        sums[i][half] = _mm512_dpbf16_ps(sums[i][half], row, columns[half]);
                    }
                }
                a = a.wrapping_add(ROWS);
                b = b.wrapping_add(COLUMNS);
            }
            for i in 0..M {
                for half in 0..2 {
                    if !self.is_last {
                        _mm512_storeu_ps(self.sums.at(i, half * LANES), sums[i][half]);
                    } else if i < self.rows {
                        self.finish(i, half, sums[i][half]);
                    }
                }
            }
        }
    }

    /// Adds what is to be added, rounds and stores.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn finish(&self, i: usize, half: usize, mut sum: __m512) {
        let len = LANES.min(self.columns.saturating_sub(half * LANES));
        let mask = ((1u32 << len) - 1) as __mmask16;
        // SAFETY: the caller's promise; lanes that are masked out are not touched.
        unsafe {
            if let Some(added) = self.added {
                let more = _mm256_maskz_loadu_epi16(mask, added.at(i, half * LANES).cast());
                let more = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(more)));
                sum = _mm512_add_ps(sum, more);
            }
            let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sum));
            _mm256_mask_storeu_epi16(self.c.at(i, half * LANES).cast(), mask, rounded);
        }
    }
}
