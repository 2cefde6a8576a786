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

use std::ops::Range;

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
        let first = DIMS.map(|dim| taps.iter().map(|tap| tap.position[dim]).min().unwrap_or(0));
        let (origins, shifts) = (Vec::new(), Vec::new());
        let mut layout = Self { origins, shifts, halo: [0; 3], spacing, step, whole, overlap: [0; 3] };
        for tap in taps {
            let from_first = DIMS.map(|dim| (tap.position[dim] - first[dim]) as usize);
            let origin = DIMS.map(|dim| first[dim] + (from_first[dim] % spacing[dim]) as isize);
            let shift = DIMS.map(|dim| from_first[dim] / spacing[dim]);
            let known = layout.origins.iter().position(|other| *other == origin);
            let volume = known.unwrap_or_else(|| {
                layout.origins.push(origin);
                layout.origins.len() - 1
            });
            layout.shifts.push((volume, shift));
            layout.halo = DIMS.map(|dim| layout.halo[dim].max(shift[dim]));
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
    fn reach(&self, outputs: usize, dim: usize) -> usize {
        outputs.saturating_sub(1) * self.step[dim] + 1 + self.halo[dim]
    }

    /// Slices, rows and columns of a copied volume.
    pub fn extents(&self, tile: Extent) -> [usize; 3] {
        DIMS.map(|dim| {
            let overlap = if tile.len[dim] == self.whole[dim] { self.overlap[dim] } else { 0 };
            self.reach(tile.len[dim], dim) - overlap
        })
    }

    /// Zeros that must follow the last volume in place of the next one.
    pub fn tail(&self, tile: Extent) -> usize {
        place(self.overlap, self.extents(tile))
    }

    /// Elements of one copied volume of one image.
    pub fn volume(&self, tile: Extent) -> usize {
        self.extents(tile).iter().product()
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
    pub fn run(&self, tile: Extent) -> usize {
        debug_assert!(self.step == [1; 3]);
        let last = place(tile.len.map(|len| len - 1), self.extents(tile));
        (tile.images - 1) * self.volume(tile) + last + 1
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
pub(super) fn place([slice, row, col]: [usize; 3], [_, height, width]: [usize; 3]) -> usize {
    (slice * height + row) * width + col
}

/// Volumes with fewer outputs than this are computed several images at a time.
pub(super) const SMALL_VOLUME: usize = 256;

/// A volume to copy from: the elements of a pixel, and the distance to the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volume<'a, T> {
    pub data: &'a [T],
    pub extents: [usize; 3],
    pub pixel: usize,
}

/// What to copy of it: the elements at `origin + (i, j, k) * step`, in rows of `extents`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub origin: [isize; 3],
    pub step: [usize; 3],
    pub extents: [usize; 3],
}

impl Window {
    /// Fills with zeros what lies outside of the volume, and calls `copy` for the rest of each slice: with the
    /// place of its first element in the volume, the rows and the columns that lie inside, and the slice of `out`.
    #[inline(always)]
    fn visit<T: Copy>(
        self,
        volume: [usize; 3],
        out: &mut [T],
        zero: T,
        mut copy: impl FnMut(usize, Range<usize>, Range<usize>, &mut [T]),
    ) {
        let Self { origin, step, extents } = self;
        let [slices, rows, cols] = DIMS.map(|dim| inside(origin[dim], step[dim], volume[dim], extents[dim]));
        let is_whole = rows.len() == extents[1] && cols.len() == extents[2];
        let plane = (out.len() / extents[0]).max(1);
        for (slice, out) in out.chunks_exact_mut(plane).enumerate() {
            let is_inside = slices.contains(&slice);
            if !(is_inside && is_whole) {
                out.fill(zero);
            }
            if !is_inside || rows.is_empty() || cols.is_empty() {
                continue;
            }
            let at = |dim: usize, index: usize| (origin[dim] + (index * step[dim]) as isize) as usize;
            let first = place([at(0, slice), at(1, rows.start), at(2, cols.start)], volume);
            copy(first, rows.clone(), cols.clone(), out);
        }
    }

    /// Copies the window to `out`.
    #[inline(always)]
    pub fn gather<T: Copy>(self, volume: Volume<'_, T>, out: &mut [T], zero: T) {
        let ([_, row_step, step], [_, _, width], [.., stride]) = (self.step, self.extents, volume.extents);
        self.visit(volume.extents, out, zero, |first, rows, cols, out| {
            if row_step == 1 && step == 1 && width == stride && cols.len() == width {
                let len = rows.len() * width;
                out[rows.start * width..][..len].copy_from_slice(&volume.data[first..][..len]);
                return;
            }
            for row in 0..rows.len() {
                let source = &volume.data[first + row * row_step * stride..];
                let out = &mut out[(rows.start + row) * width + cols.start..][..cols.len()];
                match step {
                    // SAFETY: the row's elements lie inside both, which the slices check.
                    1 => unsafe { copy_row(&source[..out.len()], out.as_mut_ptr()) },
                    2 => out.iter_mut().zip(source.iter().step_by(2)).for_each(|(to, from)| *to = *from),
                    step => {
                        out.iter_mut().zip(source.iter().step_by(step)).for_each(|(to, from)| *to = *from)
                    }
                }
            }
        });
    }

    /// The same for `side` elements of each pixel.
    #[inline(always)]
    pub fn gather_pixels<T: Copy>(self, volume: Volume<'_, T>, side: usize, out: &mut [T], zero: T) {
        let ([_, row_step, step], [_, _, width], [.., stride]) = (self.step, self.extents, volume.extents);
        self.visit(volume.extents, out, zero, |first, rows, cols, out| {
            for row in 0..rows.len() {
                let source = &volume.data[(first + row * row_step * stride) * volume.pixel..];
                let out = &mut out[((rows.start + row) * width + cols.start) * side..][..cols.len() * side];
                if step == 1 && volume.pixel == side {
                    out.copy_from_slice(&source[..out.len()]);
                    continue;
                }
                for (pixel, out) in out.chunks_exact_mut(side).enumerate() {
                    out.copy_from_slice(&source[pixel * step * volume.pixel..][..side]);
                }
            }
        });
    }
}

/// The range of indices in `0..count` whose `origin + index * step` lies in `0..extent`.
fn inside(origin: isize, step: usize, extent: usize, count: usize) -> Range<usize> {
    let before = |limit: isize| ((limit - origin).max(0) as usize).div_ceil(step);
    let begin = before(0).min(count);
    begin..before(extent as isize).clamp(begin, count)
}

/// Copies a short row in blocks of which the last overlaps the one before: cheaper than calling memcpy.
///
/// # Safety
/// `to` must be valid for as many elements as `from` has.
#[inline(always)]
pub(super) unsafe fn copy_row<T: Copy>(from: &[T], to: *mut T) {
    // SAFETY: each call's block is at most as long as the row.
    unsafe {
        match from.len() {
            0 => {}
            1 => *to = from[0],
            2..4 => copy_blocks::<T, 2>(from, to),
            4..8 => copy_blocks::<T, 4>(from, to),
            _ => copy_blocks::<T, 8>(from, to),
        }
    }
}

/// # Safety
/// `to` must be valid for as many elements as `from` has, and that must be at least `N`.
#[inline(always)]
unsafe fn copy_blocks<T: Copy, const N: usize>(from: &[T], to: *mut T) {
    let mut at = 0;
    while at < from.len() {
        let block = at.min(from.len() - N);
        // SAFETY: block + N <= len.
        unsafe {
            let values = from.as_ptr().add(block).cast::<[T; N]>().read_unaligned();
            to.add(block).cast::<[T; N]>().write_unaligned(values);
        }
        at += N;
    }
}
