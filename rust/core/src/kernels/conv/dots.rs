//! The gradient of the weight where a group has few output channels, as in depthwise convolutions:
//! scalar products of the output's gradient with shifted runs of the input.
//!
//! A task owns a block of the weight and goes over all images in order, so the result does not
//! depend on the number of threads and needs no partial sums.

use std::ops::Range;

use super::layout::{gather, Extent, Layout, Plane, SMALL_PLANE};
use super::pass::{copy_tile, Pass};
use super::product::SLOP;
use super::{Conv2dGeometry, Float};
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel, Level};

/// Bytes of the planes of a tile: a part of the L2 cache.
const TILE_BYTES: usize = 96 * 1024;
/// Multiply-adds that are worth a thread (about 20 microseconds).
const GRAIN: usize = 1 << 19;

/// Writes the gradient of the weight.
pub(super) fn grad_weight<T: Float>(
    g: &Conv2dGeometry,
    pass: &Pass,
    grad_out: &[T],
    x: &[T],
    grad_weight: &mut [T],
) {
    grad_weight.fill(T::ZERO);
    let layout = pass.layout();
    let (inputs, outputs) = (g.group_inputs(), g.group_outputs());
    let block = block(g);
    let grid = [g.groups, outputs.div_ceil(block[0]), inputs.div_ceil(block[1])];
    let tile = tile(block, g.batch, pass, &layout, size_of::<T>());
    let cost = g.batch * pass.len[0] * pass.len[1] * block[0] * block[1] * g.filter_numel();
    let out = SharedSlice::new(grad_weight);
    par::for_each_chunk(grid.iter().product(), GRAIN.div_ceil(cost), |tasks| {
        simd::dispatch(Tasks { g, pass, layout: &layout, tile, block, grid, tasks, grad_out, x, out });
    });
}

/// Output and input channels of a task's block: enough products for each element that is copied,
/// and enough tasks for some threads.
fn block(g: &Conv2dGeometry) -> [usize; 2] {
    let (inputs, outputs) = (g.group_inputs(), g.group_outputs());
    let taps = g.filter_numel();
    let rows = if inputs * taps <= 32 { 8 } else { (128 / taps).clamp(16, 32) };
    [rows.min(outputs), (144 / taps).clamp(8, 64).min(inputs)]
}

/// Size of the tiles, by the geometry alone.
fn tile(block: [usize; 2], batch: usize, pass: &Pass, layout: &Layout, element: usize) -> Extent {
    let [rows, cols] = pass.len;
    let planes = block[0] + block[1] * layout.origins.len();
    // Long runs: each ends in a horizontal sum.
    let outputs = (TILE_BYTES / (planes * element)).max(512);
    let whole = Extent { images: 1, rows, cols };
    let plane = layout.plane(whole);
    if plane <= outputs {
        let images = if rows * cols < 4 * SMALL_PLANE { (outputs / plane).clamp(1, batch) } else { 1 };
        Extent { images, ..whole }
    } else if cols <= 2 * outputs {
        Extent { images: 1, rows: (outputs / layout.width(whole)).clamp(1, rows), cols }
    } else {
        Extent { images: 1, rows: 1, cols: outputs }
    }
}

struct Tasks<'a, T> {
    g: &'a Conv2dGeometry,
    pass: &'a Pass,
    layout: &'a Layout,
    tile: Extent,
    /// Output and input channels of a block.
    block: [usize; 2],
    /// Groups, blocks of output channels, blocks of input channels.
    grid: [usize; 3],
    tasks: Range<usize>,
    grad_out: &'a [T],
    x: &'a [T],
    out: SharedSlice<'a, T>,
}

/// Memory that the tasks of a range use one after the other.
struct Scratch<T> {
    x: Vec<T>,
    grad: Vec<T>,
    offsets: Vec<usize>,
}

impl<T: Float> Kernel for Tasks<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut scratch = Scratch { x: Vec::new(), grad: Vec::new(), offsets: Vec::new() };
        for task in self.tasks.clone() {
            self.run_task::<I>(task, &mut scratch);
        }
    }
}

impl<T: Float> Tasks<'_, T> {
    #[inline(always)]
    fn run_task<I: Isa>(&self, task: usize, scratch: &mut Scratch<T>) {
        let (inputs, outputs) = (self.g.group_inputs(), self.g.group_outputs());
        let block = |index: usize, size: usize, len: usize| index * size..len.min((index + 1) * size);
        let input = block(task % self.grid[2], self.block[1], inputs);
        let output = block(task / self.grid[2] % self.grid[1], self.block[0], outputs);
        let group = task / (self.grid[2] * self.grid[1]);
        let depth = inputs * self.g.filter_numel();
        // Blocks are disjoint: tasks write different elements.
        let first = (group * outputs + output.start) * depth + input.start * self.g.filter_numel();
        let out = self.out.at(first);
        let moved = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
        let (x, grad) = (moved(&input, group * inputs), moved(&output, group * outputs));
        for image in (0..self.g.batch).step_by(self.tile.images) {
            for row in (0..self.pass.len[0]).step_by(self.tile.rows) {
                for col in (0..self.pass.len[1]).step_by(self.tile.cols) {
                    let tile = Extent {
                        images: self.tile.images.min(self.g.batch - image),
                        rows: self.tile.rows.min(self.pass.len[0] - row),
                        cols: self.tile.cols.min(self.pass.len[1] - col),
                    };
                    let at = [image, row, col];
                    copy_tile(self.pass, self.layout, self.x, x.clone(), at, tile, &mut scratch.x);
                    self.layout.offsets(tile, x.len(), &mut scratch.offsets);
                    let pitch = self.copy_grad(grad.clone(), at, tile, &mut scratch.grad);
                    self.dots_of::<I>(scratch, grad.len(), pitch, out, depth);
                }
            }
        }
    }

    /// Copies the tile of the output's gradient in the layout of a run, with zeros between rows and
    /// after the end; returns the distance between channels.
    #[inline(always)]
    fn copy_grad(&self, channels: Range<usize>, at: [usize; 3], tile: Extent, scratch: &mut Vec<T>) -> usize {
        let [image, row, col] = at;
        let [height, width] = self.pass.len;
        let (cols, plane) = (self.layout.width(tile), self.layout.plane(tile));
        let run = self.layout.run(tile);
        let pitch = run.next_multiple_of(SLOP / 4);
        scratch.resize(scratch.len().max(channels.len() * pitch), T::ZERO);
        for (channel, out) in channels.zip(scratch.chunks_exact_mut(pitch)) {
            out[run..].fill(T::ZERO);
            for (index, out) in out[..run].chunks_mut(plane).enumerate() {
                let start = ((image + index) * self.g.out_channels + channel) * height * width;
                let data = &self.grad_out[start..start + height * width];
                // Nothing after the tile's last row and column: other tiles take that.
                let valid =
                    Plane { data, row_stride: width, height: row + tile.rows, width: col + tile.cols };
                let whole_rows = out.len() / cols * cols;
                let origin = [row as isize, col as isize];
                gather(valid, origin, [1, 1], cols, &mut out[..whole_rows], T::ZERO);
                let rest = out.len() - whole_rows;
                if rest > 0 {
                    let last = (row + tile.rows - 1) * width + col;
                    out[whole_rows..].copy_from_slice(&data[last..last + rest]);
                }
            }
        }
        pitch
    }

    /// Adds the products of `rows` channels of the gradient with all runs of the input to `out`.
    #[inline(always)]
    fn dots_of<I: Isa>(&self, scratch: &Scratch<T>, rows: usize, pitch: usize, out: *mut T, depth: usize) {
        match (I::LEVEL, size_of::<T>()) {
            (Level::V4, 4) => dots::<T, I, 16>(scratch, rows, pitch, out, depth),
            (Level::V4, _) => dots::<T, I, 8>(scratch, rows, pitch, out, depth),
            (Level::V3, 4) => dots::<T, I, 8>(scratch, rows, pitch, out, depth),
            (Level::V3, _) => dots::<T, I, 4>(scratch, rows, pitch, out, depth),
            (Level::Baseline, 4) => dots::<T, I, 4>(scratch, rows, pitch, out, depth),
            (Level::Baseline, _) => dots::<T, I, 2>(scratch, rows, pitch, out, depth),
        }
    }
}

/// Products in blocks of up to 4 rows and 3 runs, in vectors of `L`.
#[inline(always)]
fn dots<T: Float, I: Isa, const L: usize>(
    s: &Scratch<T>,
    rows: usize,
    pitch: usize,
    out: *mut T,
    depth: usize,
) {
    for row in (0..rows).step_by(4) {
        for (index, offsets) in s.offsets.chunks(3).enumerate() {
            let grad = &s.grad[row * pitch..];
            // SAFETY: `row` and the run `3 * index` lie in the task's block of the result.
            let out = unsafe { out.add(row * depth + 3 * index) };
            macro_rules! block {
                ($($rows:literal $runs:literal),+) => {
                    match (4.min(rows - row), offsets.len()) {
                        // SAFETY: the gradient has `rows` rows of `pitch`, a multiple of L; from each
                        // offset the input has `pitch` < run + SLOP elements; `out` is as above.
                        $(($rows, $runs) => unsafe {
                            dot_block::<T, I, $rows, $runs, L>(grad, pitch, &s.x, offsets, out, depth);
                        },)+
                        _ => unreachable!("blocks have 1 to 4 rows and 1 to 3 runs"),
                    }
                };
            }
            block!(1 1, 1 2, 1 3, 2 1, 2 2, 2 3, 3 1, 3 2, 3 3, 4 1, 4 2, 4 3);
        }
    }
}

/// Adds `R` x `K` products over `pitch` elements to `out`, whose rows are `depth` apart.
///
/// # Safety
/// `grad` must hold `R` rows of `pitch`, `x` must hold `pitch` elements from each of the `K`
/// offsets, and `out` must be valid for `R` rows of `K`; `pitch` must be a multiple of `L`.
#[inline(always)]
unsafe fn dot_block<T: Float, I: Isa, const R: usize, const K: usize, const L: usize>(
    grad: &[T],
    pitch: usize,
    x: &[T],
    offsets: &[usize],
    out: *mut T,
    depth: usize,
) {
    debug_assert!(grad.len() >= R * pitch && offsets.iter().all(|offset| offset + pitch <= x.len()));
    let mut sums = [[[T::ZERO; L]; K]; R];
    for at in (0..pitch).step_by(L) {
        // SAFETY: the caller's promise.
        unsafe {
            let runs: [[T; L]; K] = std::array::from_fn(|k| {
                x.as_ptr().add(*offsets.get_unchecked(k) + at).cast::<[T; L]>().read_unaligned()
            });
            for (row, sums) in sums.iter_mut().enumerate() {
                let grad = grad.as_ptr().add(row * pitch + at).cast::<[T; L]>().read_unaligned();
                for (sums, run) in sums.iter_mut().zip(&runs) {
                    for ((sum, x), grad) in sums.iter_mut().zip(run).zip(grad) {
                        *sum = T::fma::<I>(grad, *x, *sum);
                    }
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (k, lanes) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *out.add(row * depth + k) += sum_lanes(*lanes) };
        }
    }
}

/// The sum of `L` lanes, pairwise.
#[inline(always)]
fn sum_lanes<T: Float, const L: usize>(mut lanes: [T; L]) -> T {
    let mut half = L / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
