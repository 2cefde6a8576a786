//! Strided operands brought together, for the loops of element-wise formulas.
//!
//! A formula has loops for neighbours and for numbers (stride 0) alone. Of an operand with other strides tiles are
//! copied to the stack first, or from there, by loops that know the size of its elements only. So a long formula is
//! computed in vectors whatever the strides are, and no formula needs a loop of its own for them.

use super::map::Shared;
use super::nest::Nest;
use super::relayout::{by_size, Plane};
use crate::array::Array;
use crate::dtype::DType;
use crate::layout::Strides;
use crate::par;
use crate::simd::dispatch_short;
use std::array::from_fn;
use std::mem::MaybeUninit;

/// Bytes of an operand's tile. With 1 KiB calls are a quarter of the time of a cheap formula, and with 8 the memory of two
/// operands is no longer read together. To copy both in turns within a tile costs more calls than it gains.
const TILE_BYTES: usize = 4 * 1024;
/// Bytes of a tile whose columns are neighbours in memory: those of four operands stay in the first-level cache.
const TURNED_BYTES: usize = 8 * 1024;
/// Rows of such a tile: two lines of cache in float32.
const TURNED_ROWS: usize = 32;

/// What a formula's loop gets: `rows` runs of `len` elements. The first operand is the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs<const N: usize> {
    /// First elements.
    pub starts: [*mut u8; N],
    /// Elements from step to step in a run: those of one of the formula's loops.
    pub steps: [isize; N],
    pub len: usize,
    pub rows: usize,
    /// Elements from run to run.
    pub row_steps: [isize; N],
}

impl<const N: usize> Runs<N> {
    /// Calls `run(starts)` for each run.
    #[inline(always)]
    pub(super) fn each(self, dtypes: [DType; N], run: impl Fn([*mut u8; N])) {
        for row in 0..self.rows as isize {
            run(from_fn(|k| at(self.starts[k], dtypes[k], row * self.row_steps[k])));
        }
    }
}

/// The address `steps` elements on.
#[inline(always)]
fn at(start: *mut u8, dtype: DType, steps: isize) -> *mut u8 {
    start.wrapping_offset(steps * dtype.size() as isize)
}

/// Longer than a tile, so that elements of one place in two tiles are not at one place in their pages.
#[repr(align(64))]
struct Buffer(MaybeUninit<[u8; TURNED_BYTES + 1088]>);

/// How operands become tiles.
struct Tiles<const N: usize> {
    dtypes: [DType; N],
    /// Whether they are copied to the stack and from there.
    is_copied: [bool; N],
    /// Elements from step to step in memory, and for the formula's loop.
    steps: [isize; N],
    loop_steps: [isize; N],
    /// Elements from run to run in memory.
    row_steps: [isize; N],
}

/// Calls `run` for all elements of `arrays`, which are of one shape, or numbers (0-d); the first is written.
///
/// `loops` are the steps that `run` has loops for, the best first; all steps of 1 need not be among them. A task of a
/// thread has `grain` elements at least.
pub(super) fn for_each_run<const N: usize>(
    arrays: [&Array; N],
    grain: usize,
    loops: &[[isize; N]],
    run: &(dyn Fn(Runs<N>) + Sync),
) {
    let still = Strides::from_elem(0, arrays[0].rank());
    let strides = arrays.map(|x| if x.rank() == 0 { still.as_slice() } else { x.strides() });
    let nest = Nest::new(arrays[0].shape(), strides);
    let dtypes = arrays.map(Array::dtype);
    let starts = arrays.map(|x| Shared(at(x.storage().as_ptr(), x.dtype(), x.layout().offset() as isize)));
    let steps = if nest.numel() == 1 { [1; N] } else { nest.inner_strides() };
    let row_steps = nest.row_strides();
    let fits = |wanted: &&[isize; N]| (0..N).all(|k| wanted[k] == 1 || wanted[k] == steps[k]);
    let loop_steps = *loops.iter().find(fits).unwrap_or(&[1; N]);
    let is_copied = from_fn(|k| loop_steps[k] != steps[k]);
    let tiles = Tiles { dtypes, is_copied, steps, loop_steps, row_steps };
    par::for_each_chunk(nest.numel(), grain, |range| {
        nest.planes(range, &mut |offsets, len, rows| {
            let starts = from_fn(|k| at(starts[k].0, dtypes[k], offsets[k]));
            let runs = Runs { starts, steps, len, rows, row_steps };
            if loop_steps == steps {
                run(runs);
            } else {
                tiles.run(runs, run);
            }
        });
    });
}

impl<const N: usize> Tiles<N> {
    /// Calls `run` for `runs`, tile by tile.
    #[inline(never)] // the buffers are for those alone that need them
    fn run(&self, runs: Runs<N>, run: &(dyn Fn(Runs<N>) + Sync)) {
        let mut buffers = [const { Buffer(MaybeUninit::uninit()) }; N];
        let buffers = buffers.each_mut().map(|buffer| buffer.0.as_mut_ptr().cast::<u8>());
        let is_turned = (1..N).any(|k| self.is_copied[k] && self.row_steps[k] == 1);
        let bytes = if is_turned { TURNED_BYTES } else { TILE_BYTES };
        let room = bytes / self.dtypes.map(DType::size).into_iter().max().unwrap_or(1);
        let height = if is_turned { TURNED_ROWS } else { room / runs.len }.clamp(1, runs.rows);
        let width = runs.len.min(room / height);
        for row in (0..runs.rows).step_by(height) {
            for col in (0..runs.len).step_by(width) {
                let steps = |k: usize| row as isize * self.row_steps[k] + col as isize * self.steps[k];
                let starts = from_fn(|k| at(runs.starts[k], self.dtypes[k], steps(k)));
                let (len, rows) = (width.min(runs.len - col), height.min(runs.rows - row));
                self.run_tile(Runs { starts, len, rows, ..runs }, buffers, run);
            }
        }
    }

    fn run_tile(&self, runs: Runs<N>, buffers: [*mut u8; N], run: &(dyn Fn(Runs<N>) + Sync)) {
        let Runs { starts, len, rows, .. } = runs;
        let row = len as isize;
        for k in (1..N).filter(|&k| self.is_copied[k]) {
            let strides = [[1, self.steps[k]], [row, self.row_steps[k]]];
            self.copy(k, [buffers[k], starts[k]], len, rows, strides);
        }
        run(Runs {
            starts: from_fn(|k| if self.is_copied[k] { buffers[k] } else { starts[k] }),
            steps: self.loop_steps,
            row_steps: from_fn(|k| if self.is_copied[k] { row } else { self.row_steps[k] }),
            len,
            rows,
        });
        if self.is_copied[0] {
            self.copy(0, [starts[0], buffers[0]], len, rows, [[self.steps[0], 1], [self.row_steps[0], row]]);
        }
    }

    /// Copies operand `k`'s tile: the target and its strides stand first.
    fn copy(&self, k: usize, [to, from]: [*mut u8; 2], len: usize, rows: usize, strides: [[isize; 2]; 2]) {
        let [steps, row_steps] = strides;
        by_size!(self.dtypes[k], W => {
            let (out, x) = (to.cast::<W>(), from.cast::<W>());
            dispatch_short(Plane { out, x, steps, len, rows, row_steps });
        });
    }
}
