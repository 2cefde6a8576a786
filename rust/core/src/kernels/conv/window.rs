//! Copies of what a tile reads: a window of a volume, with zeros where it leaves the volume.

use std::ops::Range;

use super::layout::{place, DIMS};
use crate::kernels::relayout::copy_blocks;

/// A window of any channel of any image: it is laid once for a tile.
#[derive(Debug)]
pub(super) struct Window {
    /// Slices, rows and columns of the copy.
    extents: [usize; 3],
    /// Those of them that lie inside the volume.
    inside: [Range<usize>; 3],
    /// The place in the volume of the first of these.
    first: usize,
    /// Places between neighbouring slices, rows and columns.
    steps: [usize; 3],
}

impl Window {
    /// The window of the elements at `origin + (i, j, k) * step`, so many along each dim, in a volume.
    pub fn new(origin: [isize; 3], step: [usize; 3], extents: [usize; 3], volume: [usize; 3]) -> Self {
        let inside = DIMS.map(|dim| inside(origin[dim], step[dim], volume[dim], extents[dim]));
        // Of windows that are all outside it is never read.
        let start = DIMS.map(|dim| (origin[dim] + (inside[dim].start * step[dim]) as isize).max(0) as usize);
        let [_, height, width] = volume;
        let steps = [step[0] * height * width, step[1] * width, step[2]];
        Self { extents, inside, first: place(start, volume), steps }
    }

    /// Copies the window of `volume` to `out`.
    // No closures: they would not be compiled for the instruction set of the kernel around them.
    #[inline(always)]
    pub fn copy<T: Copy>(&self, volume: &[T], out: &mut [T], zero: T) {
        let ([slices, rows, cols], [_, height, width]) = (&self.inside, self.extents);
        let (count, len) = (rows.len(), cols.len());
        let inside = slices.len() * count * len;
        if inside != out.len() {
            out.fill(zero);
        }
        if inside == 0 {
            return;
        }
        let [slice_step, row_step, step] = self.steps;
        for slice in 0..slices.len() {
            let from = &volume[self.first + slice * slice_step..];
            let to = &mut out[((slices.start + slice) * height + rows.start) * width + cols.start..];
            if step == 1 && row_step == width && len == width {
                to[..count * width].copy_from_slice(&from[..count * width]);
            } else if step == 1 {
                copy_rows(from, row_step, to, width, count, len);
            } else {
                for row in 0..count {
                    let (from, to) = (&from[row * row_step..], &mut to[row * width..][..len]);
                    match step {
                        2 => to.iter_mut().zip(from.iter().step_by(2)).for_each(|(to, from)| *to = *from),
                        step => {
                            to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to = *from)
                        }
                    }
                }
            }
        }
    }

    /// The same where an element is a pixel of channels side by side: copies `side` of its `pixel` numbers.
    #[inline(always)]
    pub fn copy_pixels<T: Copy>(&self, volume: &[T], pixel: usize, side: usize, out: &mut [T], zero: T) {
        let ([slices, rows, cols], [_, height, width]) = (&self.inside, self.extents);
        let (count, len) = (rows.len(), cols.len());
        let inside = slices.len() * count * len;
        if inside * side != out.len() {
            out.fill(zero);
        }
        if inside == 0 {
            return;
        }
        let [slice_step, row_step, step] = self.steps;
        for slice in 0..slices.len() {
            for row in 0..count {
                let from = &volume[(self.first + slice * slice_step + row * row_step) * pixel..];
                let at = ((slices.start + slice) * height + rows.start + row) * width + cols.start;
                let to = &mut out[at * side..][..len * side];
                if step == 1 && pixel == side {
                    to.copy_from_slice(&from[..to.len()]);
                    continue;
                }
                for (index, to) in to.chunks_exact_mut(side).enumerate() {
                    to.copy_from_slice(&from[index * step * pixel..][..side]);
                }
            }
        }
    }
}

/// The range of indices in `0..count` whose `origin + index * step` lies in `0..extent`.
pub(super) fn inside(origin: isize, step: usize, extent: usize, count: usize) -> Range<usize> {
    let before = |limit: isize| {
        let distance = (limit - origin).max(0) as usize;
        if step == 1 {
            distance // divisions take long, and most steps are 1
        } else {
            distance.div_ceil(step)
        }
    };
    let begin = before(0).min(count);
    begin..before(extent as isize).clamp(begin, count)
}

/// Copies so many rows of `len` elements that start `from_row` and `to_row` apart.
#[inline(always)]
pub(super) fn copy_rows<T: Copy>(
    from: &[T],
    from_row: usize,
    to: &mut [T],
    to_row: usize,
    count: usize,
    len: usize,
) {
    assert!(count == 0 || (count - 1) * to_row + len <= to.len());
    // SAFETY: by the line above, the last row ends in `to`.
    unsafe { copy_rows_to(from, from_row, to.as_mut_ptr(), to_row, count, len) };
}

/// The same where what lies between the rows belongs to others.
///
/// # Safety
/// `to` must be valid for the rows.
#[inline(always)]
pub(super) unsafe fn copy_rows_to<T: Copy>(
    from: &[T],
    from_row: usize,
    to: *mut T,
    to_row: usize,
    count: usize,
    len: usize,
) {
    assert!(count == 0 || (count - 1) * from_row + len <= from.len());
    let from = from.as_ptr();
    // The length is told before the loop: each row takes a few instructions.
    // SAFETY: by the line above the last row ends in `from`; each call's block is at most as long as a row.
    unsafe {
        match len {
            0 => {}
            1 => blocks_of_rows::<T, 1>(from, from_row, to, to_row, count, len),
            2..4 => blocks_of_rows::<T, 2>(from, from_row, to, to_row, count, len),
            4..8 => blocks_of_rows::<T, 4>(from, from_row, to, to_row, count, len),
            8..16 => blocks_of_rows::<T, 8>(from, from_row, to, to_row, count, len),
            _ => blocks_of_rows::<T, 16>(from, from_row, to, to_row, count, len),
        }
    }
}

/// # Safety
/// Both must be valid for the rows, which must have at least `N` elements.
#[inline(always)]
unsafe fn blocks_of_rows<T: Copy, const N: usize>(
    from: *const T,
    from_row: usize,
    to: *mut T,
    to_row: usize,
    count: usize,
    len: usize,
) {
    for row in 0..count {
        // SAFETY: the caller's promise.
        unsafe { copy_blocks::<T, N>(from.add(row * from_row), to.add(row * to_row), len) };
    }
}

/// Copies a short row in blocks of which the last overlaps the one before: cheaper than calling memcpy.
///
/// # Safety
/// `to` must be valid for as many elements as `from` has.
#[inline(always)]
pub(super) unsafe fn copy_row<T: Copy>(from: &[T], to: *mut T) {
    let (from, len) = (from.as_ptr(), from.len());
    // SAFETY: each call's block is at most as long as the row.
    unsafe {
        match len {
            0 => {}
            1 => *to = *from,
            2..4 => copy_blocks::<T, 2>(from, to, len),
            4..8 => copy_blocks::<T, 4>(from, to, len),
            _ => copy_blocks::<T, 8>(from, to, len),
        }
    }
}
