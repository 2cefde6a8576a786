//! Weights in the order in which the product kernels read them.

use super::Tap;
use super::{ConvGeometry, Float};
use crate::array::Array;
use crate::kernels::gemm::{self, Mat};
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Level};
use crate::Result;
use std::marker::PhantomData;

/// What the lanes of a vector of sums are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    /// Neighbouring outputs of a channel: `pixels`.
    Pixels,
    /// Neighbouring channels of an output: `channels`.
    Channels,
}

/// Channels that are computed at a time: as many as the registers hold.
fn most_rows<T: Float>(lanes: Lanes) -> usize {
    match lanes {
        // AVX-512 has room for 12, but 8 divide what layers have.
        Lanes::Pixels if simd::level() == Level::V4 => 8,
        Lanes::Pixels => 6,
        Lanes::Channels => gemm::width::<T>(simd::level(), false),
    }
}

/// Weights of all groups as blocks of rows, one for each output channel of the pass. A block holds its rows
/// side by side for each (channel, tap).
#[derive(Debug)]
pub(super) struct Weights<T> {
    data: Array,
    pub lanes: Lanes,
    /// Rows and columns of a group's matrix.
    pub rows: usize,
    pub depth: usize,
    /// Blocks of a group.
    pub blocks: usize,
    element: PhantomData<T>,
}

/// A block of weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a, T> {
    /// The first row, and the number of rows.
    pub start: usize,
    pub rows: usize,
    /// Elements between one (channel, tap) and the next: the rows, with zeros up to a whole vector where the
    /// lanes are channels.
    pub pitch: usize,
    pub data: &'a [T],
}

/// Weights that are worth a thread, about 20 microseconds.
const GRAIN: usize = 16 * 1024;

impl<T: Float> Weights<T> {
    /// The weights of a pass: `forward` has rows for output channels and columns for
    /// (input channel, tap); the pass to the inputs has the two kinds of channels exchanged.
    pub fn pack(
        geometry: &ConvGeometry,
        taps: &[Tap],
        weight: &[T],
        forward: bool,
        lanes: Lanes,
    ) -> Result<Self> {
        let (inputs, outputs) = (geometry.group_inputs(), geometry.group_outputs());
        let (rows, channels) = if forward { (outputs, inputs) } else { (inputs, outputs) };
        let (depth, filter) = (channels * taps.len(), geometry.filter_numel());
        let blocks = rows.div_ceil(most_rows::<T>(lanes));
        let mut packed =
            Self { data: Array::empty(&[0], T::DTYPE)?, lanes, rows, depth, blocks, element: PhantomData };
        if depth == 0 || rows == 0 {
            return Ok(packed); // no input channels: nothing to pack
        }
        let group = packed.group_numel();
        let mut data = Array::empty(&[geometry.groups * group], T::DTYPE)?;
        let to = SharedSlice::new(data.slice_mut::<T>());
        let cost = (rows * depth / blocks).max(1);
        par::for_each_chunk(geometry.groups * blocks, GRAIN.div_ceil(cost), |range| {
            for (index, block) in range.map(|i| (i / blocks, i % blocks)) {
                let BlockAt { start, rows, at, pitch } = packed.place(block);
                // SAFETY: the blocks of a group follow each other: tasks have disjoint parts.
                let to = unsafe { to.part(index * group + at * depth, pitch * depth) };
                let from = |row: usize, channel: usize| {
                    let (output, input) = if forward { (row, channel) } else { (channel, row) };
                    &weight[((index * outputs + output) * inputs + input) * filter..][..filter]
                };
                if lanes == Lanes::Channels && taps.len() == filter {
                    let row = if forward { inputs * filter } else { filter };
                    for (channel, to) in to.chunks_exact_mut(pitch * filter).enumerate() {
                        to.fill(T::ZERO);
                        let src = Mat { ptr: from(start, channel).as_ptr(), row: row as isize, col: 1 };
                        // SAFETY: `filter` weights for each row and room for as many groups of `pitch`,
                        // a multiple of the lanes.
                        unsafe { gemm::transpose_block(src, rows, filter, to.as_mut_ptr(), pitch) };
                    }
                    continue;
                }
                if pitch > rows {
                    to.fill(T::ZERO);
                }
                for row in 0..rows {
                    let mut to = to[row..].iter_mut().step_by(pitch);
                    for channel in 0..channels {
                        let from = from(start + row, channel);
                        taps.iter().zip(&mut to).for_each(|(tap, to)| *to = from[tap.index]);
                    }
                }
            }
        });
        packed.data = data;
        Ok(packed)
    }

    /// A block of a group.
    pub fn block(&self, group: usize, block: usize) -> Block<'_, T> {
        let BlockAt { start, rows, at, pitch } = self.place(block);
        let data = match self.depth {
            0 => &[],
            depth => &self.data.slice()[group * self.group_numel() + at * depth..][..pitch * depth],
        };
        Block { start, rows, pitch, data }
    }

    fn group_numel(&self) -> usize {
        let last = self.place(self.blocks - 1);
        (last.at + last.pitch) * self.depth
    }

    fn place(&self, block: usize) -> BlockAt {
        match self.lanes {
            Lanes::Pixels => {
                // Lengths differ by at most one.
                let (base, longer) = (self.rows / self.blocks, self.rows % self.blocks);
                let start = block * base + block.min(longer);
                let rows = base + usize::from(block < longer);
                BlockAt { start, rows, at: start, pitch: rows }
            }
            Lanes::Channels => {
                let width = most_rows::<T>(self.lanes);
                let start = block * width;
                let rows = width.min(self.rows - start);
                // Whole vectors, and whole squares of `transpose_block`.
                let pitch = |rows: usize| rows.next_multiple_of((width / 2).max(8));
                BlockAt { start, rows, at: block * pitch(width), pitch: pitch(rows) }
            }
        }
    }
}

/// Where a block lies: its rows, and the columns of all packed rows before it.
struct BlockAt {
    start: usize,
    rows: usize,
    at: usize,
    pitch: usize,
}
