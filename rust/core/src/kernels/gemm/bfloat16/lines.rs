//! Products of few rows whose operands both run along k (`x @ w.T`): scalar products, nothing packed.

// Indexed loops of constant length: every one is unrolled, and sums stay in registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::mem::transmute;
use std::ops::Range;

use super::{grain, Product};
use crate::dtype::bf16;
use crate::par;

/// Whether it would not pay to pack b. The lanes of each sum are added up at the end, which lines must be long for
/// (24 rows of 256 numbers: twice the time of packed ones).
pub(super) fn fits(p: &Product<bf16>) -> bool {
    p.a.col == 1 && p.b.row == 1 && p.m <= if p.k >= 1024 { 24 } else { 8 }
}
/// Columns that a thread takes at a time.
const COLUMNS: usize = 32;
/// Numbers in a vector.
const LANES: usize = 32;

/// Computes `p`.
///
/// # Safety
/// As for [`super::super::gemm`]; besides, `a.col == 1` and `b.row == 1`, and the processor has AVX512-BF16.
pub(super) unsafe fn multiply(p: Product<bf16>) {
    let count = p.n.div_ceil(COLUMNS);
    par::for_each_chunk(count, grain(count, p.work()), |range| {
        // SAFETY: the caller's promise; columns are split between the threads.
        unsafe { strip(&p, range.start * COLUMNS..p.n.min(range.end * COLUMNS)) };
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn strip(p: &Product<bf16>, columns: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        if p.m == 1 {
            columns.step_by(8).for_each(|j| tile::<1, 8>(p, 0, j));
        } else {
            for j in columns.step_by(4) {
                (0..p.m).step_by(4).for_each(|i| tile::<4, 4>(p, i, j));
            }
        }
    }
}

/// `M` x `N` scalar products. What is missing at the edges repeats the last one, and is not stored.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn tile<const M: usize, const N: usize>(p: &Product<bf16>, i: usize, j: usize) {
    let rows: [*const bf16; M] = std::array::from_fn(|r| p.a.at((i + r).min(p.m - 1), 0));
    let columns: [*const bf16; N] = std::array::from_fn(|s| p.b.at(0, (j + s).min(p.n - 1)));
    // SAFETY: k elements of each line are valid, by the caller's promise; a mask hides what is beyond.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); N]; M];
        for q in (0..p.k).step_by(LANES) {
            let mask = u32::MAX >> (LANES - LANES.min(p.k - q));
            let load = |from: *const bf16| {
                transmute::<__m512i, __m512bh>(_mm512_maskz_loadu_epi16(mask, from.add(q).cast()))
            };
            let mut column = [load(columns[0]); N];
            for s in 1..N {
                column[s] = load(columns[s]);
            }
            for r in 0..M {
                let row = load(rows[r]);
                for s in 0..N {
                    sums[r][s] = _mm512_dpbf16_ps(sums[r][s], row, column[s]);
                }
            }
        }
        for r in 0..M.min(p.m - i) {
            for s in 0..N.min(p.n - j) {
                let more = p.added.map_or(0.0, |added| (*added.at(i + r, j + s)).to_f32());
                *p.c.at(i + r, j + s) = bf16::from_f32(_mm512_reduce_add_ps(sums[r][s]) + more);
            }
        }
    }
}
