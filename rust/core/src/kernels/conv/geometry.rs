//! Sizes and attributes of a convolution.

/// Sizes and attributes of a 2-d convolution; the op has checked that they fit each other.
///
/// A 1-d convolution is one of height 1, with kernel `[1, k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Number of images.
    pub batch: usize,
    /// Channels of an input image.
    pub in_channels: usize,
    /// Rows of an input plane.
    pub in_height: usize,
    /// Columns of an input plane.
    pub in_width: usize,
    /// Channels of an output image.
    pub out_channels: usize,
    /// Rows and columns of a filter.
    pub kernel: [usize; 2],
    /// Steps of the window, at least 1.
    pub stride: [usize; 2],
    /// Zeros before and after each row and column of the input.
    pub padding: [usize; 2],
    /// Distances between the taps of a filter, at least 1.
    pub dilation: [usize; 2],
    /// Number of groups of channels that do not see each other; divides both channel counts.
    pub groups: usize,
}

impl Conv2dGeometry {
    /// Rows of an output plane.
    pub fn out_height(&self) -> usize {
        self.out_extent(0, self.in_height)
    }

    /// Columns of an output plane.
    pub fn out_width(&self) -> usize {
        self.out_extent(1, self.in_width)
    }

    /// Elements of the input.
    pub fn input_numel(&self) -> usize {
        self.batch * self.in_channels * self.in_height * self.in_width
    }

    /// Elements of the output.
    pub fn output_numel(&self) -> usize {
        self.batch * self.out_channels * self.out_height() * self.out_width()
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

    /// Taps of a filter on one plane.
    pub(super) fn filter_numel(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn out_extent(&self, dim: usize, input: usize) -> usize {
        let window = self.dilation[dim] * (self.kernel[dim] - 1) + 1;
        let padded = input + 2 * self.padding[dim];
        // The op refuses a window that is larger than the padded input.
        padded.checked_sub(window).map_or(0, |room| room / self.stride[dim] + 1)
    }
}
