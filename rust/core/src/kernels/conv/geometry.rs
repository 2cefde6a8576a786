//! Sizes and attributes of a convolution.

/// Sizes and attributes of a convolution; the op has checked that they fit each other.
///
/// Its dims are slices, rows and columns: an image is a volume of one slice, with kernel `[1, h, w]`, and a
/// signal an image of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Number of volumes.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Extents of the input.
    pub in_extents: [usize; 3],
    /// Channels of the output.
    pub out_channels: usize,
    /// Extents of a filter.
    pub kernel: [usize; 3],
    /// Steps of the window, at least 1.
    pub stride: [usize; 3],
    /// Zeros before and after the input along each dim.
    pub padding: [usize; 3],
    /// Distances between the taps of a filter, at least 1.
    pub dilation: [usize; 3],
    /// Number of groups of channels that do not see each other; divides both channel counts.
    pub groups: usize,
    /// Whether the channels of a pixel lie side by side, in the inputs and in the outputs.
    pub channels_last: bool,
}

/// The phases of a strided dim that taps reach.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Phases {
    pub phases: Vec<usize>,
    /// Whether every position belongs to one of them.
    pub cover: bool,
}

impl ConvGeometry {
    /// Extents of the output.
    pub fn out_extents(&self) -> [usize; 3] {
        let mut extents = self.in_extents;
        for (dim, extent) in extents.iter_mut().enumerate() {
            let window = self.dilation[dim] * (self.kernel[dim] - 1) + 1;
            let padded = *extent + 2 * self.padding[dim];
            // The op refuses a window that is larger than the padded input.
            *extent = padded.checked_sub(window).map_or(0, |room| room / self.stride[dim] + 1);
        }
        extents
    }

    /// Elements of the input.
    pub fn input_numel(&self) -> usize {
        self.batch * self.in_channels * self.in_extents.iter().product::<usize>()
    }

    /// Elements of the output.
    pub fn output_numel(&self) -> usize {
        self.batch * self.out_channels * self.out_extents().iter().product::<usize>()
    }

    /// Elements of the weight, which has shape `[out_channels, in_channels / groups, kernel]`.
    pub fn weight_numel(&self) -> usize {
        self.out_channels * self.group_inputs() * self.filter_numel()
    }

    /// Input channels of a group.
    pub(super) fn group_inputs(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of a group.
    pub(super) fn group_outputs(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Taps of a filter on one channel.
    pub(super) fn filter_numel(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Where a tap of a filter lies in the window.
    pub(super) fn reach(&self, tap: usize) -> [usize; 3] {
        let [_, rows, cols] = self.kernel;
        let at = [tap / (rows * cols), tap / cols % rows, tap % cols];
        [0, 1, 2].map(|dim| at[dim] * self.dilation[dim])
    }

    /// The phases of the input's positions along a dim that some tap reaches, ascending. There are no
    /// more of them than taps, however large the stride.
    pub(super) fn phases(&self, dim: usize) -> Phases {
        let (stride, padding) = (self.stride[dim], self.padding[dim]);
        let extent = self.in_extents[dim];
        // Positions i >= 0 with (i + padding) % stride == phase.
        let positions = |phase: usize| {
            let first = (phase + stride - padding % stride) % stride;
            extent.saturating_sub(first).div_ceil(stride)
        };
        let mut phases: Vec<usize> =
            (0..self.kernel[dim]).map(|tap| tap * self.dilation[dim] % stride).collect();
        phases.sort_unstable();
        phases.dedup();
        phases.retain(|&phase| positions(phase) > 0);
        let reached: usize = phases.iter().map(|&phase| positions(phase)).sum();
        Phases { phases, cover: reached == extent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_those_of_positions_and_taps() {
        for (kernel, stride, padding, dilation, extent) in [
            (3, 1, 0, 1, 5),
            (3, 2, 1, 1, 5),
            (2, 3, 0, 1, 7),
            (2, 4, 1, 2, 3),
            (1, 1 << 30, 5, 7, 9),
            (3, 5, 7, 5, 2),
        ] {
            let geometry = ConvGeometry {
                batch: 1,
                in_channels: 1,
                in_extents: [1, extent, 1],
                out_channels: 1,
                kernel: [1, kernel, 1],
                stride: [1, stride, 1],
                padding: [0, padding, 0],
                dilation: [1, dilation, 1],
                groups: 1,
                channels_last: false,
            };
            let mut phases: Vec<usize> = (0..extent).map(|i| (i + padding) % stride).collect();
            let is_reached = |phase: &usize| (0..kernel).any(|tap| tap * dilation % stride == *phase);
            let cover = phases.iter().all(is_reached);
            phases.retain(is_reached);
            phases.sort_unstable();
            phases.dedup();
            assert_eq!(geometry.phases(1), Phases { phases, cover }, "{geometry:?}");
        }
    }
}
