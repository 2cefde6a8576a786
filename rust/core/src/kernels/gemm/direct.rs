//! Products of few rows, of a short k, or small ones, straight from the operands: b's rows are contiguous.

use std::ops::Range;

use super::kernel::{any_tile, wide_tile, Rows, Tile, WIDE};
use super::vector::{Vector, Vectored};
use super::{grain, Float, Product};
use crate::par;
use crate::simd;

/// Rows of b that one sweep over the columns reads, if b is large: each is then one stream, which
/// the processor reads ahead. More rows would share too few sets of the caches.
const K_BLOCK: usize = 8;

/// Elements of b that stay in cache: such a b is read in one sweep, in any order.
const SMALL_B: usize = 1 << 15;

/// With so short a k what takes time is to write c, which is best done in long rows, one after the other
/// (`Linear(1024, 1024), batch 1, backward`, whose gradient of the weight has k = 1).
const SHORT_K: usize = 16;
/// Rows that are then written side by side.
const ROWS: usize = 3;
/// Columns that make a row long.
const LONG: usize = 128;

fn is_written_by_rows<T>(p: &Product<T>) -> bool {
    p.k <= SHORT_K && p.n >= LONG && p.k * p.n <= SMALL_B
}

/// Whether packing b would not pay: it is read only once or twice, or all is small.
pub(super) fn fits<T>(p: &Product<T>) -> bool {
    p.m <= 3 || is_written_by_rows(p) || (p.m <= 8 && p.k * p.n <= SMALL_B) || p.m.max(p.n).max(p.k) <= 64
}

/// Computes `p`.
///
/// # Safety
/// As for [`super::gemm`]; besides, `b.col == 1` and c's rows are contiguous.
pub(super) unsafe fn multiply<T: Float>(p: Product<T>) {
    if is_written_by_rows(&p) {
        let count = p.m.div_ceil(ROWS);
        return par::for_each_chunk(count, grain(count, p.work().max(p.m * p.n * SHORT_K)), |range| {
            for first in range.map(|index| index * ROWS) {
                let rows = first..p.m.min(first + ROWS);
                simd::dispatch(Strip { p, rows, columns: 0..p.n, k_block: p.k });
            }
        });
    }
    // Columns are split on cache lines of c, so that threads do not share them.
    let columns = 64;
    let count = p.n.div_ceil(columns);
    let k_block = if p.k * p.n <= SMALL_B { p.k } else { K_BLOCK };
    par::for_each_chunk(count, grain(count, p.work()), |range| {
        let columns = range.start * columns..p.n.min(range.end * columns);
        simd::dispatch(Strip { p, rows: 0..p.m, columns, k_block });
    });
}

/// Computes `p` on this thread, with one sweep over k.
///
/// # Safety
/// As for `multiply`.
pub(super) unsafe fn multiply_here<T: Float>(p: Product<T>) {
    simd::dispatch(Strip { p, rows: 0..p.m, columns: 0..p.n, k_block: p.k });
}

struct Strip<T> {
    p: Product<T>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Rows of b in a sweep.
    k_block: usize,
}

impl<T: Float> Vectored for Strip<T> {
    type Elem = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) {
        let p = &self.p;
        let tiles = self.rows.len().div_ceil(V::MR);
        let mut start = 0;
        while start < p.k {
            let k = self.k_block.min(p.k - start);
            let mut j = self.columns.start;
            while j < self.columns.end {
                let left = self.columns.end - j;
                let wide = self.rows.len() <= 3 && left >= WIDE * V::LANES;
                let columns = if wide { WIDE * V::LANES } else { left.min(2 * V::LANES) };
                let mut first = self.rows.start;
                for index in 0..tiles {
                    // Rows are spread evenly: 8 are 4 + 4, not 6 + 2.
                    let rows = (self.rows.end - first).div_ceil(tiles - index);
                    let tile = Tile {
                        k,
                        a: p.a.from(first, start),
                        b: p.b.at(start, j),
                        b_row: p.b.row,
                        c: p.c.at(first, j),
                        c_row: p.c.row,
                        added: p.added_to(first, j, start),
                    };
                    // SAFETY: the tile lies inside the strip.
                    unsafe {
                        if wide {
                            wide_tile::<V>(&tile, rows);
                        } else {
                            any_tile::<V>(&tile, rows, columns, Rows::Strided);
                        }
                    }
                    first += rows;
                }
                j += columns;
            }
            start += k;
        }
    }
}
