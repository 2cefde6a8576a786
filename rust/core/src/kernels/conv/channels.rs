//! The product with channels in the lanes: pixels of a tile's source times vectors of weights.
//!
//! No output between rows is computed in vain, and any step between outputs is as good as 1; in return, the
//! channels should fill vectors, and unless channels come last the sums are transposed into planes.

use super::layout::Extent;
use super::product::{Product, Target};
use super::tile::{any_rows, Factors, Sums};
use super::weights::Block;
use super::window::copy_row;
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
    pub(super) unsafe fn channels<I: Isa, V: Vector<Elem = T>>(self) {
        for block in self.blocks.clone() {
            let block = self.weights.block(self.group, block);
            // SAFETY: the caller's promise.
            unsafe {
                match self.in_place(block, V::LANES) {
                    Some(out) => self.sums::<V>(block, out, self.target.step[2]),
                    None => {
                        self.buffer.resize(self.buffer.len().max(self.outputs.len() * block.pitch), T::ZERO);
                        let buffer = self.buffer.as_mut_ptr();
                        self.sums::<V>(block, buffer, block.pitch);
                        self.planes::<I>(block);
                    }
                }
            }
        }
    }

    /// Where the block's channels of the first output stand, if those of all outputs follow at equal steps and fill
    /// vectors: then their sums need no buffer.
    fn in_place(&self, block: Block<'_, T>, lanes: usize) -> Option<*mut T> {
        let (Extent { images, len: [slices, rows, cols] }, Target { out, channel, image, step }) =
            (self.tile, self.target);
        let are_rows_joined = rows == 1 || step[1] == cols * step[2];
        let are_slices_joined = slices == 1 || step[0] == rows * cols * step[2];
        let are_images_joined = images == 1 || image == slices * rows * cols * step[2];
        let are_joined = are_rows_joined && are_slices_joined && are_images_joined;
        (channel == 1 && block.rows.is_multiple_of(lanes) && are_joined)
            .then(|| out.wrapping_add(block.start))
    }

    /// All sums of a block: its channels for each output, which are `pitch` elements apart.
    ///
    /// # Safety
    /// As for `run`; `to` must have room for whole vectors of them.
    #[inline(always)]
    unsafe fn sums<V: Vector<Elem = T>>(&self, block: Block<'_, T>, to: *mut T, pitch: usize) {
        let (outputs, depth) = (self.outputs, self.offsets.len());
        let mut first = [T::ZERO; MAX_WIDTH];
        if let Some(bias) = self.bias {
            first[..block.rows].copy_from_slice(&bias[block.start..][..block.rows]);
        }
        let mut from = 0;
        loop {
            let end = depth.min(from + DEPTH);
            let (known, known_pitch) = if from == 0 { (first.as_ptr(), 0) } else { (to.cast_const(), pitch) };
            let factors = Factors {
                source: self.source.as_ptr(),
                starts: outputs,
                steps: &self.offsets[from..end],
                columns: block.data[from * block.pitch..].as_ptr(),
                pitch: block.pitch,
            };
            // SAFETY: each output plus offset lies in the source; a block has whole vectors of weights, and, by
            // the caller's promise, room for such sums.
            unsafe { any_rows::<V>(factors, block.rows <= V::LANES, Sums { to, pitch, known, known_pitch }) };
            from = end;
            if from == depth {
                break;
            }
        }
    }

    /// Brings the sums of a block into the planes of their channels.
    ///
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn planes<I: Isa>(&self, block: Block<'_, T>) {
        let Extent { images, len: [mut slices, mut rows, mut cols] } = self.tile;
        let Target { out, step, .. } = self.target;
        // Rows and slices of outputs that follow each other are one.
        if step[1..] == [cols, 1] {
            (rows, cols) = (1, rows * cols);
            if step[0] == cols {
                (slices, cols) = (1, slices * cols);
            }
        }
        for index in 0..images * slices {
            let (image, slice) = if slices == 1 { (index, 0) } else { (index / slices, index % slices) };
            let start = block.start * self.target.channel + image * self.target.image + slice * step[0];
            for row in 0..rows {
                let first = (index * rows + row) * cols;
                let from = self.buffer[first * block.pitch..].as_ptr();
                // SAFETY: the caller's promise; the buffer holds the sums of the row.
                unsafe {
                    let to = out.add(start + row * step[1]);
                    if self.target.channel == 1 {
                        for col in 0..cols {
                            let sums = std::slice::from_raw_parts(from.add(col * block.pitch), block.rows);
                            copy_row(sums, to.add(col * step[2]));
                        }
                        continue;
                    }
                    if step[2] == 1 {
                        let (x_row, out_row) = (block.pitch as isize, self.target.channel as isize);
                        Transposed { x: from, x_row, out: to, out_row, rows: cols, cols: block.rows }
                            .run::<I>();
                        continue;
                    }
                    for channel in 0..block.rows {
                        let (from, to) = (from.add(channel), to.add(channel * self.target.channel));
                        for col in 0..cols {
                            *to.add(col * step[2]) = *from.add(col * block.pitch);
                        }
                    }
                }
            }
        }
    }
}
