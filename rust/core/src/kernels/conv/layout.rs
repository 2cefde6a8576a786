//! How the source of a tile lies in scratch memory.
//!
//! The volumes of a tile (images are volumes of one slice) are copied once, zero-padded, and for a stride `s` of the
//! rows and columns of an image taken apart into the `s * s` volumes of every s-th row and column. In such volumes
//! each tap of the filter reads the outputs' own slices, rows and columns moved by a constant, so over the flattened
//! volume it is one contiguous run that starts at an offset: a convolution becomes a matrix product whose right
//! operand has a row per (channel, tap) and needs no copy of its own. The few columns between the
//! end of one output row and the start of the next, and the rows between slices, are computed and thrown away. Where
//! that would waste too much (large filters on tiny volumes), every tap gets a volume of its own instead, which
//! is im2col. Kernels that read single numbers take volumes as they lie for any stride, and pixels whose channels
//! lie side by side.

use super::window::inside;

/// Where one element of a filter looks, relative to the source position of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// Index in the filter, row-major.
    pub index: usize,
    /// Slice, row and column that output (0, 0, 0) reads.
    pub position: [isize; 3],
}

/// Extents of a tile of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Volumes of the batch.
    pub images: usize,
    /// Slices, rows and columns.
    pub len: [usize; 3],
}

/// The volumes to copy per channel, and where each tap starts in them.
#[derive(Debug)]
pub(super) struct Layout {
    /// Source position of the first element of each volume, for the output at (0, 0, 0).
    pub origins: Vec<[isize; 3]>,
    /// For each tap: its volume, and the shift in it.
    shifts: Vec<(usize, [usize; 3])>,
    /// Largest shift: what volumes have more than the tile along each dim.
    halo: [usize; 3],
    /// Source elements between neighbours in a volume.
    pub spacing: [usize; 3],
    /// Neighbours in a volume between the elements of neighbouring outputs.
    pub step: [usize; 3],
    /// Extents of all outputs.
    whole: [usize; 3],
    /// Zeros at the end of each image, slice and row that are left out of whole volumes, because the
    /// zeros at the start of the next one follow.
    overlap: [usize; 3],
}

/// Volumes are shared between taps as long as no more than the work of so many rows of the product is
/// wasted on each output: im2col copies each element once, for all rows (conv bench: the break-even is
/// at a factor of 2.2 for 16 rows, of 1.3 for 64).
const MAX_WASTE: f64 = 20.0;
/// And up to this many elements of a volume for each output: filters that are far larger than the
/// outputs are rare, and only memory is at stake.
const MAX_MEMORY: usize = 64;

impl Layout {
    /// The layout for `taps` where neighbouring outputs read sources `step` apart; `whole` are the
    /// extents of all outputs, `source` those of the source; each source element is multiplied
    /// with `products` rows of weights.
    pub fn new(
        taps: &[Tap],
        step: [usize; 3],
        whole: [usize; 3],
        source: [usize; 3],
        products: usize,
    ) -> Self {
        let shared = Self::shared(taps, step, [1; 3], whole, source);
        let outputs: usize = whole.iter().product();
        let [slices, height, width] = shared.extents(Extent { images: 1, len: whole });
        let flat = slices.saturating_mul(height).saturating_mul(width);
        // The last slice of a large volume wastes only columns; small ones, whose images follow each other, all
        // that is between them.
        let wide = (whole[0] - 1).saturating_mul(height).saturating_add(whole[1]).saturating_mul(width);
        let computed = if outputs >= SMALL_VOLUME { wide } else { flat };
        // Far-apart rows of taps waste no work, but memory.
        let is_small = flat <= MAX_MEMORY * outputs;
        if is_small && (computed - outputs) as f64 * products as f64 <= MAX_WASTE * outputs as f64 {
            return shared;
        }
        Self::apart(taps, step, whole)
    }

    /// A volume for each tap: im2col.
    pub fn apart(taps: &[Tap], spacing: [usize; 3], whole: [usize; 3]) -> Self {
        Self {
            origins: taps.iter().map(|tap| tap.position).collect(),
            shifts: (0..taps.len()).map(|volume| (volume, [0; 3])).collect(),
            halo: [0; 3],
            spacing,
            step: [1; 3],
            whole,
            overlap: [0; 3],
        }
    }

    /// As few volumes as the spacing of their elements allows, however many columns between rows that takes.
    pub fn shared(
        taps: &[Tap],
        spacing: [usize; 3],
        step: [usize; 3],
        whole: [usize; 3],
        source: [usize; 3],
    ) -> Self {
        let mut first = [isize::MAX; 3];
        for tap in taps {
            for dim in DIMS {
                first[dim] = first[dim].min(tap.position[dim]);
            }
        }
        let (origins, shifts) = (Vec::new(), Vec::with_capacity(taps.len()));
        let mut layout = Self { origins, shifts, halo: [0; 3], spacing, step, whole, overlap: [0; 3] };
        for tap in taps {
            let (mut origin, mut shift) = (first, [0; 3]);
            for dim in DIMS {
                let from_first = (tap.position[dim] - first[dim]) as usize;
                // Divisions take long, and most strides are 1.
                let (by, rest) = if spacing[dim] == 1 {
                    (from_first, 0)
                } else {
                    (from_first / spacing[dim], from_first % spacing[dim])
                };
                origin[dim] += rest as isize;
                shift[dim] = by;
                layout.halo[dim] = layout.halo[dim].max(by);
            }
            let known = layout.origins.iter().position(|other| *other == origin);
            let volume = known.unwrap_or_else(|| {
                layout.origins.push(origin);
                layout.origins.len() - 1
            });
            layout.shifts.push((volume, shift));
        }
        layout.overlap = DIMS.map(|dim| {
            let count = layout.reach(whole[dim], dim);
            let zeros = |origin: &[isize; 3]| {
                let inside = inside(origin[dim], spacing[dim], source[dim], count);
                inside.start.min(count - inside.end)
            };
            layout.origins.iter().map(zeros).min().unwrap_or(0).min(layout.halo[dim])
        });
        layout
    }

    /// Neighbours in a volume that so many outputs reach along a dim.
    #[inline(always)]
    fn reach(&self, outputs: usize, dim: usize) -> usize {
        outputs.saturating_sub(1) * self.step[dim] + 1 + self.halo[dim]
    }

    /// Slices, rows and columns of a copied volume.
    #[inline(always)]
    pub fn extents(&self, tile: Extent) -> [usize; 3] {
        [self.extent(tile, 0), self.extent(tile, 1), self.extent(tile, 2)]
    }

    #[inline(always)]
    fn extent(&self, tile: Extent, dim: usize) -> usize {
        let overlap = if tile.len[dim] == self.whole[dim] { self.overlap[dim] } else { 0 };
        self.reach(tile.len[dim], dim) - overlap
    }

    /// Zeros that must follow the last volume in place of the next one.
    pub fn tail(&self, tile: Extent) -> usize {
        place(self.overlap, self.extents(tile))
    }

    /// Elements of one copied volume of one image.
    #[inline(always)]
    pub fn volume(&self, tile: Extent) -> usize {
        let [slices, height, width] = self.extents(tile);
        slices * height * width
    }

    /// Outputs of a tile.
    pub fn outputs(&self, tile: Extent) -> usize {
        tile.images * tile.len.iter().product::<usize>()
    }

    /// Elements that a channel takes in scratch.
    pub fn channel(&self, tile: Extent) -> usize {
        self.origins.len() * tile.images * self.volume(tile)
    }

    /// Length of the run that covers all outputs of a tile.
    #[inline(always)]
    pub fn run(&self, tile: Extent) -> usize {
        debug_assert!(self.step == [1; 3]);
        let [slices, rows, cols] = tile.len;
        (tile.images - 1) * self.volume(tile)
            + place([slices - 1, rows - 1, cols - 1], self.extents(tile))
            + 1
    }

    /// Sets `offsets` to the start in scratch of each (channel, tap); `side` is the number of channels that lie side
    /// by side, 1 or all of them.
    pub fn offsets(&self, tile: Extent, channels: usize, side: usize, offsets: &mut Vec<usize>) {
        let (extents, volume) = (self.extents(tile), self.volume(tile));
        offsets.clear();
        for channel in 0..channels {
            let base = if side == 1 { channel * self.channel(tile) } else { channel };
            let start = |&(index, shift): &(usize, [usize; 3])| {
                base + (index * tile.images * volume + place(shift, extents)) * side
            };
            offsets.extend(self.shifts.iter().map(start));
        }
    }

    /// Sets `places` to where each output of a tile stands in a run, with `side` channels side by side.
    pub fn places(&self, tile: Extent, side: usize, places: &mut Vec<usize>) {
        let (extents, volume) = (self.extents(tile), self.volume(tile));
        let [_, row_step, col_step] = self.step;
        places.clear();
        for image in 0..tile.images {
            for slice in 0..tile.len[0] {
                for row in 0..tile.len[1] {
                    let start = image * volume + place([slice * self.step[0], row * row_step, 0], extents);
                    places.extend((0..tile.len[2]).map(|col| (start + col * col_step) * side));
                }
            }
        }
    }
}

/// Slices, rows and columns.
pub(super) const DIMS: [usize; 3] = [0, 1, 2];

/// Index of a position in a row-major volume.
#[inline(always)]
pub(super) fn place([slice, row, col]: [usize; 3], [_, height, width]: [usize; 3]) -> usize {
    (slice * height + row) * width + col
}

/// Volumes with fewer outputs than this are computed several images at a time.
pub(super) const SMALL_VOLUME: usize = 256;
