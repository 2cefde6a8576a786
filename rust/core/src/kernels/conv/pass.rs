//! A pass: outputs as sums over (channel, tap) of weights times source elements.
//!
//! The forward convolution is one pass over the input. The gradient of the input is one pass over
//! the gradient of the output for each phase of the input's positions (a stride has so many along each dim),
//! with the taps that reach that phase; together they write every position once.

use std::ops::Range;

use smallvec::SmallVec;

use super::layout::{place, Extent, Layout, Tap, DIMS, SMALL_VOLUME};
use super::product::{Product, Target, SLOP};
use super::weights::{Lanes, Weights};
use super::window::Window;
use super::{ConvGeometry, Float};
use crate::kernels::gemm::Vector;
use crate::kernels::kept;
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::{self, Isa, Kernel};

/// Bytes of a tile's source: a part of the L2 cache (1x1 with 256 channels: 1.1 times the speed of 128 KiB).
const TILE_BYTES: usize = 256 * 1024;
/// Outputs of a tile's plane at least and at most: enough to use the weights, few enough to cache.
const TILE_OUTPUTS: Range<usize> = 64..1536;
/// What a multiply-add costs with channels in the lanes, where two vectors share what is loaded, and where not, and
/// what it costs to bring an output to its place, with pixels and with channels in the lanes; all in multiply-adds
/// with pixels in the lanes (conv bench).
const COST_IN_PAIR: f64 = 0.93;
const COST_ALONE: f64 = 1.35;
const COST_OF_COPY: f64 = 4.0;
const COST_OF_TRANSPOSE: f64 = 6.0;
/// Multiply-adds that are worth a thread (about 20 microseconds).
const GRAIN: usize = 1 << 19;
/// Tasks of each of several threads at least.
const TASKS_OF_A_THREAD: usize = 4;

/// Channels of all groups, and extents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volumes {
    pub channels: usize,
    pub extents: [usize; 3],
}

#[derive(Debug)]
pub(super) struct Pass {
    pub batch: usize,
    pub groups: usize,
    pub source: Volumes,
    pub out: Volumes,
    pub taps: Vec<Tap>,
    /// Source elements between neighbouring outputs.
    pub step: [usize; 3],
    /// The outputs of the pass: `len` positions, from `start`, `out_step` apart.
    pub start: [usize; 3],
    pub len: [usize; 3],
    pub out_step: [usize; 3],
    /// See [`ConvGeometry::channels_last`].
    pub channels_last: bool,
}

impl Pass {
    /// The convolution itself.
    pub fn forward(g: &ConvGeometry) -> Self {
        let tap = |index: usize| {
            let reach = g.reach(index);
            Tap { index, position: DIMS.map(|dim| reach[dim] as isize - g.padding[dim] as isize) }
        };
        let len = g.out_extents();
        Self {
            batch: g.batch,
            groups: g.groups,
            source: Volumes { channels: g.in_channels, extents: g.in_extents },
            out: Volumes { channels: g.out_channels, extents: len },
            taps: (0..g.filter_numel()).map(tap).collect(),
            step: g.stride,
            start: [0; 3],
            len,
            out_step: [1; 3],
            channels_last: g.channels_last,
        }
    }

    /// The gradient of the input positions `i` with `(i + padding) % stride == phase`.
    pub fn to_input(g: &ConvGeometry, phase: [usize; 3]) -> Self {
        // With i + padding = q * stride + phase: the first q whose i is not negative, and how many.
        let first = DIMS.map(|dim| g.padding[dim].saturating_sub(phase[dim]).div_ceil(g.stride[dim]));
        let start = DIMS.map(|dim| first[dim] * g.stride[dim] + phase[dim] - g.padding[dim]);
        let len = DIMS.map(|dim| g.in_extents[dim].saturating_sub(start[dim]).div_ceil(g.stride[dim]));
        let mut taps = Vec::new();
        for index in 0..g.filter_numel() {
            let reach = g.reach(index);
            if DIMS.iter().all(|&dim| reach[dim] % g.stride[dim] == phase[dim]) {
                let position = DIMS.map(|dim| first[dim] as isize - (reach[dim] / g.stride[dim]) as isize);
                taps.push(Tap { index, position });
            }
        }
        Self {
            batch: g.batch,
            groups: g.groups,
            source: Volumes { channels: g.out_channels, extents: g.out_extents() },
            out: Volumes { channels: g.in_channels, extents: g.in_extents },
            taps,
            step: [1; 3],
            start,
            len,
            out_step: g.stride,
            channels_last: g.channels_last,
        }
    }

    /// How the source of its tiles lies in scratch memory, for vectors along runs.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.taps, self.step, self.len, self.source.extents, self.out.channels / self.groups)
    }

    /// What the lanes of its vectors should be: by the geometry alone, and the same on every machine.
    pub fn lanes<T: Float>(&self) -> Lanes {
        let rows = self.out.channels / self.groups;
        let depth = (self.source.channels / self.groups * self.taps.len()) as f64;
        if self.channels_last {
            return Lanes::Channels;
        }
        if depth == 0.0 || self.batch == 0 || self.len.contains(&0) {
            return Lanes::Pixels;
        }
        let layout = self.layout();
        let tile = self.tile(&layout, size_of::<T>());
        let run = layout.run(tile).next_multiple_of(2 * T::V4::LANES);
        let pixels = rows as f64 * (run as f64 / layout.outputs(tile) as f64 * depth + COST_OF_COPY);
        let (pairs, rest) = (rows / (2 * T::V4::LANES), rows % (2 * T::V4::LANES));
        let (pairs, single) = if rest > T::V4::LANES { (pairs + 1, 0) } else { (pairs, rest.min(1)) };
        let vectors = 2.0 * COST_IN_PAIR * pairs as f64 + COST_ALONE * single as f64;
        let channels = T::V4::LANES as f64 * vectors * depth + rows as f64 * COST_OF_TRANSPOSE;
        if channels < pixels {
            Lanes::Channels
        } else {
            Lanes::Pixels
        }
    }

    /// How many of so many channels lie side by side in scratch.
    pub fn side(&self, channels: usize) -> usize {
        if self.channels_last {
            channels
        } else {
            1
        }
    }

    /// As `layout`, for the lanes that the weights have.
    fn layout_for(&self, lanes: Lanes) -> Layout {
        if lanes == Lanes::Pixels {
            return self.layout();
        }
        let source = self.source.extents;
        let shared = Layout::shared(&self.taps, self.step, [1; 3], self.len, source);
        let whole = Extent { images: 1, len: self.len };
        // Far-apart taps waste no work, but memory.
        if shared.channel(whole) > 2 * self.taps.len() * shared.outputs(whole) {
            return Layout::apart(&self.taps, self.step, self.len);
        }
        if shared.origins.len() == self.step.iter().product::<usize>() {
            // All of the source is needed: copied as it lies.
            return Layout::shared(&self.taps, [1; 3], self.step, self.len, source);
        }
        shared
    }

    /// Where a tile goes that starts at a position of an image, from a channel on.
    fn target<T>(&self, out: SharedSlice<'_, T>, channel: usize, image: usize, at: [usize; 3]) -> Target<T> {
        let Volumes { channels, extents } = self.out;
        let volume = extents.iter().product::<usize>();
        let (between, pixel) = if self.channels_last { (1, channels) } else { (volume, 1) };
        let start = DIMS.map(|dim| self.start[dim] + at[dim] * self.out_step[dim]);
        let [slice, row, col] = self.out_step;
        let width = extents[2] * pixel;
        Target {
            out: out.at(image * channels * volume + channel * between + place(start, extents) * pixel),
            channel: between,
            image: channels * volume,
            step: [slice * extents[1] * width, row * width, col * pixel],
        }
    }

    /// Runs the pass on all threads. Each output is one sum in a fixed order, so no split shows.
    pub fn run<T: Float>(&self, source: &[T], weights: &Weights<T>, bias: Option<&[T]>, out: &mut [T]) {
        if self.batch == 0 || self.len.contains(&0) || weights.rows == 0 {
            return;
        }
        debug_assert!(!self.channels_last || weights.lanes == Lanes::Channels);
        let layout = self.layout_for(weights.lanes);
        let mut tile = self.tile(&layout, size_of::<T>());
        let threads = par::num_threads();
        if threads > 1 {
            // Some tiles for each thread: rather fewer images than copies of the same ones.
            let images = self.batch.div_ceil((TASKS_OF_A_THREAD * threads).div_ceil(self.groups));
            tile.images = tile.images.min(images);
        }
        let grid = [
            self.groups,
            self.batch.div_ceil(tile.images),
            self.len[0].div_ceil(tile.len[0]),
            self.len[1].div_ceil(tile.len[1]),
            self.len[2].div_ceil(tile.len[2]),
        ];
        let tiles: usize = grid.iter().product();
        // Few tiles for many threads: deal out the rows of the weights too.
        let splits = (TASKS_OF_A_THREAD * threads).div_ceil(tiles).min(weights.blocks);
        let splits = if threads == 1 { 1 } else { splits };
        let cost = (weights.rows * weights.depth + 8) * layout.outputs(tile) / splits;
        let out = SharedSlice::new(out);
        par::for_each_chunk(tiles * splits, GRAIN.div_ceil(cost.max(1)), |tasks| {
            let tasks =
                Tasks { pass: self, layout: &layout, tile, grid, splits, tasks, source, weights, bias, out };
            simd::dispatch(tasks);
        });
    }

    /// Size of the tiles, by the geometry alone.
    fn tile(&self, layout: &Layout, element: usize) -> Extent {
        let [slices, rows, cols] = self.len;
        let channels = (self.source.channels / self.groups).max(1);
        let cell: usize = layout.step.iter().product();
        let per_output = channels * layout.origins.len().max(1) * cell * element;
        let outputs = (TILE_BYTES / per_output).clamp(TILE_OUTPUTS.start, TILE_OUTPUTS.end);
        let whole = Extent { images: 1, len: self.len };
        let volume = layout.volume(whole).div_ceil(cell);
        if volume <= outputs {
            let is_small = slices * rows * cols < SMALL_VOLUME;
            let images = if is_small { (outputs.min(512) / volume).clamp(1, self.batch) } else { 1 };
            return Extent { images, ..whole };
        }
        let [_, height, width] = layout.extents(whole);
        let plane = (height * width).div_ceil(layout.step[1] * layout.step[2]);
        let len = if slices > 1 && plane <= outputs {
            // Bands of the same length: each copies the slices around it again.
            let bands = slices.div_ceil(outputs / plane);
            [slices.div_ceil(bands), rows, cols]
        } else if cols <= 2 * outputs {
            [1, (outputs / width.div_ceil(layout.step[2])).clamp(1, rows), cols]
        } else {
            [1, 1, outputs]
        };
        Extent { images: 1, len }
    }
}

/// A range of tasks; each is a tile of a group's outputs and a range of its channels.
struct Tasks<'a, T> {
    pass: &'a Pass,
    layout: &'a Layout,
    tile: Extent,
    /// Groups, tiles of images, of slices, of rows, of columns.
    grid: [usize; 5],
    splits: usize,
    tasks: Range<usize>,
    source: &'a [T],
    weights: &'a Weights<T>,
    bias: Option<&'a [T]>,
    out: SharedSlice<'a, T>,
}

/// Memory that tasks use one after the other.
#[derive(Default)]
struct Scratch<T> {
    source: Vec<T>,
    buffer: Vec<T>,
    offsets: Vec<usize>,
    outputs: Vec<usize>,
    /// Tile that `offsets` and `outputs` are for.
    extent: Option<Extent>,
}

impl<T: Float> Kernel for Tasks<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut scratch = kept::take::<Scratch<T>>();
        scratch.extent = None; // that of another pass
        for task in self.tasks.clone() {
            self.run_task::<I>(task, &mut scratch);
        }
        kept::give_back(scratch);
    }
}

impl<T: Float> Tasks<'_, T> {
    #[inline(always)]
    fn run_task<I: Isa>(&self, task: usize, scratch: &mut Scratch<T>) {
        let (pass, grid) = (self.pass, self.grid);
        let (index, split) = (task / self.splits, task % self.splits);
        let (group, image, at, tile) = cut(index, grid, self.tile, pass);
        let channels = pass.source.channels / pass.groups;
        copy_tile(
            pass,
            self.layout,
            self.source,
            group * channels..(group + 1) * channels,
            (image, at),
            tile,
            &mut scratch.source,
        );
        if scratch.extent != Some(tile) {
            let side = pass.side(channels);
            self.layout.offsets(tile, channels, side, &mut scratch.offsets);
            self.layout.places(tile, side, &mut scratch.outputs);
            scratch.extent = Some(tile);
        }
        let blocks = self.weights.blocks;
        let product = Product {
            weights: self.weights,
            group,
            blocks: split * blocks / self.splits..(split + 1) * blocks / self.splits,
            bias: self.bias.map(|bias| &bias[group * self.weights.rows..]),
            source: &scratch.source,
            offsets: &scratch.offsets,
            outputs: &scratch.outputs,
            layout: self.layout,
            tile,
            buffer: &mut scratch.buffer,
            // Tiles, groups and splits of the rows are disjoint: tasks write different elements.
            target: pass.target(self.out, group * self.weights.rows, image, at),
        };
        // SAFETY: inlined into a kernel for `I`; the target as said above.
        unsafe { product.run::<I>() };
    }
}

/// The tile of a number in a grid of groups, images, slices, rows and columns of tiles: its group, its first image, where
/// it starts in that, and its extents, less at the ends of images.
pub(super) fn cut(
    index: usize,
    [_, images, slices, rows, cols]: [usize; 5],
    tile: Extent,
    pass: &Pass,
) -> (usize, usize, [usize; 3], Extent) {
    let (index, col) = (index / cols, index % cols);
    let (index, row) = (index / rows, index % rows);
    let (index, slice) = (index / slices, index % slices);
    let (group, image) = (index / images, index % images * tile.images);
    let at = [slice * tile.len[0], row * tile.len[1], col * tile.len[2]];
    let len = DIMS.map(|dim| tile.len[dim].min(pass.len[dim] - at[dim]));
    (group, image, at, Extent { images: tile.images.min(pass.batch - image), len })
}

/// For each origin of the layout what a tile reads that starts at a position of an image.
fn windows(pass: &Pass, layout: &Layout, at: [usize; 3], tile: Extent) -> SmallVec<[Window; 4]> {
    let (extents, source) = (layout.extents(tile), pass.source.extents);
    let window = |origin: &[isize; 3]| {
        let origin = DIMS.map(|dim| origin[dim] + (at[dim] * pass.step[dim]) as isize);
        Window::new(origin, layout.spacing, extents, source)
    };
    layout.origins.iter().map(window).collect()
}

/// Copies the volumes of `channels` that the tile reads, which starts at a position of an image, to `scratch`.
#[inline(always)]
pub(super) fn copy_tile<T: Float>(
    pass: &Pass,
    layout: &Layout,
    source: &[T],
    channels: Range<usize>,
    (image, at): (usize, [usize; 3]),
    tile: Extent,
    scratch: &mut Vec<T>,
) {
    let Volumes { channels: all, extents: [slices, height, width] } = pass.source;
    let (side, numel) = (pass.side(channels.len()), slices * height * width);
    let used = channels.len() * layout.channel(tile);
    let end = used + layout.tail(tile) * side + SLOP;
    if scratch.len() < end {
        scratch.resize(end, T::ZERO);
    }
    // Read as the padding of the last volume, or multiplied into results that are thrown away.
    scratch[used..end].fill(T::ZERO);
    let windows = windows(pass, layout, at, tile);
    let mut volumes = scratch[..used].chunks_exact_mut((layout.volume(tile) * side).max(1));
    if pass.channels_last {
        for window in &windows {
            for (image, out) in (image..image + tile.images).zip(&mut volumes) {
                let pixels = &source[image * all * numel + channels.start..];
                window.copy_pixels(pixels, all, side, out, T::ZERO);
            }
        }
        return;
    }
    for channel in channels {
        for window in &windows {
            for (image, out) in (image..image + tile.images).zip(&mut volumes) {
                window.copy(&source[(image * all + channel) * numel..][..numel], out, T::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images with their channels last, or, from those, as they were.
    fn turned(values: &[f32], volumes: Volumes, to_last: bool) -> Vec<f32> {
        let Volumes { channels, extents } = volumes;
        let volume: usize = extents.iter().product();
        let place = |index: usize| {
            let (image, rest) = (index / (channels * volume), index % (channels * volume));
            image * channels * volume + rest % channels * volume + rest / channels
        };
        let mut out = vec![0.0; values.len()];
        for last in 0..values.len() {
            let (to, from) = if to_last { (last, place(last)) } else { (place(last), last) };
            out[to] = values[from];
        }
        out
    }

    /// Whole passes give the same sums with both kinds of lanes, and with channels last.
    fn compare(g: &ConvGeometry) {
        let values = |numel: usize| (0..numel).map(|i| (i * 7 % 23) as f32 - 11.0).collect::<Vec<f32>>();
        let weight = values(g.weight_numel());
        let run = |pass: Pass, forward: bool| {
            let numel =
                |volumes: Volumes| pass.batch * volumes.channels * volumes.extents.iter().product::<usize>();
            let (source, bias) = (values(numel(pass.source)), values(pass.out.channels));
            let last = turned(&source, pass.source, true);
            let sums = |pass: &Pass, source: &[f32], lanes: Lanes| {
                let mut out = vec![f32::NAN; numel(pass.out)];
                let weights = Weights::pack(g, &pass.taps, &weight, forward, lanes).unwrap();
                pass.run(source, &weights, forward.then_some(&bias), &mut out);
                out
            };
            let pixels = sums(&pass, &source, Lanes::Pixels);
            // Whole numbers: no order of summation rounds. What other phases write stays nan.
            let same = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
            let channels = sums(&pass, &source, Lanes::Channels);
            assert!(pixels.iter().zip(&channels).all(same), "{g:?} {pass:?}");
            let pass = Pass { channels_last: true, ..pass };
            let out = turned(&sums(&pass, &last, Lanes::Channels), pass.out, false);
            assert!(pixels.iter().zip(&out).all(same), "channels last: {g:?} {pass:?}");
        };
        run(Pass::forward(g), true);
        for phase in crate::kernels::conv::phases(g) {
            run(Pass::to_input(g, phase), false);
        }
    }

    #[test]
    fn lanes_of_pixels_and_of_channels_give_the_same() {
        let plain = ConvGeometry {
            batch: 3,
            in_channels: 5,
            in_extents: [1, 9, 11],
            out_channels: 33,
            kernel: [1, 3, 3],
            stride: [1; 3],
            padding: [0, 1, 1],
            dilation: [1; 3],
            groups: 1,
            channels_last: false,
        };
        compare(&plain);
        compare(&ConvGeometry { stride: [1, 2, 3], ..plain });
        compare(&ConvGeometry {
            kernel: [1; 3],
            padding: [0; 3],
            stride: [1, 2, 2],
            in_channels: 40,
            ..plain
        });
        compare(&ConvGeometry { dilation: [1, 3, 2], padding: [0, 4, 2], out_channels: 8, ..plain });
        compare(&ConvGeometry { groups: 3, in_channels: 48, out_channels: 51, batch: 1, ..plain });
        // Deeper than a block of weights, taller than a tile, wider than a tile, filters larger than planes.
        compare(&ConvGeometry { in_channels: 70, in_extents: [1, 60, 31], batch: 1, ..plain });
        compare(&ConvGeometry { in_extents: [1, 1, 4000], kernel: [1, 1, 5], padding: [0, 0, 2], ..plain });
        compare(&ConvGeometry { in_extents: [1, 2, 2], kernel: [1, 5, 5], padding: [0, 2, 2], ..plain });
        // Small volumes, bands of slices, bands of rows in a slice, strides and dilation along the slices.
        let volume = ConvGeometry { in_extents: [4, 5, 3], kernel: [3; 3], padding: [1; 3], ..plain };
        compare(&volume);
        compare(&ConvGeometry { in_extents: [11, 17, 14], batch: 2, ..volume });
        compare(&ConvGeometry { in_extents: [3, 40, 45], batch: 1, out_channels: 8, ..volume });
        compare(&ConvGeometry { in_extents: [9, 7, 6], stride: [2, 1, 2], padding: [2, 0, 1], ..volume });
        compare(&ConvGeometry {
            in_extents: [9, 7, 6],
            dilation: [3, 2, 1],
            groups: 5,
            out_channels: 10,
            ..volume
        });
    }
}
