//! The product with channels in the lanes: pixels of a tile's source times vectors of weights.
//!
//! No output between rows is computed in vain, and any step between outputs is as good as 1; in return, the
//! channels should fill vectors, and the sums must be transposed into their planes.

use super::layout::Extent;
use super::product::{Product, Target};
use super::tile::{any_rows, Factors, Sums};
use super::weights::Block;
use super::Float;
use crate::kernels::gemm::Vector;
use crate::kernels::transpose::Transposed;
use crate::simd::Isa;

/// Depth of the product that is computed at a time, so that a block of weights stays in the L1 cache.
const DEPTH: usize = 256;
/// The most channels of a block.
const MAX_WIDTH: usize = 32;

impl<T: Float> Product<'_, T> {
    /// Computes the tile, block by block.
    ///
    /// # Safety
    /// As for `run`, with the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn channels<I: Isa, V: Vector<Elem = T>>(mut self) {
        for block in self.blocks.clone() {
            let block = self.weights.block(self.group, block);
            // SAFETY: the caller's promise.
            unsafe {
                self.sums::<V>(block);
                self.planes::<I>(block);
            }
        }
    }

    /// All sums of a block, into the buffer: `pitch` channels for each output.
    #[inline(always)]
    unsafe fn sums<V: Vector<Elem = T>>(&mut self, block: Block<'_, T>) {
        let (outputs, depth) = (self.outputs, self.offsets.len());
        self.buffer.resize(self.buffer.len().max(outputs.len() * block.pitch), T::ZERO);
        let mut first = [T::ZERO; MAX_WIDTH];
        if let Some(bias) = self.bias {
            first[..block.rows].copy_from_slice(&bias[block.start..][..block.rows]);
        }
        let to = self.buffer.as_mut_ptr();
        for from in (0..depth).step_by(DEPTH) {
            let (known, known_pitch) =
                if from == 0 { (first.as_ptr(), 0) } else { (to.cast_const(), block.pitch) };
            let factors = Factors {
                source: self.source.as_ptr(),
                starts: outputs,
                steps: &self.offsets[from..depth.min(from + DEPTH)],
                columns: block.data[from * block.pitch..].as_ptr(),
                pitch: block.pitch,
            };
            // SAFETY: each output plus offset lies in the source; a block has whole vectors of weights, and
            // the buffer of sums.
            unsafe {
                any_rows::<V>(
                    factors,
                    block.rows <= V::LANES,
                    Sums { to, pitch: block.pitch, known, known_pitch },
                )
            };
        }
    }

    /// Brings the sums of a block into the planes of their channels.
    ///
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn planes<I: Isa>(&self, block: Block<'_, T>) {
        let Extent { images, rows, cols } = self.tile;
        let Target { out, step, .. } = self.target;
        let start = block.start * self.target.channel;
        // Rows of outputs that follow each other are one.
        let (rows, cols) = if step == [cols, 1] { (1, rows * cols) } else { (rows, cols) };
        for image in 0..images {
            for row in 0..rows {
                let from = self.buffer[(image * rows + row) * cols * block.pitch..].as_ptr();
                // SAFETY: the caller's promise; the buffer holds the sums of the row.
                unsafe {
                    let to = out.add(start + image * self.target.image + row * step[0]);
                    if step[1] == 1 {
                        let (x_row, out_row) = (block.pitch as isize, self.target.channel as isize);
                        Transposed { x: from, x_row, out: to, out_row, rows: cols, cols: block.rows }
                            .run::<I>();
                        continue;
                    }
                    for channel in 0..block.rows {
                        let (from, to) = (from.add(channel), to.add(channel * self.target.channel));
                        for col in 0..cols {
                            *to.add(col * step[1]) = *from.add(col * block.pitch);
                        }
                    }
                }
            }
        }
    }
}
