//! Products of bfloat16 where the processor multiplies it: sums in float32, rounded once at the end.
//!
//! The instruction (AVX512-BF16's `vdpbf16ps`) adds two products per lane, so operands are packed in pairs along k.
//! It rounds after each of the two additions, and takes subnormal numbers as 0. Everywhere else operands are
//! widened to float32 and multiplied as such. (AMX would be faster still; there was no machine to test it on.)
//!
//! A task packs its rows of a, and goes over blocks of columns, so that its sums stay in the L2 cache from a block
//! of k to the next; a panel of b stays in L1 (of 512 to 2048 cubed, a tenth faster than one long block of k).

mod lines;
mod pack;
mod tile;

use std::ops::Range;

use super::buffer::with_scratch;
use super::packed::even;
use super::{grain, prepared, Mat, MatMut, Product};
use crate::dtype::bf16;
use crate::par;
use crate::simd;
use pack::Pack;
use tile::{Tile, COLUMNS, ROWS};

/// Longest block of k: a panel of b is half of L1.
const K_BLOCK: usize = 512;
/// Longest part of k whose packed b is in memory at one time.
const K_PART: usize = 4096;
/// Columns of such a part: its b stays within a share of L3.
const N_PART: usize = 2048;
/// Rows of a task: its a stays in L2.
const TASK_ROWS: usize = 144;
/// Columns of a task whose sums stay in L2.
const SUM_COLUMNS: usize = 256;
/// Panels of b that are packed at a time.
const SIDE_BY_SIDE: usize = 8;

/// Computes `p`.
///
/// # Safety
/// As for [`super::gemm`].
pub(super) unsafe fn multiply(p: Product<bf16>) {
    assert!(simd::has_bf16(), "callers widen bfloat16 for other processors");
    // SAFETY: the caller's promise, handed on to the path that fits.
    unsafe {
        let Some(p) = prepared(p) else { return };
        if lines::fits(&p) {
            return lines::multiply(p);
        }
        let (n_part, k_part) = (even(p.n, N_PART, COLUMNS), even(p.k, K_PART, 2));
        // The sums wait here for the next part of k.
        let width = if p.k > k_part { n_part } else { 0 };
        let mut sums = Vec::<f32>::with_capacity(p.m.next_multiple_of(ROWS) * width);
        let sums = MatMut { ptr: sums.as_mut_ptr(), row: width as isize, col: 1 };
        with_scratch(n_part * k_part.div_ceil(2), |panels: *mut u32| {
            for j in (0..p.n).step_by(n_part) {
                for q in (0..p.k).step_by(k_part) {
                    let (columns, ks) = (j..p.n.min(j + n_part), q..p.k.min(q + k_part));
                    let part =
                        Part { p: &p, columns, ks, panels: MatMut { ptr: panels, row: 0, col: 1 }, sums };
                    part.pack();
                    part.compute();
                }
            }
        });
    }
}

/// The part of a product whose packed b is in memory.
struct Part<'a> {
    p: &'a Product<bf16>,
    columns: Range<usize>,
    ks: Range<usize>,
    /// Packed b: blocks of k one after the other, each of whole panels.
    panels: MatMut<u32>,
    /// Sums of the parts of k so far; of rows without length if k has one part.
    sums: MatMut<f32>,
}

impl Part<'_> {
    /// Blocks of k, from the start of `ks`.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + Clone {
        let (len, block) = (self.ks.len(), even(self.ks.len(), K_BLOCK, 2));
        (0..len).step_by(block).map(move |start| start..len.min(start + block))
    }

    /// Where the panel of b from column `j` on and a block of k stands.
    fn panel(&self, j: usize, block: &Range<usize>) -> *mut u32 {
        let width = self.columns.len().next_multiple_of(COLUMNS);
        self.panels.at(0, block.start / 2 * width + j * block.len().div_ceil(2))
    }

    /// Packs b, on all threads.
    fn pack(&self) {
        let columns = SIDE_BY_SIDE * COLUMNS;
        let (per_block, blocks) = (self.columns.len().div_ceil(columns), self.blocks());
        let count = per_block * blocks.clone().count();
        // Copying an element takes as long as some ten multiplications.
        let work = 10 * self.columns.len() * self.ks.len();
        par::for_each_chunk(count, grain(count, work), |range| {
            for index in range {
                let (block, j) = (blocks.clone().nth(index / per_block), index % per_block * columns);
                let block = block.expect("indices below the number of blocks");
                let src = self.p.b.from(self.ks.start + block.start, self.columns.start + j).transposed();
                let (lanes, k) = (columns.min(self.columns.len() - j), block.len());
                simd::dispatch(Pack::<COLUMNS> { src, lanes, k, out: self.panel(j, &block) });
            }
        });
    }

    /// Computes c in tasks of some rows, on all threads.
    fn compute(&self) {
        let n = self.columns.len();
        let rows = even(self.p.m, TASK_ROWS, ROWS);
        let bands = self.p.m.div_ceil(rows);
        // As for other types: a whole band on one thread, else parts of it for threads to share.
        let threads = par::num_threads();
        let per_band = if threads == 1 { 1 } else { (threads * 4).div_ceil(bands) };
        let columns = n.div_ceil(per_band).max(4 * COLUMNS).next_multiple_of(COLUMNS);
        let per_band = n.div_ceil(columns);
        let count = bands * per_band;
        par::for_each_chunk(count, grain(count, self.p.m * n * self.ks.len() / 2), |range| {
            for index in range {
                let (i, j) = (index / per_band * rows, index % per_band * columns);
                self.task(i..self.p.m.min(i + rows), j..n.min(j + columns));
            }
        });
    }

    /// Packs rows of a, and multiplies them with columns of the part.
    fn task(&self, rows: Range<usize>, columns: Range<usize>) {
        let padded = rows.len().next_multiple_of(ROWS);
        let a_len = padded * self.ks.len().div_ceil(2);
        let blocks = self.blocks();
        with_scratch(a_len + padded * SUM_COLUMNS, |scratch: *mut u32| {
            let panel = |i: usize, block: &Range<usize>| {
                scratch.wrapping_add(block.start / 2 * padded + i * block.len().div_ceil(2))
            };
            for block in blocks.clone() {
                let src = self.p.a.from(rows.start, self.ks.start + block.start);
                simd::dispatch(Pack::<ROWS> {
                    src,
                    lanes: rows.len(),
                    k: block.len(),
                    out: panel(0, &block),
                });
            }
            let own = MatMut { ptr: scratch.wrapping_add(a_len).cast(), row: SUM_COLUMNS as isize, col: 1 };
            let is_single = blocks.clone().count() == 1;
            let step = if is_single { columns.len() } else { SUM_COLUMNS };
            for first in columns.clone().step_by(step) {
                for block in blocks.clone() {
                    for j in (first..columns.end.min(first + step)).step_by(COLUMNS) {
                        for i in (0..rows.len()).step_by(ROWS) {
                            let (row, column) = (rows.start + i, self.columns.start + j);
                            let tile = Tile {
                                pairs: block.len().div_ceil(2),
                                a: panel(i, &block),
                                b: self.panel(j, &block),
                                rows: ROWS.min(rows.len() - i),
                                columns: COLUMNS.min(columns.end - j),
                                sums: match self.sums.row {
                                    0 => own.from(i, j - first),
                                    _ => self.sums.from(row, j),
                                },
                                is_first: self.ks.start + block.start == 0,
                                is_last: self.ks.start + block.end == self.p.k,
                                c: self.p.c.from(row, column),
                                added: self.p.added.map(|added| added.from(row, column)),
                            };
                            // SAFETY: the tile is inside this task's part of c, and its panels are packed.
                            unsafe { tile.compute() };
                        }
                    }
                }
            }
        });
    }
}
