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
use crate::kernels::gemm::{Vector, Vectored};
use crate::kernels::kept;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel};

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

/// Memory that tasks use one after the other.
#[derive(Default)]
struct Scratch<T> {
    x: Vec<T>,
    grad: Vec<T>,
    offsets: Vec<usize>,
}

impl<T: Float> Kernel for Tasks<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut scratch = kept::take::<Scratch<T>>();
        // Tile by tile, not task by task: neighbouring tasks read neighbouring channels, and the caches like
        // memory in order (depthwise 3x3: a third less time).
        for image in (0..self.g.batch).step_by(self.tile.images) {
            for row in (0..self.pass.len[0]).step_by(self.tile.rows) {
                for col in (0..self.pass.len[1]).step_by(self.tile.cols) {
                    let tile = Extent {
                        images: self.tile.images.min(self.g.batch - image),
                        rows: self.tile.rows.min(self.pass.len[0] - row),
                        cols: self.tile.cols.min(self.pass.len[1] - col),
                    };
                    for task in self.tasks.clone() {
                        self.run_task::<I>(task, [image, row, col], tile, &mut scratch);
                    }
                }
            }
        }
        kept::give_back(scratch);
    }
}

impl<T: Float> Tasks<'_, T> {
    /// Adds what a tile gives to the block of the weight that is the task's.
    #[inline(always)]
    fn run_task<I: Isa>(&self, task: usize, at: [usize; 3], tile: Extent, scratch: &mut Scratch<T>) {
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
        copy_tile(self.pass, self.layout, self.x, x.clone(), at, tile, &mut scratch.x);
        self.layout.offsets(tile, x.len(), 1, &mut scratch.offsets);
        let pitch = self.copy_grad(grad.clone(), at, tile, &mut scratch.grad);
        self.dots_of::<I>(scratch, grad.len(), pitch, out, depth);
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
        Kernel::run::<I>(Dots { scratch, rows, pitch, out, depth });
    }
}

/// Scalar products of rows of the gradient with runs of the input, added to `out`.
struct Dots<'a, T> {
    scratch: &'a Scratch<T>,
    /// Rows of the gradient, and the distance between them.
    rows: usize,
    pitch: usize,
    out: *mut T,
    /// Distance between rows of `out`.
    depth: usize,
}

impl<T: Float> Vectored for Dots<'_, T> {
    type Elem = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) {
        // SAFETY: the caller's promise; `out` is the task's block of the weight, `rows` x the number of runs; a run
        // holds `pitch` < run + SLOP elements from its offset.
        unsafe {
            match self.rows {
                1 => self.blocks::<V, 1, 9>(), // the taps of a depthwise 3x3
                2 => self.blocks::<V, 2, 6>(),
                _ => self.blocks::<V, 4, 3>(),
            }
        }
    }
}

impl<T: Float> Dots<'_, T> {
    /// In blocks of up to `R` rows and `K` runs.
    #[inline(always)]
    unsafe fn blocks<V: Vector<Elem = T>, const R: usize, const K: usize>(&self) {
        for row in (0..self.rows).step_by(R) {
            for run in (0..self.scratch.offsets.len()).step_by(K) {
                // SAFETY: the caller's promise.
                unsafe { self.block::<V, R, K>(row, run) };
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // constant bounds: all sums stay in registers
    unsafe fn block<V: Vector<Elem = T>, const R: usize, const K: usize>(&self, row: usize, run: usize) {
        let Scratch { x, grad, offsets } = self.scratch;
        let (rows, runs) = (self.rows - row, offsets.len() - run);
        // What is missing repeats the first one, and its sums are not used.
        let run_of = |k: usize| offsets[run + if k < runs { k } else { 0 }];
        debug_assert!((0..K).all(|k| run_of(k) + self.pitch <= x.len()));
        // SAFETY: the caller's promise; `pitch` is a multiple of the lanes.
        unsafe {
            let grads: [*const T; R] =
                std::array::from_fn(|r| grad.as_ptr().add((row + if r < rows { r } else { 0 }) * self.pitch));
            let runs_at: [*const T; K] = std::array::from_fn(|k| x.as_ptr().add(run_of(k)));
            let mut sums = [[V::zero(); K]; R];
            for at in (0..self.pitch).step_by(V::LANES) {
                let mut grad = [V::zero(); R];
                for r in 0..R {
                    grad[r] = V::load(grads[r].add(at));
                }
                for k in 0..K {
                    let x = V::load(runs_at[k].add(at));
                    for r in 0..R {
                        sums[r][k] = grad[r].fma(x, sums[r][k]);
                    }
                }
            }
            // Without a branch: the loops must be unrolled to keep the sums in registers.
            let mut unused = T::ZERO;
            for r in 0..R {
                for k in 0..K {
                    let to = self.out.wrapping_add((row + r) * self.depth + run + k);
                    let to = if r < rows && k < runs { to } else { &raw mut unused };
                    *to += sums[r][k].sum();
                }
            }
        }
    }
}
