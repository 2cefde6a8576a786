//! Products whose operands both run along k (`x @ w.T`): several scalar products at a time.

// Indexed loops of constant length: every one is unrolled, and acc stays in registers.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::vector::{Vector, Vectored};
use super::{grain, Float, Product};
use crate::par;
use crate::simd;

/// Up to so many rows it does not pay to pack b; of float64 it pays sooner (`32 rows, A Bt 1024`).
pub(super) const fn max_rows<T>() -> usize {
    if size_of::<T>() == 4 {
        40
    } else {
        24
    }
}

/// Length of the partial sums: bounds the error of long rows and what must stay in cache.
const K_BLOCK: usize = 4096;
/// Columns that a thread takes at a time: a multiple of every tile's.
const COLUMNS: usize = 24;

/// Computes `p`.
///
/// # Safety
/// As for [`super::gemm`]; besides, `a.col == 1` and `b.row == 1`.
pub(super) unsafe fn multiply<T: Float>(p: Product<T>) {
    let count = p.n.div_ceil(COLUMNS);
    par::for_each_chunk(count, grain(count, p.work()), |range| {
        simd::dispatch(Strip { p, columns: range.start * COLUMNS..p.n.min(range.end * COLUMNS) });
    });
}

struct Strip<T> {
    p: Product<T>,
    columns: Range<usize>,
}

impl<T: Float> Vectored for Strip<T> {
    type Elem = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) {
        let m = self.p.m;
        for start in (0..self.p.k).step_by(K_BLOCK) {
            let k = start..self.p.k.min(start + K_BLOCK);
            let mut j = self.columns.start;
            while j < self.columns.end {
                let left = self.columns.end - j;
                let columns = if m == 1 && left >= 8 { 8 } else { left.min(3) };
                let mut i = 0;
                while i < m {
                    let rows = (m - i).min(4);
                    // SAFETY: rows i.., columns j.. and k lie inside the operands.
                    unsafe {
                        match (rows, columns) {
                            (1, 8) => self.tile::<V, 1, 8>(i, j, &k),
                            (4, 3) => self.tile::<V, 4, 3>(i, j, &k),
                            (4, 2) => self.tile::<V, 4, 2>(i, j, &k),
                            (4, 1) => self.tile::<V, 4, 1>(i, j, &k),
                            (3, 3) => self.tile::<V, 3, 3>(i, j, &k),
                            (2, 3) => self.tile::<V, 2, 3>(i, j, &k),
                            (1, 3) => self.tile::<V, 1, 3>(i, j, &k),
                            _ => {
                                for (r, s) in (0..rows).flat_map(|r| (0..columns).map(move |s| (r, s))) {
                                    self.tile::<V, 1, 1>(i + r, j + s, &k);
                                }
                            }
                        }
                    }
                    i += rows;
                }
                j += columns;
            }
        }
    }
}

impl<T: Float> Strip<T> {
    /// `M` x `N` scalar products over a block of k. An element's value does not depend on the tile:
    /// lane l sums k = l, l + LANES, ... in order, then the lanes are summed.
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = T>, const M: usize, const N: usize>(
        &self,
        i: usize,
        j: usize,
        k: &Range<usize>,
    ) {
        let p = &self.p;
        let (a, b) = (p.a.at(i, k.start), p.b.at(k.start, j));
        let whole = k.len() / V::LANES * V::LANES;
        let rest = k.len() - whole;
        // SAFETY: the caller's rows, columns and block of k are inside the operands.
        unsafe {
            let mut acc = [[V::zero(); N]; M];
            let mut q = 0;
            while q < whole {
                let mut columns = [V::zero(); N];
                for s in 0..N {
                    columns[s] = V::load(b.offset(s as isize * p.b.col).add(q));
                }
                for r in 0..M {
                    let x = V::load(a.offset(r as isize * p.a.row).add(q));
                    for s in 0..N {
                        acc[r][s] = x.fma(columns[s], acc[r][s]);
                    }
                }
                q += V::LANES;
            }
            for r in 0..M {
                for s in 0..N {
                    if rest > 0 {
                        let x = V::load_part(a.offset(r as isize * p.a.row).add(whole), rest);
                        let y = V::load_part(b.offset(s as isize * p.b.col).add(whole), rest);
                        acc[r][s] = x.fma(y, acc[r][s]);
                    }
                    let sum = acc[r][s].sum();
                    let added = p.added_to(i + r, j + s, k.start);
                    *p.c.at(i + r, j + s) = added.map_or(sum, |added| (*added.ptr).add(sum));
                }
            }
        }
    }
}
