//! Max and average pooling of contiguous planes, and their gradients.

mod avg;
mod max;

use std::ops::Range;

pub use avg::{avg_pool2d, avg_pool2d_backward, AvgDivisor};
pub use max::{adaptive_max_pool2d, max_pool2d, max_pool2d_backward};

/// Elements of work that are worth a thread (about 20 microseconds).
const GRAIN: usize = 1 << 15;

/// Sizes and attributes of a 2-d pooling; a 1-d one has height 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Number of planes: images times channels.
    pub planes: usize,
    /// Rows of an input plane.
    pub in_height: usize,
    /// Columns of an input plane.
    pub in_width: usize,
    /// Rows of an output plane, from [`pool_extent`].
    pub out_height: usize,
    /// Columns of an output plane, from [`pool_extent`].
    pub out_width: usize,
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Steps of the window, at least 1.
    pub stride: [usize; 2],
    /// Positions before and after each row and column; at most half the window.
    pub padding: [usize; 2],
    /// Distances between the window's elements; 1 for average pooling.
    pub dilation: [usize; 2],
}

/// Number of windows along a dim of `input` elements; 0 if not even one fits.
///
/// With `ceil_mode` a last window may hang over the end, but must start inside the input or the
/// padding before it.
pub fn pool_extent(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil_mode: bool,
) -> usize {
    let window = dilation * (kernel - 1) + 1;
    let padded = input + 2 * padding;
    let Some(room) = padded.checked_sub(window) else {
        // A hanging window that is the only one still starts in the padded input.
        return usize::from(ceil_mode && padded + stride > window && input + padding > 0);
    };
    let count = if ceil_mode { room.div_ceil(stride) } else { room / stride } + 1;
    if ceil_mode && (count - 1) * stride >= input + padding {
        count - 1
    } else {
        count
    }
}

impl PoolGeometry {
    fn in_plane(&self) -> usize {
        self.in_height * self.in_width
    }

    fn out_plane(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Output columns whose element `offset` columns into the window lies inside the input.
    #[inline(always)]
    fn reached(&self, offset: usize) -> Range<usize> {
        let step = self.stride[1];
        let begin = self.padding[1].saturating_sub(offset).div_ceil(step).min(self.out_width);
        let end = (self.in_width + self.padding[1]).saturating_sub(offset).div_ceil(step);
        begin..end.clamp(begin, self.out_width)
    }

    /// Planes that are worth a thread.
    fn grain(&self) -> usize {
        let work = self.in_plane() + self.out_plane() * self.kernel[0] * self.kernel[1];
        GRAIN.div_ceil(work.max(1))
    }
}
