//! The product of weights and a tile's source, with the vectors that suit the geometry.

use std::ops::Range;

use super::layout::{Extent, Layout};
use super::weights::{Lanes, Weights};
use super::Float;
use crate::kernels::gemm::Vector;
use crate::simd::{Isa, Level};

/// Elements after the last run that `pixels` may read, and round a run up to.
pub(super) const SLOP: usize = 128;

/// Where the results of a tile go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<T> {
    /// Output at row 0 and position (0, 0, 0) of the tile's first image.
    pub out: *mut T,
    /// Elements between output channels and between images.
    pub channel: usize,
    pub image: usize,
    /// Elements between neighbouring slices, rows and columns of outputs.
    pub step: [usize; 3],
}

/// The product for one tile of one group.
pub(super) struct Product<'a, T> {
    pub weights: &'a Weights<T>,
    pub group: usize,
    pub blocks: Range<usize>,
    /// One value per row of the group.
    pub bias: Option<&'a [T]>,
    /// The tile's volumes; at least `SLOP` elements follow the last run.
    pub source: &'a [T],
    /// Start of the run of each (channel, tap).
    pub offsets: &'a [usize],
    /// Places of the tile's outputs in a run, where the lanes are channels.
    pub outputs: &'a [usize],
    pub layout: &'a Layout,
    pub tile: Extent,
    /// Room for a block's sums.
    pub buffer: &'a mut Vec<T>,
    pub target: Target<T>,
}

impl<T: Float> Product<'_, T> {
    /// Computes the tile.
    ///
    /// # Safety
    /// Called from a kernel compiled for `I`; the target must be valid for the tile and written by nobody
    /// else meanwhile.
    #[inline(always)]
    pub unsafe fn run<I: Isa>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match I::LEVEL {
                Level::V4 => self.with_vectors::<I, T::V4>(),
                Level::V3 => self.with_vectors::<I, T::V3>(),
                Level::Baseline => self.with_vectors::<I, T::Base>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn with_vectors<I: Isa, V: Vector<Elem = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.weights.lanes {
                Lanes::Pixels => self.pixels::<V>(),
                Lanes::Channels => self.channels::<I, V>(),
            }
        }
    }
}
