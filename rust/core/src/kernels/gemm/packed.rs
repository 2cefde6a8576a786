//! Large products: blocks that fit the caches, operands packed into panels (after Goto and BLIS).
//!
//! For each block of columns and of k, all threads pack b (and a, where its own layout is no good),
//! then compute c in rectangles of tiles. A rectangle's panels of a stay in L2, the panel of b that
//! its tiles share stays in L1.

use std::ops::Range;

use super::buffer::with_scratch;
use super::kernel::{any_tile, Rows, Tile};
use super::pack::Pack;
use super::vector::{Vector, Vectored};
use super::{grain, width, Float, Mat, MatMut, Product};
use crate::par;
use crate::simd::{self, Level};

/// Longest block of k: a panel of b (at most 32 columns wide, or 16 for AVX2) leaves room in L1.
pub(super) const K_BLOCK: usize = 384;
/// Columns of a block: its packed b stays within a share of L3.
const N_BLOCK: usize = 4096;
/// Rows of a block, if a is packed.
const M_BLOCK: usize = 4096;
/// Rows of a rectangle: its part of a stays in L2.
const RECTANGLE_ROWS: usize = 144;
/// With fewer columns than this each element of a is read too rarely for packing to pay.
const PACK_A_COLUMNS: usize = 256;

/// Computes `p`.
///
/// # Safety
/// As for [`super::gemm`]; besides, c's rows are contiguous.
pub(super) unsafe fn multiply<T: Float>(p: Product<T>, level: Level) {
    let (mr, nr) = (width::<T>(level, true), width::<T>(level, false));
    let packs_a = !(p.a.col == 1 || p.a.row == 1) || p.n >= PACK_A_COLUMNS;
    let k_block = even(p.k, K_BLOCK, 1);
    let n_block = even(p.n, N_BLOCK, nr);
    let m_block = if packs_a { even(p.m, M_BLOCK, mr) } else { p.m };
    let b_len = k_block * n_block.next_multiple_of(nr);
    let a_len = if packs_a { k_block * m_block.next_multiple_of(mr) } else { 0 };
    with_scratch(b_len + a_len, |scratch: *mut T| {
        let packed_b = MatMut { ptr: scratch, row: 0, col: 1 };
        let packed_a = MatMut { ptr: scratch.wrapping_add(b_len), row: 0, col: 1 };
        for j in (0..p.n).step_by(n_block) {
            let n = n_block.min(p.n - j);
            for q in (0..p.k).step_by(k_block) {
                let k = k_block.min(p.k - q);
                for i in (0..p.m).step_by(m_block) {
                    let m = m_block.min(p.m - i);
                    let block = Block {
                        m,
                        n,
                        k,
                        a: p.a.from(i, q),
                        b: p.b.from(q, j),
                        c: MatMut { ptr: p.c.at(i, j), ..p.c },
                        packed_a,
                        packed_b,
                        added: p.added_to(i, j, q),
                        packs_a,
                        mr,
                        nr,
                    };
                    block.pack(i == 0);
                    block.compute();
                }
            }
        }
    });
}

/// Splits `len` into equal parts of at most `limit`, each a multiple of `unit`.
pub(super) fn even(len: usize, limit: usize, unit: usize) -> usize {
    len.div_ceil(len.div_ceil(limit)).next_multiple_of(unit)
}

/// A part of the product whose packed operands are in scratch at one time.
pub(super) struct Block<T> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Mat<T>,
    pub b: Mat<T>,
    pub c: MatMut<T>,
    pub packed_a: MatMut<T>,
    pub packed_b: MatMut<T>,
    /// What is added to the products: rows are contiguous.
    pub added: Option<Mat<T>>,
    pub packs_a: bool,
    pub mr: usize,
    pub nr: usize,
}

impl<T: Float> Block<T> {
    /// Packs a (if it is to be) and, `with_b`, b, on all threads.
    fn pack(&self, with_b: bool) {
        let b_panels = if with_b { self.n.div_ceil(self.nr) } else { 0 };
        let a_panels = if self.packs_a { self.m.div_ceil(self.mr) } else { 0 };
        // Copying an element takes as long as some ten multiplications.
        let work = 10 * self.k * (b_panels * self.nr + a_panels * self.mr);
        let count = b_panels + a_panels;
        par::for_each_chunk(count, grain(count, work), |panels| {
            let middle = b_panels.clamp(panels.start, panels.end);
            self.pack_b(panels.start..middle);
            self.pack_a(middle.saturating_sub(b_panels)..panels.end.saturating_sub(b_panels));
        });
    }

    fn pack_b(&self, panels: Range<usize>) {
        let columns = panels.start * self.nr..self.n.min(panels.end * self.nr);
        if !columns.is_empty() {
            let src = self.b.transposed().from(columns.start, 0);
            let out = self.packed_b.at(0, columns.start * self.k);
            simd::dispatch(Pack { src, lanes: columns.len(), k: self.k, out, is_a: false });
        }
    }

    fn pack_a(&self, panels: Range<usize>) {
        let rows = panels.start * self.mr..self.m.min(panels.end * self.mr);
        if !rows.is_empty() {
            let src = self.a.from(rows.start, 0);
            let out = self.packed_a.at(0, rows.start * self.k);
            simd::dispatch(Pack { src, lanes: rows.len(), k: self.k, out, is_a: true });
        }
    }

    /// Computes c in rectangles, on all threads.
    fn compute(&self) {
        let rows = even(self.m, RECTANGLE_ROWS, self.mr);
        let bands = self.m.div_ceil(rows);
        // On one thread a rectangle is a whole band. More threads get some each, so that one that is
        // late does not hold up the others; c's values do not depend on where the borders are.
        let threads = par::num_threads();
        let per_band = if threads == 1 { 1 } else { (threads * 4).div_ceil(bands) };
        let columns = self.n.div_ceil(per_band).max(4 * self.nr).next_multiple_of(self.nr);
        let per_band = self.n.div_ceil(columns);
        let count = bands * per_band;
        par::for_each_chunk(count, grain(count, self.m * self.n * self.k), |range| {
            for index in range {
                let (i, j) = (index / per_band * rows, index % per_band * columns);
                simd::dispatch(Rectangle {
                    block: self,
                    rows: i..self.m.min(i + rows),
                    columns: j..self.n.min(j + columns),
                });
            }
        });
    }
}

/// Part of a block's c that one thread computes.
pub(super) struct Rectangle<'a, T> {
    pub block: &'a Block<T>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl<T: Float> Vectored for Rectangle<'_, T> {
    type Elem = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) {
        let block = self.block;
        let nr = 2 * V::LANES;
        for j in self.columns.clone().step_by(nr) {
            let columns = nr.min(self.columns.end - j);
            let mut i = self.rows.start;
            while i < self.rows.end {
                let left = self.rows.end - i;
                // Packed panels have MR rows; without packing rows are spread evenly over the tiles.
                let (rows, a, layout) = if block.packs_a {
                    let panel = Mat { ptr: block.packed_a.at(0, i * block.k).cast_const(), row: 1, col: 0 };
                    (left.min(V::MR), panel, Rows::Packed)
                } else {
                    (left.div_ceil(left.div_ceil(V::MR)), block.a.from(i, 0), Rows::Strided)
                };
                let tile = Tile {
                    k: block.k,
                    a,
                    b: block.packed_b.at(0, j * block.k).cast_const(),
                    b_row: nr as isize,
                    c: block.c.at(i, j),
                    c_row: block.c.row,
                    added: block.added.map(|added| added.from(i, j)),
                };
                // SAFETY: the tile is inside this rectangle, the panels were packed before.
                unsafe { any_tile::<V>(&tile, rows, columns, layout) };
                i += rows;
            }
        }
    }
}
