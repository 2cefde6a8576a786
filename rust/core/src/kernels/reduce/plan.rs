//! How a reduction is taken to pieces.
//!
//! Dims are taken in the order of memory and merged into groups that are kept or reduced. Each pass
//! removes the innermost reduced group, along rows or down columns. Work is cut into pieces by length
//! alone and joined in a fixed order, so that results do not depend on the number of threads; the
//! pieces are short, so that rounding errors of sums stay as small as those of pairwise summation.

use crate::array::Array;
use crate::dtype::DType;
use crate::kernels::map::Shared;
use crate::layout::{Dims, Layout};
use crate::{par, Result};
use smallvec::SmallVec;
use std::ops::Range;

/// Elements per task.
const GRAIN: usize = 32 * 1024;
/// Longer rows are cut into pieces of this length, for threads to share.
const SEGMENT: usize = 64 * 1024;
/// Columns that are reduced side by side: rows of 1000 float32 are read as one then, for memory likes long runs (37
/// microseconds for 1000 of them, 43 in tiles of 256).
pub(super) const TILE: usize = 1024;
/// The same where tiles are what threads share.
const NARROW_TILE: usize = 256;
/// Higher columns are cut into pieces of about this height, for threads to share.
const SEGMENT_ROWS: usize = 256;

/// The loops of a reduction, which know its types.
pub(super) trait Loops: Sync {
    /// Those of elements and results.
    fn dtypes(&self) -> [DType; 2];
    /// Every result is that of no elements.
    fn nothing(&self, out: &mut Array);
    /// Every result becomes that of so many equal ones.
    fn repeat(&self, out: &mut Array, times: usize);
    /// Results of pieces of rows.
    fn rows(&self, task: RowsTask);
    /// Results of columns side by side.
    fn columns(&self, task: ColumnsTask);
}

/// `out[i]` = the fold of piece `i` for `i` in `range`; rows of `len` elements have `pieces` each.
pub(super) struct RowsTask {
    pub x: Shared<u8>,
    pub len: usize,
    pub pieces: usize,
    pub piece_len: usize,
    pub range: Range<usize>,
    pub out: Shared<u8>,
}

/// `out[to + c]` = the fold of `x[from + r * stride + c]` for `r < rows`, for `c < width`; at most [`TILE`] of them.
pub(super) struct ColumnsTask {
    pub x: Shared<u8>,
    pub from: usize,
    pub rows: usize,
    pub stride: usize,
    pub width: usize,
    pub out: Shared<u8>,
    pub to: usize,
}

/// Dims of one kind that lie side by side in memory.
#[derive(Debug, Clone, Copy)]
struct Group {
    extent: usize,
    reduced: bool,
}

/// Reduces the dims that `mask` marks; `first` reads the elements, `later` results of earlier passes.
pub(super) fn reduce(x: &Array, mask: &[bool], first: &dyn Loops, later: &dyn Loops) -> Result<Array> {
    debug_assert_eq!(mask.len(), x.rank());
    let [from, to] = first.dtypes();
    let repeated = |d: usize| x.strides()[d] == 0 && x.shape()[d] > 1;
    if x.numel() > 0 && (0..x.rank()).any(repeated) {
        return reduce_repeated(x, mask, first, later);
    }
    let x = x.to_dtype(from)?;
    let order = memory_order(x.layout());
    let x =
        if x.is_contiguous() { x.clone() } else { x.with_layout(x.layout().permute(&order)).contiguous()? };
    let kept: SmallVec<[usize; 4]> = order.iter().copied().filter(|&d| !mask[d]).collect();
    let shape: Dims = order.iter().zip(x.shape()).filter(|(&d, _)| !mask[d]).map(|(_, &n)| n).collect();
    let numel: usize = shape.iter().product();
    let flat = if x.numel() == 0 || numel == 0 {
        let mut out = Array::empty(&[numel], to)?;
        first.nothing(&mut out);
        out
    } else {
        let mut groups = groups(&x, &order, mask);
        let mut partial = pass(&x, &mut groups, first, later)?;
        while groups.iter().any(|group| group.reduced) {
            partial = pass(&partial, &mut groups, later, later)?;
        }
        partial
    };
    let out = flat.into_layout(Layout::contiguous(&shape));
    if kept.is_sorted() {
        return Ok(out);
    }
    let mut inverse: SmallVec<[usize; 4]> = (0..kept.len()).collect();
    inverse.sort_by_key(|&i| kept[i]);
    out.with_layout(out.layout().permute(&inverse)).contiguous()
}

/// As `reduce` for an array with dims that repeat one element (stride 0): these need not be read more
/// than once, nor does such an array, which may be larger than memory, have to be copied.
fn reduce_repeated(x: &Array, mask: &[bool], first: &dyn Loops, later: &dyn Loops) -> Result<Array> {
    let mut shape = Dims::from_slice(x.shape());
    let mut times = 1;
    for d in 0..x.rank() {
        if x.strides()[d] == 0 {
            times *= if mask[d] { shape[d] } else { 1 };
            shape[d] = 1;
        }
    }
    let once = Layout::new(shape.clone(), x.strides().into(), x.layout().offset());
    let mut out = reduce(&x.with_layout(once), mask, first, later)?;
    if times > 1 {
        first.repeat(&mut out, times);
    }
    let kept =
        |shape: &[usize]| -> Dims { (0..mask.len()).filter(|&d| !mask[d]).map(|d| shape[d]).collect() };
    let out = out.into_layout(Layout::contiguous(&kept(&shape)));
    out.broadcast_to("reduce", &kept(x.shape()))?.contiguous()
}

/// Dims, outermost in memory first.
fn memory_order(layout: &Layout) -> SmallVec<[usize; 4]> {
    let mut order: SmallVec<[usize; 4]> = (0..layout.rank()).collect();
    if !layout.is_contiguous() {
        order.sort_by_key(|&d| std::cmp::Reverse(layout.strides()[d].unsigned_abs()));
    }
    order
}

fn groups(x: &Array, order: &[usize], mask: &[bool]) -> SmallVec<[Group; 4]> {
    let mut groups: SmallVec<[Group; 4]> = SmallVec::new();
    for (&d, &extent) in order.iter().zip(x.shape()).filter(|(_, &extent)| extent != 1) {
        match groups.last_mut() {
            Some(last) if last.reduced == mask[d] => last.extent *= extent,
            _ => groups.push(Group { extent, reduced: mask[d] }),
        }
    }
    if !groups.iter().any(|group| group.reduced) {
        groups.push(Group { extent: 1, reduced: true });
    }
    groups
}

/// Removes the innermost reduced group.
fn pass(x: &Array, groups: &mut SmallVec<[Group; 4]>, loops: &dyn Loops, later: &dyn Loops) -> Result<Array> {
    let [_, dtype] = loops.dtypes();
    let last = groups[groups.len() - 1];
    if last.reduced {
        groups.pop();
        let count = groups.iter().map(|group| group.extent).product();
        let out = Array::empty(&[count], dtype)?;
        rows(x, count, last.extent, &out, loops, later)?;
        return Ok(out);
    }
    let height = groups[groups.len() - 2].extent;
    groups.truncate(groups.len() - 2);
    let outer: usize = groups.iter().map(|group| group.extent).product();
    match groups.last_mut() {
        Some(group) => group.extent *= last.extent, // a kept group: neighbours differ in kind
        None => groups.push(last),
    }
    let out = Array::empty(&[outer * last.extent], dtype)?;
    columns(x, (outer, height, last.extent), &out, loops, later)?;
    Ok(out)
}

/// The elements of a contiguous array, for tasks to share.
fn shared(x: &Array) -> Shared<u8> {
    debug_assert!(x.is_contiguous());
    Shared(x.storage().as_ptr().wrapping_add(x.layout().offset() * x.dtype().size()))
}

/// `out[r]` = the fold of row `r`.
fn rows(
    x: &Array,
    count: usize,
    len: usize,
    out: &Array,
    loops: &dyn Loops,
    later: &dyn Loops,
) -> Result<()> {
    let pieces = if len > 2 * SEGMENT { len.div_ceil(SEGMENT) } else { 1 };
    let piece_len = if pieces > 1 { SEGMENT } else { len };
    let partial = if pieces > 1 { Some(Array::empty(&[count * pieces], out.dtype())?) } else { None };
    let (x, target) = (shared(x), shared(partial.as_ref().unwrap_or(out)));
    par::for_each_chunk(count * pieces, GRAIN.div_ceil(piece_len), |range| {
        loops.rows(RowsTask { x, len, pieces, piece_len, range, out: target });
    });
    match partial {
        Some(partial) => rows(&partial, count, pieces, out, later, later),
        None => Ok(()),
    }
}

/// `out[o, c]` = the fold of `x[o, .., c]`; `dims` are the extents (outer, height, width).
fn columns(
    x: &Array,
    dims: (usize, usize, usize),
    out: &Array,
    loops: &dyn Loops,
    later: &dyn Loops,
) -> Result<()> {
    let (outer, height, width) = dims;
    // Narrow columns: several rows are taken as one wide row, whose parts are reduced afterwards.
    // What is left over by that is added row by row, so there must be many rows, or nothing left.
    let pack = if width < 32 && height >= 256 / width { 64usize.div_ceil(width) } else { 1 };
    let pack = if height >= 8 * pack || height % pack == 0 { pack } else { 1 };
    let (tall, wide) = (height / pack, width * pack);
    let is_cut = tall > SEGMENT_ROWS && tall * wide > 2 * GRAIN;
    // Pieces of one height, which is a multiple of the rows that a loop takes at a time.
    let cuts = if is_cut { tall.div_ceil(SEGMENT_ROWS) } else { 1 };
    let piece_rows = tall.div_ceil(cuts).next_multiple_of(4);
    let pieces = tall.div_ceil(piece_rows);
    let rest = height % pack;
    let partial_height = pieces * pack + rest;
    let partial = if partial_height > 1 {
        Some(Array::empty(&[outer * partial_height * width], out.dtype())?)
    } else {
        None
    };
    let (x, target) = (shared(x), shared(partial.as_ref().unwrap_or(out)));
    let tile_width = if outer * pieces < 4 { NARROW_TILE } else { TILE };
    let tiles = wide.div_ceil(tile_width);
    let task_size = piece_rows * wide.min(tile_width);
    par::for_each_chunk(outer * pieces * tiles, GRAIN.div_ceil(task_size), |range| {
        for task in range {
            let (tile, rest_of) = (task % tiles, task / tiles);
            let (piece, o) = (rest_of % pieces, rest_of / pieces);
            let (row, column) = (piece * piece_rows, tile * tile_width);
            loops.columns(ColumnsTask {
                x,
                from: o * height * width + row * wide + column,
                rows: piece_rows.min(tall - row),
                stride: wide,
                width: tile_width.min(wide - column),
                out: target,
                to: o * partial_height * width + piece * wide + column,
            });
        }
    });
    let Some(partial) = partial else { return Ok(()) };
    if rest > 0 {
        for o in 0..outer {
            // The last `rest` rows of each outer step, in both arrays.
            loops.columns(ColumnsTask {
                x,
                from: o * height * width + tall * wide,
                rows: 1,
                stride: 0,
                width: rest * width,
                out: target,
                to: o * partial_height * width + pieces * wide,
            });
        }
    }
    columns(&partial, (outer, partial_height, width), out, later, later)
}
