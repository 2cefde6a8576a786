//! How the source of a tile lies in scratch memory.
//!
//! The planes of a tile are copied once, zero-padded, and for a stride `s` taken apart into the
//! `s * s` planes of every s-th row and column. In such planes each tap of the filter reads the
//! outputs' own rows and columns moved by a constant, so over the flattened plane it is one
//! contiguous run that starts at an offset: a convolution becomes a matrix product whose right
//! operand has a row per (channel, tap) and needs no copy of its own. The few columns between the
//! end of one output row and the start of the next are computed and thrown away. Where that would
//! waste too much (large filters on tiny planes), every tap gets a plane of its own instead, which
//! is im2col. Kernels that read single numbers take planes as they lie for any stride, and pixels whose channels
//! lie side by side.

/// Where one element of a filter looks, relative to the source position of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// Index in the filter, row-major.
    pub index: usize,
    /// Row and column that output (0, 0) reads.
    pub position: [isize; 2],
}

/// Extents of a tile of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub images: usize,
    pub rows: usize,
    pub cols: usize,
}

/// The planes to copy per channel, and where each tap starts in them.
#[derive(Debug)]
pub(super) struct Layout {
    /// Source row and column of the first element of each plane, for the output at (0, 0).
    pub origins: Vec<[isize; 2]>,
    /// For each tap: its plane, and the shift in it.
    shifts: Vec<(usize, [usize; 2])>,
    /// Largest shift: what planes have more than the tile in rows and columns.
    halo: [usize; 2],
    /// Source elements between neighbours in a plane.
    pub spacing: [usize; 2],
    /// Neighbours in a plane between the elements of neighbouring outputs.
    pub step: [usize; 2],
    /// Rows and columns of all outputs.
    whole: [usize; 2],
    /// Zeros at the end of each image and row that are left out of whole planes, because the
    /// zeros at the start of the next image and row follow.
    overlap: [usize; 2],
}

/// Planes are shared between taps as long as no more than the work of so many rows of the product is
/// wasted on each output: im2col copies each element once, for all rows (conv bench: the break-even is
/// at a factor of 2.2 for 16 rows, of 1.3 for 64).
const MAX_WASTE: f64 = 20.0;
/// And up to this many elements of a plane for each output: filters that are far larger than the
/// outputs are rare, and only memory is at stake.
const MAX_MEMORY: usize = 64;

impl Layout {
    /// The layout for `taps` where neighbouring outputs read sources `step` apart; `whole` are the
    /// rows and columns of all outputs, `source` those of the source; each source element is multiplied
    /// with `products` rows of weights.
    pub fn new(
        taps: &[Tap],
        step: [usize; 2],
        whole: [usize; 2],
        source: [usize; 2],
        products: usize,
    ) -> Self {
        let shared = Self::shared(taps, step, [1, 1], whole, source);
        let [rows, cols] = whole;
        let all = Extent { images: 1, rows, cols };
        let flat = shared.height(all).saturating_mul(shared.width(all));
        // For large planes only the columns are wasted, for small ones, whose images follow each
        // other, the rows too.
        let wide = rows * shared.width(all);
        let computed = if rows * cols >= SMALL_PLANE { wide } else { flat };
        // Far-apart rows of taps waste no work, but memory.
        let is_small = flat <= MAX_MEMORY * rows * cols;
        if is_small && (computed - rows * cols) as f64 * products as f64 <= MAX_WASTE * (rows * cols) as f64 {
            return shared;
        }
        Self::apart(taps, step, whole)
    }

    /// A plane for each tap: im2col.
    pub fn apart(taps: &[Tap], spacing: [usize; 2], whole: [usize; 2]) -> Self {
        Self {
            origins: taps.iter().map(|tap| tap.position).collect(),
            shifts: (0..taps.len()).map(|plane| (plane, [0, 0])).collect(),
            halo: [0, 0],
            spacing,
            step: [1, 1],
            whole,
            overlap: [0, 0],
        }
    }

    /// As few planes as the spacing of their elements allows, however many columns between rows that takes.
    pub fn shared(
        taps: &[Tap],
        spacing: [usize; 2],
        step: [usize; 2],
        whole: [usize; 2],
        source: [usize; 2],
    ) -> Self {
        let first = [0, 1].map(|dim| taps.iter().map(|tap| tap.position[dim]).min().unwrap_or(0));
        let (origins, shifts) = (Vec::new(), Vec::new());
        let mut layout = Self { origins, shifts, halo: [0, 0], spacing, step, whole, overlap: [0, 0] };
        for tap in taps {
            let from_first = [0, 1].map(|dim| (tap.position[dim] - first[dim]) as usize);
            let origin = [0, 1].map(|dim| first[dim] + (from_first[dim] % spacing[dim]) as isize);
            let shift = [0, 1].map(|dim| from_first[dim] / spacing[dim]);
            let known = layout.origins.iter().position(|other| *other == origin);
            let plane = known.unwrap_or_else(|| {
                layout.origins.push(origin);
                layout.origins.len() - 1
            });
            layout.shifts.push((plane, shift));
            layout.halo = [0, 1].map(|dim| layout.halo[dim].max(shift[dim]));
        }
        layout.overlap = [0, 1].map(|dim| {
            let count = layout.reach(whole[dim], dim);
            let zeros = |origin: &[isize; 2]| {
                let (begin, end) = inside(origin[dim], spacing[dim], source[dim], count);
                begin.min(count - end)
            };
            layout.origins.iter().map(zeros).min().unwrap_or(0).min(layout.halo[dim])
        });
        layout
    }

    /// Neighbours in a plane that so many outputs reach along a dim.
    fn reach(&self, outputs: usize, dim: usize) -> usize {
        outputs.saturating_sub(1) * self.step[dim] + 1 + self.halo[dim]
    }

    /// Columns of a copied plane.
    pub fn width(&self, tile: Extent) -> usize {
        let overlap = if tile.cols == self.whole[1] { self.overlap[1] } else { 0 };
        self.reach(tile.cols, 1) - overlap
    }

    /// Rows of a copied plane.
    pub fn height(&self, tile: Extent) -> usize {
        let overlap = if tile.rows == self.whole[0] { self.overlap[0] } else { 0 };
        self.reach(tile.rows, 0) - overlap
    }

    /// Zeros that must follow the last plane in place of the next one.
    pub fn tail(&self, tile: Extent) -> usize {
        self.overlap[0] * self.width(tile) + self.overlap[1]
    }

    /// Elements of one copied plane of one image.
    pub fn plane(&self, tile: Extent) -> usize {
        self.height(tile) * self.width(tile)
    }

    /// Outputs of a tile.
    pub fn outputs(&self, tile: Extent) -> usize {
        tile.images * tile.rows * tile.cols
    }

    /// Elements that a channel takes in scratch.
    pub fn channel(&self, tile: Extent) -> usize {
        self.origins.len() * tile.images * self.plane(tile)
    }

    /// Length of the run that covers all outputs of a tile.
    pub fn run(&self, tile: Extent) -> usize {
        debug_assert!(self.step == [1, 1]);
        (tile.images - 1) * self.plane(tile) + (tile.rows - 1) * self.width(tile) + tile.cols
    }

    /// Sets `offsets` to the start in scratch of each (channel, tap); `side` is the number of channels that lie side
    /// by side, 1 or all of them.
    pub fn offsets(&self, tile: Extent, channels: usize, side: usize, offsets: &mut Vec<usize>) {
        let (width, plane) = (self.width(tile), self.plane(tile));
        offsets.clear();
        for channel in 0..channels {
            let base = if side == 1 { channel * self.channel(tile) } else { channel };
            let start = |&(index, [row, col]): &(usize, [usize; 2])| {
                base + (index * tile.images * plane + row * width + col) * side
            };
            offsets.extend(self.shifts.iter().map(start));
        }
    }

    /// Sets `places` to where each output of a tile stands in a run, with `side` channels side by side.
    pub fn places(&self, tile: Extent, side: usize, places: &mut Vec<usize>) {
        let (width, plane) = (self.width(tile), self.plane(tile));
        places.clear();
        for image in 0..tile.images {
            for row in 0..tile.rows {
                let start = image * plane + row * self.step[0] * width;
                places.extend((0..tile.cols).map(|col| (start + col * self.step[1]) * side));
            }
        }
    }
}

/// Planes with fewer outputs than this are computed several images at a time.
pub(super) const SMALL_PLANE: usize = 256;

/// A plane to copy from: `height` x `width` elements are valid, rows are `row_stride` apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plane<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub height: usize,
    pub width: usize,
}

/// Copies the elements at `origin + (i, j) * step` to `out`, row by row of `cols`, with zeros for
/// what lies outside the plane.
#[inline(always)]
pub(super) fn gather<T: Copy>(
    plane: Plane<'_, T>,
    origin: [isize; 2],
    step: [usize; 2],
    cols: usize,
    out: &mut [T],
    zero: T,
) {
    let (begin, end) = inside(origin[1], step[1], plane.width, cols);
    let (top, bottom) = inside(origin[0], step[0], plane.height, out.len() / cols);
    if (begin, end) != (0, cols) || (top, bottom) != (0, out.len() / cols) {
        out.fill(zero);
    }
    if begin == end || top == bottom {
        return;
    }
    let at = |origin: isize, index: usize, step: usize| (origin + (index * step) as isize) as usize;
    let first = at(origin[0], top, step[0]) * plane.row_stride + at(origin[1], begin, step[1]);
    if step == [1, 1] && cols == plane.row_stride && (begin, end) == (0, cols) {
        let len = (bottom - top) * cols;
        out[top * cols..][..len].copy_from_slice(&plane.data[first..][..len]);
        return;
    }
    for row in 0..bottom - top {
        let source = &plane.data[first + row * step[0] * plane.row_stride..];
        let out = &mut out[(top + row) * cols + begin..][..end - begin];
        match step[1] {
            // SAFETY: the row's `end - begin` elements lie inside both, which the slices check.
            1 => unsafe { copy_row(&source[..out.len()], out.as_mut_ptr()) },
            2 => out.iter_mut().zip(source.iter().step_by(2)).for_each(|(to, from)| *to = *from),
            step => out.iter_mut().zip(source.iter().step_by(step)).for_each(|(to, from)| *to = *from),
        }
    }
}

/// As `gather` for pixels of channels side by side: copies `side` of them, `plane.row_stride` elements from one pixel to
/// the next.
#[inline(always)]
pub(super) fn gather_pixels<T: Copy>(
    plane: Plane<'_, T>,
    origin: [isize; 2],
    step: [usize; 2],
    cols: usize,
    side: usize,
    out: &mut [T],
    zero: T,
) {
    let rows = out.len() / (cols * side);
    let (begin, end) = inside(origin[1], step[1], plane.width, cols);
    let (top, bottom) = inside(origin[0], step[0], plane.height, rows);
    if (begin, end) != (0, cols) || (top, bottom) != (0, rows) {
        out.fill(zero);
    }
    if begin == end {
        return;
    }
    let at = |origin: isize, index: usize, step: usize| (origin + (index * step) as isize) as usize;
    for row in top..bottom {
        let first = at(origin[0], row, step[0]) * plane.width + at(origin[1], begin, step[1]);
        let source = &plane.data[first * plane.row_stride..];
        let out = &mut out[(row * cols + begin) * side..][..(end - begin) * side];
        if step[1] == 1 && plane.row_stride == side {
            out.copy_from_slice(&source[..out.len()]);
            continue;
        }
        for (pixel, out) in out.chunks_exact_mut(side).enumerate() {
            out.copy_from_slice(&source[pixel * step[1] * plane.row_stride..][..side]);
        }
    }
}

/// The range of indices in `0..count` whose `origin + index * step` lies in `0..extent`.
fn inside(origin: isize, step: usize, extent: usize, count: usize) -> (usize, usize) {
    let before = |limit: isize| ((limit - origin).max(0) as usize).div_ceil(step);
    let begin = before(0).min(count);
    (begin, before(extent as isize).clamp(begin, count))
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
