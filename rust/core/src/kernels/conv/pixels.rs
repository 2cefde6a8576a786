//! The product with pixels in the lanes: rows of weights times shifted runs of a tile's source.

use super::layout::{place, Extent, Layout};
use super::product::{Product, Target};
use super::weights::Block;
use super::window::copy_rows_to;
use super::Float;
use crate::kernels::gemm::Vector;

/// Depth of the product that is computed at a time, so that a block of weights stays in the L1 cache.
const DEPTH: usize = 512;
/// Vectors in a row of the register tile; a single row (depthwise) takes more, to have as many sums at work
/// as hide the latency of an addition.
const VECTORS: usize = 2;
const VECTORS_OF_ONE: usize = 8;

impl<T: Float> Product<'_, T> {
    /// Computes the tile, block by block.
    ///
    /// # Safety
    /// As for `run`, with the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn pixels<V: Vector<Elem = T>>(mut self) {
        for block in self.blocks.clone() {
            let block = self.weights.block(self.group, block);
            // SAFETY: the caller's promise.
            unsafe {
                match block.rows {
                    1 => self.rows::<V, 1, VECTORS_OF_ONE>(block),
                    2 => self.rows::<V, 2, VECTORS>(block),
                    3 => self.rows::<V, 3, VECTORS>(block),
                    4 => self.rows::<V, 4, VECTORS>(block),
                    5 => self.rows::<V, 5, VECTORS>(block),
                    6 => self.rows::<V, 6, VECTORS>(block),
                    7 if V::MR >= 7 => self.rows::<V, 7, VECTORS>(block),
                    8 if V::MR >= 8 => self.rows::<V, 8, VECTORS>(block),
                    rows => unreachable!("a block of {rows} rows"),
                }
            }
        }
    }

    /// `R` rows of the product over the whole run, from the buffer to the target.
    #[inline(always)]
    unsafe fn rows<V: Vector<Elem = T>, const R: usize, const N: usize>(&mut self, block: Block<'_, T>) {
        let (depth, columns) = (self.offsets.len(), N * V::LANES);
        let pitch = self.layout.run(self.tile).next_multiple_of(columns);
        self.buffer.resize(self.buffer.len().max(R * pitch), T::ZERO);
        let bias = std::array::from_fn(|row| self.bias.map_or(T::ZERO, |bias| bias[block.start + row]));
        let spans = Spans::of(self.layout, self.tile, N, V::LANES, pitch);
        let mut from = 0;
        loop {
            let to = depth.min(from + DEPTH);
            for span in 0..spans.count {
                let start = spans.start(span);
                for column in (start..start + spans.len).step_by(columns) {
                    // SAFETY: a run of `pitch` < run + SLOP elements from any offset lies in `source`,
                    // the weights hold R values per offset, and the buffer has R rows of `pitch`.
                    unsafe {
                        tile::<V, R, N>(
                            &self.offsets[from..to],
                            block.data.as_ptr().add(from * R),
                            self.source.as_ptr().add(column),
                            self.buffer.as_mut_ptr().add(column),
                            [pitch, spans.apart],
                            (from == 0).then_some(bias),
                        );
                    }
                }
            }
            from = to;
            if from == depth {
                break;
            }
        }
        for row in 0..R {
            // SAFETY: the caller's promise.
            unsafe { self.place(block.start + row, &self.buffer[row * pitch..][..pitch]) };
        }
    }

    /// Writes the outputs of one channel, without what is between rows and slices.
    ///
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn place(&self, channel: usize, run: &[T]) {
        let Extent { images, len: [slices, rows, cols] } = self.tile;
        let (extents, volume) = (self.layout.extents(self.tile), self.layout.volume(self.tile));
        let Target { out, step, .. } = self.target;
        // No iterator of pairs: its closures would not be compiled for the instruction set of the kernel.
        for index in 0..images * slices {
            let (image, slice) = if slices == 1 { (index, 0) } else { (index / slices, index % slices) };
            let start = channel * self.target.channel + image * self.target.image + slice * step[0];
            let run = &run[image * volume + place([slice, 0, 0], extents)..];
            if step[2] == 1 {
                // SAFETY: the caller's promise.
                unsafe { copy_rows_to(run, extents[2], out.add(start), step[1], rows, cols) };
                continue;
            }
            for row in 0..rows {
                let from = &run[row * extents[2]..][..cols];
                // SAFETY: the caller's promise.
                unsafe {
                    let to = out.add(start + row * step[1]);
                    from.iter().enumerate().for_each(|(col, x)| *to.add(col * step[2]) = *x);
                }
            }
        }
    }
}

/// Where a run's vectors stand: side by side over the whole run, or where rows of outputs are as long as vectors, on these
/// alone, and nothing is computed of what is between them (4 groups of 16 channels, 16 x 16 pixels: 0.92 of the time).
struct Spans {
    count: usize,
    /// Elements of a span: a multiple of those that are computed at a time.
    len: usize,
    /// Elements from vector to vector that are computed at a time.
    apart: usize,
    /// Spans of a slice and slices of a volume, and elements from one to the next, and from volume to volume.
    of_slice: usize,
    slices: usize,
    steps: [usize; 3],
}

impl Spans {
    #[inline(always)]
    fn of(layout: &Layout, tile: Extent, vectors: usize, lanes: usize, run: usize) -> Self {
        let Extent { images, len: [slices, rows, cols] } = tile;
        let [_, height, width] = layout.extents(tile);
        // How many rows are computed at a time.
        let at_once = if cols % (vectors * lanes) == 0 { 1 } else { vectors };
        if cols % lanes != 0 || (at_once > 1 && cols != lanes) || rows % at_once != 0 {
            return Self { count: 1, len: run, apart: lanes, of_slice: 1, slices: 1, steps: [0; 3] };
        }
        Self {
            count: images * slices * rows / at_once,
            len: cols * at_once,
            apart: if at_once == 1 { lanes } else { width },
            of_slice: rows / at_once,
            slices,
            steps: [layout.volume(tile), height * width, at_once * width],
        }
    }

    /// Where a span starts.
    #[inline(always)]
    fn start(&self, span: usize) -> usize {
        let (slice, row) = (span / self.of_slice, span % self.of_slice);
        slice / self.slices * self.steps[0] + slice % self.slices * self.steps[1] + row * self.steps[2]
    }
}

/// `R` rows of `N` vectors of sums over `offsets`, started from `first` or from what `out` holds.
///
/// # Safety
/// `source` must be valid for `N` vectors from each offset, `weights` for `R` per offset, and
/// `out` for `R` rows of `N` vectors; rows are `pitch` apart, and vectors `apart` in both. The instruction set of `V` must
/// be there.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // constant bounds: all sums stay in registers
unsafe fn tile<V: Vector, const R: usize, const N: usize>(
    offsets: &[usize],
    mut weights: *const V::Elem,
    source: *const V::Elem,
    out: *mut V::Elem,
    [pitch, apart]: [usize; 2],
    first: Option<[V::Elem; R]>,
) {
    // SAFETY: all accesses are those the caller vouches for.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        for row in 0..R {
            for j in 0..N {
                sums[row][j] = match first {
                    Some(first) => V::splat(first[row]),
                    None => V::load(out.add(row * pitch + j * apart)),
                };
            }
        }
        for &offset in offsets {
            let mut x = [V::zero(); N];
            for j in 0..N {
                x[j] = V::load(source.add(offset + j * apart));
            }
            for row in 0..R {
                let weight = V::splat(*weights.add(row));
                for j in 0..N {
                    sums[row][j] = weight.fma(x[j], sums[row][j]);
                }
            }
            weights = weights.wrapping_add(R);
        }
        for row in 0..R {
            for j in 0..N {
                sums[row][j].store(out.add(row * pitch + j * apart));
            }
        }
    }
}
