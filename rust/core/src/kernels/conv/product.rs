//! The product kernel: rows of weights times shifted runs of a tile's source.

use std::ops::Range;

use super::layout::{copy_row, Extent, Layout};
use super::weights::Weights;
use super::Float;
use crate::simd::{Isa, Kernel, Level};

/// Elements after the last run that the kernel may read, and round a run up to.
pub(super) const SLOP: usize = 128;
/// Depth of the product that is computed at a time, so that a block of weights stays in the L1 cache.
const DEPTH: usize = 512;

/// Where the results of a tile go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<T> {
    /// Output at row 0 and position (0, 0) of the tile's first image.
    pub out: *mut T,
    /// Elements between output channels and between images.
    pub channel: usize,
    pub image: usize,
    /// Elements between neighbouring rows and columns of outputs.
    pub step: [usize; 2],
}

/// The product for one tile of one group.
pub(super) struct Product<'a, T> {
    pub weights: &'a Weights<T>,
    pub group: usize,
    pub blocks: Range<usize>,
    /// One value per row of the group.
    pub bias: Option<&'a [T]>,
    /// The tile's planes; at least `SLOP` elements follow the last run.
    pub source: &'a [T],
    /// Start of the run of each (channel, tap).
    pub offsets: &'a [usize],
    pub layout: &'a Layout,
    pub tile: Extent,
    /// Room for `max_rows` runs.
    pub buffer: &'a mut Vec<T>,
    pub target: Target<T>,
}

impl<T: Float> Kernel for Product<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        // Two registers a row; a single row (depthwise) takes eight.
        match (I::LEVEL, size_of::<T>()) {
            (Level::V4, 4) => self.blocks_of::<I, 32, 128>(),
            (Level::V4, _) => self.blocks_of::<I, 16, 64>(),
            (Level::V3, 4) => self.blocks_of::<I, 16, 64>(),
            (Level::V3, _) => self.blocks_of::<I, 8, 32>(),
            (Level::Baseline, 4) => self.blocks_of::<I, 8, 32>(),
            (Level::Baseline, _) => self.blocks_of::<I, 4, 16>(),
        }
    }
}

impl<T: Float> Product<'_, T> {
    #[inline(always)]
    fn blocks_of<I: Isa, const N: usize, const WIDE: usize>(mut self) {
        for block in self.blocks.clone() {
            let (start, rows, weights) = self.weights.block(self.group, block);
            match rows {
                1 => self.block::<I, 1, WIDE>(start, weights),
                2 => self.block::<I, 2, N>(start, weights),
                3 => self.block::<I, 3, N>(start, weights),
                4 => self.block::<I, 4, N>(start, weights),
                5 => self.block::<I, 5, N>(start, weights),
                6 => self.block::<I, 6, N>(start, weights),
                7 if I::LEVEL == Level::V4 => self.block::<I, 7, N>(start, weights),
                8 if I::LEVEL == Level::V4 => self.block::<I, 8, N>(start, weights),
                _ => unreachable!("a block of {rows} rows"),
            }
        }
    }

    /// `R` rows of the product over the whole run, from the buffer to the target.
    #[inline(always)]
    fn block<I: Isa, const R: usize, const N: usize>(&mut self, start: usize, weights: &[T]) {
        let pitch = self.layout.run(self.tile).next_multiple_of(N);
        self.buffer.resize(self.buffer.len().max(R * pitch), T::ZERO);
        let bias: [T; R] = std::array::from_fn(|row| self.bias.map_or(T::ZERO, |bias| bias[start + row]));
        let depth = self.offsets.len();
        let mut from = 0;
        loop {
            let to = depth.min(from + DEPTH);
            for column in (0..pitch).step_by(N) {
                // SAFETY: a run of `pitch` < run + SLOP elements from any offset lies in `source`,
                // the weights hold R values per offset, and the buffer has R rows of `pitch`.
                unsafe {
                    micro::<T, I, R, N>(
                        &self.offsets[from..to],
                        weights.as_ptr().add(from * R),
                        self.source.as_ptr().add(column),
                        self.buffer.as_mut_ptr().add(column),
                        pitch,
                        if from == 0 { Some(bias) } else { None },
                    );
                }
            }
            from = to;
            if from == depth {
                break;
            }
        }
        for row in 0..R {
            // SAFETY: the tile is this task's own part of the output.
            unsafe { self.place(start + row, &self.buffer[row * pitch..][..pitch]) };
        }
    }

    /// Writes the outputs of one channel, without the columns between rows.
    ///
    /// # Safety
    /// The target must be valid for the tile and written by nobody else meanwhile.
    #[inline(always)]
    unsafe fn place(&self, channel: usize, run: &[T]) {
        let Extent { images, rows, cols } = self.tile;
        let (width, plane) = (self.layout.width(self.tile), self.layout.plane(self.tile));
        let Target { out, step, .. } = self.target;
        for image in 0..images {
            let start = channel * self.target.channel + image * self.target.image;
            for row in 0..rows {
                let from = &run[image * plane + row * width..][..cols];
                // SAFETY: the caller's promise.
                unsafe {
                    let to = out.add(start + row * step[0]);
                    if step[1] == 1 {
                        copy_row(from, to);
                    } else {
                        from.iter().enumerate().for_each(|(col, x)| *to.add(col * step[1]) = *x);
                    }
                }
            }
        }
    }
}

/// `R` x `N` sums over `offsets`, started from `init` or from what `out` holds.
///
/// # Safety
/// `source` must be valid for `N` elements from each offset, `weights` for `R` per offset, and
/// `out` for `R` rows of `N`, `pitch` apart.
#[inline(always)]
unsafe fn micro<T: Float, I: Isa, const R: usize, const N: usize>(
    offsets: &[usize],
    weights: *const T,
    source: *const T,
    out: *mut T,
    pitch: usize,
    init: Option<[T; R]>,
) {
    // SAFETY: all accesses are those the caller vouches for.
    unsafe {
        let mut sums = match init {
            Some(init) => init.map(|value| [value; N]),
            None => std::array::from_fn(|row| out.add(row * pitch).cast::<[T; N]>().read_unaligned()),
        };
        for (k, offset) in offsets.iter().enumerate() {
            let x = source.add(*offset).cast::<[T; N]>().read_unaligned();
            for (row, sums) in sums.iter_mut().enumerate() {
                let weight = *weights.add(k * R + row);
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = T::fma::<I>(weight, x, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            out.add(row * pitch).cast::<[T; N]>().write_unaligned(sums);
        }
    }
}
