//! Products of few rows, or small ones, straight from the operands: b's rows are contiguous.

use std::ops::Range;

use super::kernel::{any_tile, wide_tile, Rows, Tile, WIDE};
use super::vector::Vector;
use super::{grain, Float, Product};
use crate::par;
use crate::simd::{self, Isa, Kernel, Level};

/// Rows of b that one sweep over the columns reads, if b is large: each is then one stream, which
/// the processor reads ahead. More rows would share too few sets of the caches.
const K_BLOCK: usize = 8;

/// Elements of b that stay in cache: such a b is read in one sweep, in any order.
const SMALL_B: usize = 1 << 15;

/// Whether packing b would not pay: it is read only once or twice, or all is small.
pub(super) fn fits<T>(p: &Product<T>) -> bool {
    p.m <= 3 || (p.m <= 8 && p.k * p.n <= SMALL_B) || p.m.max(p.n).max(p.k) <= 64
}

/// Computes `p`.
///
/// # Safety
/// As for [`super::gemm`]; besides, `b.col == 1` and c's rows are contiguous.
pub(super) unsafe fn multiply<T: Float>(p: Product<T>) {
    // Columns are split on cache lines of c, so that threads do not share them.
    let columns = 64;
    let count = p.n.div_ceil(columns);
    let k_block = if p.k * p.n <= SMALL_B { p.k } else { K_BLOCK };
    par::for_each_chunk(count, grain(count, p.work()), |range| {
        simd::dispatch(Strip { p, columns: range.start * columns..p.n.min(range.end * columns), k_block });
    });
}

/// Computes `p` on this thread, with one sweep over k.
///
/// # Safety
/// As for `multiply`.
pub(super) unsafe fn multiply_here<T: Float>(p: Product<T>) {
    simd::dispatch(Strip { p, columns: 0..p.n, k_block: p.k });
}

struct Strip<T> {
    p: Product<T>,
    columns: Range<usize>,
    /// Rows of b in a sweep.
    k_block: usize,
}

impl<T: Float> Kernel for Strip<T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        // SAFETY: `dispatch` checked the instruction set; `multiply` split the columns of c.
        unsafe {
            match I::LEVEL {
                Level::V4 => self.sweep::<T::V4>(),
                Level::V3 => self.sweep::<T::V3>(),
                Level::Baseline => self.sweep::<T::Base>(),
            }
        }
    }
}

impl<T: Float> Strip<T> {
    #[inline(always)]
    unsafe fn sweep<V: Vector<Elem = T>>(&self) {
        let p = &self.p;
        let tiles = p.m.div_ceil(V::MR);
        let mut start = 0;
        while start < p.k {
            let k = self.k_block.min(p.k - start);
            let mut j = self.columns.start;
            while j < self.columns.end {
                let left = self.columns.end - j;
                let wide = p.m <= 3 && left >= WIDE * V::LANES;
                let columns = if wide { WIDE * V::LANES } else { left.min(2 * V::LANES) };
                let mut first = 0;
                for index in 0..tiles {
                    // Rows are spread evenly: 8 are 4 + 4, not 6 + 2.
                    let rows = (p.m - first).div_ceil(tiles - index);
                    let tile = Tile {
                        k,
                        a: p.a.from(first, start),
                        b: p.b.at(start, j),
                        b_row: p.b.row,
                        c: p.c.at(first, j),
                        c_row: p.c.row,
                        accumulate: p.accumulate || start > 0,
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
