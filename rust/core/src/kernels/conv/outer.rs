//! The gradient of the weight as a matrix product that sums over pixels.
//!
//! Its rows are the (channel, tap) pairs of the input, its columns the output channels. A row is a shifted
//! run of the copied volumes of `layout`, read one number at a time, so one shift is as good as another;
//! a pixel's columns are a few vectors of the output's gradient, which is packed for that. The batch is
//! dealt out to a number of tasks that follows from the geometry alone, and their sums are added in
//! order: no number of threads changes a bit.

use super::layout::{place, Extent, Layout, DIMS};
use super::pass::{copy_tile, cut, Pass};
use super::tile::{any_rows, Factors, Sums};
use super::{ConvGeometry, Float};
use crate::array::Array;
use crate::kernels::gemm::{self, Mat, Pack, Vector, Vectored};
use crate::kernels::kept;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Level};
use crate::Result;

/// Pixels of a tile: a panel of the output's gradient stays in the L1 cache, and the sums are read and
/// written rarely.
const TILE_PIXELS: usize = 320;
/// Bytes of a task's input volumes, and of its sums: parts of the L2 cache.
const BLOCK_BYTES: usize = 192 * 1024;
/// Tasks at least, where each has enough to do.
const TASKS: usize = 16;
/// Multiply-adds of a task at least (about 20 microseconds).
const GRAIN: usize = 1 << 20;
/// Output channels that are added up and put into the weight's order at a time: a cache line.
const STRIP: usize = 16;

/// How the work is cut.
struct Plan<'a> {
    g: &'a ConvGeometry,
    pass: &'a Pass,
    layout: Layout,
    tile: Extent,
    /// Groups, of which there is one at a time, and tiles of images, of slices, of rows, of columns.
    grid: [usize; 5],
    /// Input channels of a task.
    block: usize,
    /// Blocks of a group, and parts that the tiles are dealt into.
    blocks: usize,
    parts: usize,
    /// Output channels, rounded up to whole panels of `width` columns.
    columns: usize,
    width: usize,
}

/// Writes the gradient of the weight. An error if the memory for the sums is not there.
pub(super) fn grad_weight<T: Float>(
    g: &ConvGeometry,
    pass: &Pass,
    grad_out: &[T],
    x: &[T],
    grad_weight: &mut [T],
) -> Result<()> {
    let plan = Plan::new::<T>(g, pass);
    let rows = g.in_channels * g.filter_numel();
    let mut sums = Array::empty(&[plan.parts * rows * plan.columns], T::DTYPE)?;
    let shared = SharedSlice::new(sums.slice_mut::<T>());
    par::for_each(g.groups * plan.blocks * plan.parts, |task| {
        simd::dispatch(Task { plan: &plan, task, grad_out, x, sums: shared });
    });
    plan.collect(sums.slice(), grad_weight);
    Ok(())
}

impl<'a> Plan<'a> {
    /// By the geometry alone, not by the number of threads.
    fn new<T: Float>(g: &'a ConvGeometry, pass: &'a Pass) -> Self {
        let (inputs, outputs, taps) = (g.group_inputs(), g.group_outputs(), g.filter_numel());
        let mut layout = Layout::shared(&pass.taps, pass.step, [1; 3], pass.len, pass.source.extents);
        let mut tile = tile(g.batch, pass, &layout, size_of::<T>());
        if layout.channel(tile) > 2 * taps * layout.outputs(tile) {
            layout = Layout::apart(&pass.taps, pass.step, pass.len);
            tile = self::tile(g.batch, pass, &layout, size_of::<T>());
        }
        let [slices, rows, cols] = DIMS.map(|dim| pass.len[dim].div_ceil(tile.len[dim]));
        let grid = [1, g.batch.div_ceil(tile.images), slices, rows, cols];
        let width = gemm::width::<T>(simd::level(), false);
        // By the widest vectors, so that the cut is the same for every instruction set.
        let columns = outputs.next_multiple_of(gemm::width::<T>(Level::V4, false));
        let per_channel = layout.channel(tile).max(taps * columns) * size_of::<T>();
        let blocks = inputs.div_ceil((BLOCK_BYTES / per_channel).max(1));
        let block = inputs.div_ceil(blocks);
        let blocks = inputs.div_ceil(block);
        let work = g.batch * pass.len.iter().product::<usize>() * block * taps * outputs;
        let most = (grid.iter().product::<usize>() / 2).min(work / GRAIN).max(1);
        let parts = TASKS.div_ceil(g.groups * blocks).min(most);
        Self { g, pass, layout, tile, grid, block, blocks, parts, columns, width }
    }

    /// Adds the parts' sums and brings them into the weight's order.
    fn collect<T: Float>(&self, sums: &[T], grad_weight: &mut [T]) {
        let (depth, outputs) = (self.g.group_inputs() * self.g.filter_numel(), self.g.group_outputs());
        let (strips, part) = (outputs.div_ceil(STRIP), self.g.groups * depth * self.columns);
        let out = SharedSlice::new(grad_weight);
        let grain = GRAIN.div_ceil(8 * STRIP * depth * self.parts);
        par::for_each_chunk(self.g.groups * strips, grain, |range| {
            for (group, strip) in range.map(|index| (index / strips, index % strips * STRIP)) {
                let len = STRIP.min(outputs - strip);
                for row in 0..depth {
                    let mut total = [T::ZERO; STRIP];
                    for part in sums.chunks_exact(part) {
                        let from = &part[(group * depth + row) * self.columns + strip..][..len];
                        total.iter_mut().zip(from).for_each(|(total, x)| *total += *x);
                    }
                    for (output, total) in total.into_iter().enumerate().take(len) {
                        let index = (group * outputs + strip + output) * depth + row;
                        // SAFETY: strips are disjoint and lie in the weight.
                        unsafe { out.at(index).write(total) };
                    }
                }
            }
        });
    }
}

/// Size of the tiles.
fn tile(batch: usize, pass: &Pass, layout: &Layout, element: usize) -> Extent {
    let [slices, rows, cols] = pass.len;
    let whole = Extent { images: 1, len: pass.len };
    let band = |len: usize, numel: usize| len.div_ceil(len.div_ceil(TILE_PIXELS / numel));
    if slices * rows * cols <= TILE_PIXELS {
        let room = BLOCK_BYTES / (8 * element * layout.channel(whole)).max(1);
        let images = (TILE_PIXELS / (slices * rows * cols)).min(room).clamp(1, batch);
        Extent { images, ..whole }
    } else if rows * cols <= TILE_PIXELS {
        Extent { images: 1, len: [band(slices, rows * cols), rows, cols] }
    } else if cols <= TILE_PIXELS {
        Extent { images: 1, len: [1, band(rows, cols), cols] }
    } else {
        Extent { images: 1, len: [1, 1, band(cols, 1)] }
    }
}

/// Memory that tasks use one after the other.
#[derive(Default)]
struct Scratch<T> {
    volumes: Vec<T>,
    panels: Vec<T>,
    offsets: Vec<usize>,
    pixels: Vec<usize>,
}

/// The sums over a part of the tiles for a block of input channels.
struct Task<'a, T> {
    plan: &'a Plan<'a>,
    task: usize,
    grad_out: &'a [T],
    x: &'a [T],
    sums: SharedSlice<'a, T>,
}

impl<T: Float> Vectored for Task<'_, T> {
    type Elem = T;
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) {
        let plan = self.plan;
        let Plan { g, pass, layout, grid, .. } = plan;
        let (part, block) = (self.task % plan.parts, self.task / plan.parts);
        let (group, start) = (block / plan.blocks, block % plan.blocks * plan.block);
        let inputs = g.group_inputs();
        let channels = start..inputs.min(start + plan.block);
        let moved = group * inputs + channels.start..group * inputs + channels.end;
        let first_row = ((part * g.groups + group) * inputs + channels.start) * g.filter_numel();
        // Blocks of a part and parts are disjoint: tasks write different sums.
        let out = self.sums.at(first_row * plan.columns);
        let mut scratch = kept::take::<Scratch<T>>();
        let Scratch { volumes, panels, offsets, pixels } = &mut *scratch;
        let mut known = None;
        let count = grid.iter().product::<usize>();
        let tiles = part * count / plan.parts..(part + 1) * count / plan.parts;
        for index in tiles.clone() {
            let (_, image, at, tile) = cut(index, *grid, plan.tile, pass);
            copy_tile(pass, layout, self.x, moved.clone(), (image, at), tile, volumes);
            if known != Some(tile) {
                let side = pass.side(channels.len());
                layout.offsets(tile, channels.len(), side, offsets);
                layout.places(tile, side, pixels);
                known = Some(tile);
            }
            self.pack_grad(group, (image, at), tile, panels);
            // SAFETY: volumes and panels hold the tile, and `out` a row of columns for each offset.
            unsafe { self.product::<V>(volumes, offsets, pixels, panels, out, index > tiles.start) };
        }
        kept::give_back(scratch);
    }
}

impl<T: Float> Task<'_, T> {
    /// Packs a tile of the output's gradient: panels of `width` channels side by side, pixel after pixel.
    fn pack_grad(&self, group: usize, (image, at): (usize, [usize; 3]), tile: Extent, panels: &mut Vec<T>) {
        let (plan, extents) = (self.plan, self.plan.pass.len);
        let volume = extents.iter().product::<usize>();
        let (outputs, pixels, run) =
            (plan.g.group_outputs(), plan.layout.outputs(tile), tile.len.iter().product());
        panels.resize(panels.len().max(pixels * plan.columns), T::ZERO);
        for panel in (0..outputs).step_by(plan.width) {
            for index in 0..tile.images {
                let (channel, all) = (group * outputs + panel, plan.g.out_channels);
                let lanes = plan.width.min(outputs - panel);
                let (lane, pixel) = if plan.g.channels_last { (1, all) } else { (volume, 1) };
                let from = (image + index) * all * volume + channel * lane + place(at, extents) * pixel;
                debug_assert!(from + (lanes - 1) * lane + (run - 1) * pixel < self.grad_out.len());
                // Tiles have whole slices, or whole rows of one, or one row: an image's pixels follow each other.
                simd::dispatch(Pack {
                    src: Mat { ptr: self.grad_out[from..].as_ptr(), row: lane as isize, col: pixel as isize },
                    lanes,
                    k: run,
                    out: panels[panel * pixels + index * run * plan.width..].as_mut_ptr(),
                    is_a: false,
                });
            }
        }
    }

    /// Writes the products of all rows with all panels to `out`, or adds them.
    ///
    /// # Safety
    /// The volumes must be valid at each offset plus pixel, `panels` hold each pixel, and `out` `columns` for
    /// each offset.
    #[inline(always)]
    unsafe fn product<V: Vector<Elem = T>>(
        &self,
        volumes: &[T],
        offsets: &[usize],
        pixels: &[usize],
        panels: &[T],
        out: *mut T,
        accumulate: bool,
    ) {
        let outputs = self.plan.g.group_outputs();
        let zeros = [T::ZERO; STRIP * 2];
        for panel in (0..outputs).step_by(2 * V::LANES) {
            let factors = Factors {
                source: volumes.as_ptr(),
                starts: offsets,
                steps: pixels,
                columns: panels[panel * pixels.len()..].as_ptr(),
                pitch: 2 * V::LANES,
            };
            let (to, pitch) = (out.wrapping_add(panel), self.plan.columns);
            let (known, known_pitch) =
                if accumulate { (to.cast_const(), pitch) } else { (zeros.as_ptr(), 0) };
            let sums = Sums { to, pitch, known, known_pitch };
            // SAFETY: the caller's promise, for this panel.
            unsafe { any_rows::<V>(factors, outputs - panel <= V::LANES, sums) };
        }
    }
}
