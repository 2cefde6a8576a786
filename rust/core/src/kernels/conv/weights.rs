//! Weights in the order in which the product kernel reads them.

use super::Conv2dGeometry;
use super::Tap;

/// Rows that the product kernel computes side by side.
pub(super) const MAX_ROWS: usize = 6;

/// Weights of all groups as blocks of up to `MAX_ROWS` rows; a block holds its rows side by side
/// for each (channel, tap).
#[derive(Debug)]
pub(super) struct Weights<T> {
    data: Vec<T>,
    /// Rows and columns of a group's matrix.
    pub rows: usize,
    pub depth: usize,
}

impl<T: Copy> Weights<T> {
    /// The weights of a pass: `forward` has rows for output channels and columns for
    /// (input channel, tap); the pass to the inputs has the two kinds of channels exchanged.
    pub fn pack(geometry: &Conv2dGeometry, taps: &[Tap], weight: &[T], forward: bool) -> Self {
        let (inputs, outputs) = (geometry.group_inputs(), geometry.group_outputs());
        let (rows, channels) = if forward { (outputs, inputs) } else { (inputs, outputs) };
        let depth = channels * taps.len();
        let mut data = Vec::with_capacity(geometry.groups * rows * depth);
        for group in 0..geometry.groups {
            for block in 0..block_count(rows) {
                let (start, len) = block_rows(rows, block);
                for channel in 0..channels {
                    for tap in taps {
                        data.extend((start..start + len).map(|row| {
                            let (output, input) = if forward { (row, channel) } else { (channel, row) };
                            let filter = (group * outputs + output) * inputs + input;
                            weight[filter * geometry.filter_numel() + tap.index]
                        }));
                    }
                }
            }
        }
        Self { data, rows, depth }
    }

    /// First row, number of rows and data of a block.
    pub fn block(&self, group: usize, block: usize) -> (usize, usize, &[T]) {
        let (start, len) = block_rows(self.rows, block);
        let from = (group * self.rows + start) * self.depth;
        (start, len, &self.data[from..from + len * self.depth])
    }
}

/// Number of blocks that `rows` rows are dealt into.
pub(super) fn block_count(rows: usize) -> usize {
    rows.div_ceil(MAX_ROWS)
}

/// First row and length of a block; the lengths differ by at most one.
fn block_rows(rows: usize, block: usize) -> (usize, usize) {
    let count = block_count(rows);
    let (base, longer) = (rows / count, rows % count);
    (block * base + block.min(longer), base + usize::from(block < longer))
}
