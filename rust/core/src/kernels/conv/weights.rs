//! Weights in the order in which the product kernel reads them.

use super::Conv2dGeometry;
use super::Tap;
use crate::array::Array;
use crate::dtype::Element;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Level};
use crate::Result;
use std::marker::PhantomData;

/// Rows that the product kernel computes side by side: as many as the registers hold, and no more than
/// leave channels in even blocks (AVX-512 has room for 12, but 8 divide what layers have).
pub(super) fn max_rows() -> usize {
    if simd::level() == Level::V4 {
        8
    } else {
        6
    }
}

/// Weights of all groups as blocks of up to `max_rows` rows; a block holds its rows side by side
/// for each (channel, tap).
#[derive(Debug)]
pub(super) struct Weights<T> {
    data: Array,
    /// Rows and columns of a group's matrix.
    pub rows: usize,
    pub depth: usize,
    element: PhantomData<T>,
}

/// Weights that are worth a thread, about 20 microseconds.
const GRAIN: usize = 16 * 1024;

impl<T: Element> Weights<T> {
    /// The weights of a pass: `forward` has rows for output channels and columns for
    /// (input channel, tap); the pass to the inputs has the two kinds of channels exchanged.
    pub fn pack(geometry: &Conv2dGeometry, taps: &[Tap], weight: &[T], forward: bool) -> Result<Self> {
        let (inputs, outputs) = (geometry.group_inputs(), geometry.group_outputs());
        let (rows, channels) = if forward { (outputs, inputs) } else { (inputs, outputs) };
        let depth = channels * taps.len();
        let filter = geometry.filter_numel();
        let mut data = Array::empty(&[geometry.groups * rows * depth], T::DTYPE)?;
        if depth == 0 {
            return Ok(Self { data, rows, depth, element: PhantomData }); // no input channels: nothing to pack
        }
        let packed = SharedSlice::new(data.slice_mut::<T>());
        let blocks = block_count(rows);
        let cost = (rows.min(max_rows()) * depth).max(1);
        par::for_each_chunk(geometry.groups * blocks, GRAIN.div_ceil(cost), |range| {
            for (group, block) in range.map(|i| (i / blocks, i % blocks)) {
                let (start, len) = block_rows(rows, block);
                // SAFETY: the blocks of a group follow each other: tasks have disjoint parts.
                let to = unsafe { packed.part((group * rows + start) * depth, len * depth) };
                for row in 0..len {
                    let mut to = to[row..].iter_mut().step_by(len);
                    for channel in 0..channels {
                        let (output, input) =
                            if forward { (start + row, channel) } else { (channel, start + row) };
                        let from =
                            &weight[((group * outputs + output) * inputs + input) * filter..][..filter];
                        taps.iter().zip(&mut to).for_each(|(tap, to)| *to = from[tap.index]);
                    }
                }
            }
        });
        Ok(Self { data, rows, depth, element: PhantomData })
    }

    /// First row, number of rows and data of a block.
    pub fn block(&self, group: usize, block: usize) -> (usize, usize, &[T]) {
        let (start, len) = block_rows(self.rows, block);
        let from = (group * self.rows + start) * self.depth;
        (start, len, &self.data.slice()[from..from + len * self.depth])
    }
}

/// Number of blocks that `rows` rows are dealt into.
pub(super) fn block_count(rows: usize) -> usize {
    rows.div_ceil(max_rows())
}

/// First row and length of a block; the lengths differ by at most one.
fn block_rows(rows: usize, block: usize) -> (usize, usize) {
    let count = block_count(rows);
    let (base, longer) = (rows / count, rows % count);
    (block * base + block.min(longer), base + usize::from(block < longer))
}
