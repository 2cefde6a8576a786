//! The gradient of the weight where a group has few output channels, as in depthwise convolutions:
//! scalar products of the output's gradient with shifted runs of the input.
//!
//! A task owns a block of the weight and goes over all images in order, so the result does not
//! depend on the number of threads and needs no partial sums.

use std::ops::Range;

use super::layout::{place, Extent, Layout, DIMS, SMALL_VOLUME};
use super::pass::{copy_tile, cut, Pass};
use super::product::SLOP;
use super::window::copy_rows;
use super::{ConvGeometry, Float};
use crate::kernels::gemm::{Vector, Vectored};
use crate::kernels::kept;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel};

/// Bytes of the volumes of a tile: a part of the L2 cache.
const TILE_BYTES: usize = 96 * 1024;
/// Multiply-adds that are worth a thread (about 20 microseconds).
const GRAIN: usize = 1 << 19;

/// Writes the gradient of the weight.
pub(super) fn grad_weight<T: Float>(
    g: &ConvGeometry,
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
    let cost = g.batch * pass.len.iter().product::<usize>() * block[0] * block[1] * g.filter_numel();
    let out = SharedSlice::new(grad_weight);
    par::for_each_chunk(grid.iter().product(), GRAIN.div_ceil(cost), |tasks| {
        simd::dispatch(Tasks { g, pass, layout: &layout, tile, block, grid, tasks, grad_out, x, out });
    });
}

/// Output and input channels of a task's block: enough products for each element that is copied,
/// and enough tasks for some threads.
fn block(g: &ConvGeometry) -> [usize; 2] {
    let (inputs, outputs) = (g.group_inputs(), g.group_outputs());
    let taps = g.filter_numel();
    let rows = if inputs * taps <= 32 { 8 } else { (128 / taps).clamp(16, 32) };
    [rows.min(outputs), (144 / taps).clamp(8, 64).min(inputs)]
}

/// Size of the tiles, by the geometry alone.
fn tile(block: [usize; 2], batch: usize, pass: &Pass, layout: &Layout, element: usize) -> Extent {
    let [slices, rows, cols] = pass.len;
    let volumes = block[0] + block[1] * layout.origins.len();
    // Long runs: each ends in a horizontal sum.
    let outputs = (TILE_BYTES / (volumes * element)).max(512);
    let whole = Extent { images: 1, len: pass.len };
    let volume = layout.volume(whole);
    if volume <= outputs {
        let is_small = slices * rows * cols < 4 * SMALL_VOLUME;
        let images = if is_small { (outputs / volume).clamp(1, batch) } else { 1 };
        return Extent { images, ..whole };
    }
    let [_, height, width] = layout.extents(whole);
    let len = if slices > 1 && height * width <= outputs {
        [slices.div_ceil(slices.div_ceil(outputs / (height * width))), rows, cols]
    } else if cols <= 2 * outputs {
        [1, (outputs / width).clamp(1, rows), cols]
    } else {
        [1, 1, outputs]
    };
    Extent { images: 1, len }
}

struct Tasks<'a, T> {
    g: &'a ConvGeometry,
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
        let [slices, rows, cols] = DIMS.map(|dim| self.pass.len[dim].div_ceil(self.tile.len[dim]));
        let grid = [1, self.g.batch.div_ceil(self.tile.images), slices, rows, cols];
        for index in 0..grid.iter().product() {
            let (_, image, at, tile) = cut(index, grid, self.tile, self.pass);
            for task in self.tasks.clone() {
                self.run_task::<I>(task, (image, at), tile, &mut scratch);
            }
        }
        kept::give_back(scratch);
    }
}

impl<T: Float> Tasks<'_, T> {
    /// Adds what a tile gives to the block of the weight that is the task's.
    #[inline(always)]
    fn run_task<I: Isa>(&self, task: usize, at: (usize, [usize; 3]), tile: Extent, scratch: &mut Scratch<T>) {
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
    fn copy_grad(
        &self,
        channels: Range<usize>,
        (image, at): (usize, [usize; 3]),
        tile: Extent,
        scratch: &mut Vec<T>,
    ) -> usize {
        let (all, inner) = (self.pass.len, self.layout.extents(tile));
        let (numel, volume) = (all.iter().product::<usize>(), self.layout.volume(tile));
        let [slices, mut rows, mut cols] = tile.len;
        if cols == all[2] && cols == inner[2] {
            (rows, cols) = (1, rows * cols); // they follow each other here and there
        }
        let pitch = self.layout.run(tile).next_multiple_of(SLOP / 4);
        scratch.resize(scratch.len().max(channels.len() * pitch), T::ZERO);
        for (channel, out) in channels.zip(scratch.chunks_exact_mut(pitch)) {
            out.fill(T::ZERO);
            for index in 0..tile.images {
                let from = &self.grad_out[((image + index) * self.g.out_channels + channel) * numel..];
                for slice in 0..slices {
                    let from = &from[place([at[0] + slice, at[1], at[2]], all)..];
                    let out = &mut out[index * volume + place([slice, 0, 0], inner)..];
                    copy_rows(from, all[2], out, inner[2], rows, cols);
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
