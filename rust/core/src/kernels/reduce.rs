//! Reductions: rows, columns, and any pattern of kept and reduced dims, without transposed copies.
//!
//! Dims are taken in the order of memory and merged into groups that are kept or reduced. Each pass
//! removes the innermost reduced group, along rows or down columns. Work is cut into pieces by length
//! alone and joined in a fixed order, so that results do not depend on the number of threads; the
//! pieces are short, so that rounding errors of sums stay as small as those of pairwise summation.

use super::map::Shared;
use super::num::Num;
use crate::array::Array;
use crate::dtype::Element;
use crate::layout::{Dims, Layout};
use crate::simd::{dispatch, Isa, Kernel};
use crate::{par, Result};
use smallvec::SmallVec;
use std::ops::Range;

/// Elements per task.
const GRAIN: usize = 32 * 1024;
/// Independent partial results inside a row: four AVX-512 registers of f32. With two, additions waited for each other.
const LANES: usize = 64;
/// Elements that are left over from a row are dealt out so many at a time.
const FEW: usize = 16;
/// Elements that one set of lanes takes before it is joined to the others.
const BLOCK: usize = 2048;
/// Elements whose sets are joined lane by lane before these are joined to one value.
const STRETCH: usize = 16 * BLOCK;
/// Longer rows are cut into pieces of this length, for threads to share.
const SEGMENT: usize = 64 * 1024;
/// Columns that are reduced side by side.
const TILE: usize = 256;
/// Higher columns are cut into pieces of this height, for threads to share.
const SEGMENT_ROWS: usize = 1024;
/// Rows that one set of columns takes before it is joined to the others.
const BLOCK_ROWS: usize = 64;

/// What an element contributes.
pub trait Load<T, A>: Copy + Send + Sync {
    /// The contribution. Mark it `#[inline(always)]`.
    fn load(self, x: T) -> A;
}

/// How contributions are joined: associative up to rounding.
pub trait Fold<A>: Copy + Send + Sync {
    /// The result of nothing.
    fn start(self) -> A;
    /// Two results as one. Mark it `#[inline(always)]`.
    fn join(self, a: A, b: A) -> A;
}

/// The element itself.
#[derive(Debug, Clone, Copy)]
pub struct Itself;
impl<T> Load<T, T> for Itself {
    #[inline(always)]
    fn load(self, x: T) -> T {
        x
    }
}

/// A plain function as a contribution.
#[derive(Debug, Clone, Copy)]
pub struct By<F>(pub F);
impl<T, A, F: Fn(T) -> A + Copy + Send + Sync> Load<T, A> for By<F> {
    #[inline(always)]
    fn load(self, x: T) -> A {
        (self.0)(x)
    }
}

/// Addition.
#[derive(Debug, Clone, Copy)]
pub struct Plus;
impl<A: Num> Fold<A> for Plus {
    fn start(self) -> A {
        A::ZERO
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        a.add(b)
    }
}

/// Multiplication.
#[derive(Debug, Clone, Copy)]
pub struct Times;
impl<A: Num> Fold<A> for Times {
    fn start(self) -> A {
        A::ONE
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        a.mul(b)
    }
}

/// The ends of a number type's range.
pub trait Bounds: Num {
    /// Not above any value.
    const LOWEST: Self;
    /// Not below any value.
    const HIGHEST: Self;
}

macro_rules! bounds {
    ($($type:ty: $low:expr, $high:expr;)*) => {
        $(impl Bounds for $type {
            const LOWEST: Self = $low;
            const HIGHEST: Self = $high;
        })*
    };
}
bounds! {
    u8: u8::MIN, u8::MAX;
    i32: i32::MIN, i32::MAX;
    i64: i64::MIN, i64::MAX;
    f32: f32::NEG_INFINITY, f32::INFINITY;
    f64: f64::NEG_INFINITY, f64::INFINITY;
}

/// The largest; NaN if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Largest;
impl<A: Bounds> Fold<A> for Largest {
    fn start(self) -> A {
        A::LOWEST
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        b.maximum(a) // of 0 and -0 the first, as in PyTorch
    }
}

/// The smallest; NaN if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Smallest;
impl<A: Bounds> Fold<A> for Smallest {
    fn start(self) -> A {
        A::HIGHEST
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        b.minimum(a)
    }
}

/// Dims of one kind that lie side by side in memory.
#[derive(Debug, Clone, Copy)]
struct Group {
    extent: usize,
    reduced: bool,
}

/// Reduces the dims that `mask` marks; the result has the others, in row-major order.
pub fn reduce<T, A, L, F>(x: &Array, mask: &[bool], load: L, fold: F) -> Result<Array>
where
    T: Element,
    A: Element,
    L: Load<T, A>,
    F: Fold<A>,
{
    debug_assert_eq!(mask.len(), x.rank());
    let repeated = |d: usize| x.strides()[d] == 0 && x.shape()[d] > 1;
    if x.numel() > 0 && (0..x.rank()).any(repeated) {
        return reduce_repeated::<T, A, L, F>(x, mask, load, fold);
    }
    let order = memory_order(x.layout());
    let x =
        if x.is_contiguous() { x.clone() } else { x.with_layout(x.layout().permute(&order)).contiguous()? };
    let kept: SmallVec<[usize; 4]> = order.iter().copied().filter(|&d| !mask[d]).collect();
    let shape: Dims = order.iter().zip(x.shape()).filter(|(&d, _)| !mask[d]).map(|(_, &n)| n).collect();
    let numel: usize = shape.iter().product();
    let flat = if x.numel() == 0 || numel == 0 {
        let mut out = Array::empty(&[numel], A::DTYPE)?;
        out.slice_mut::<A>().fill(fold.start());
        out
    } else {
        let mut groups = groups(&x, &order, mask);
        let mut partial = pass::<T, A, L, F>(&x, &mut groups, load, fold)?;
        while groups.iter().any(|group| group.reduced) {
            partial = pass::<A, A, Itself, F>(&partial, &mut groups, Itself, fold)?;
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
fn reduce_repeated<T, A, L, F>(x: &Array, mask: &[bool], load: L, fold: F) -> Result<Array>
where
    T: Element,
    A: Element,
    L: Load<T, A>,
    F: Fold<A>,
{
    let mut shape = Dims::from_slice(x.shape());
    let mut times = 1;
    for d in 0..x.rank() {
        if x.strides()[d] == 0 {
            times *= if mask[d] { shape[d] } else { 1 };
            shape[d] = 1;
        }
    }
    let once = Layout::new(shape.clone(), x.strides().into(), x.layout().offset());
    let mut out = reduce::<T, A, L, F>(&x.with_layout(once), mask, load, fold)?;
    if times > 1 {
        for value in out.slice_mut::<A>() {
            *value = fold_times(*value, times, fold);
        }
    }
    let kept =
        |shape: &[usize]| -> Dims { (0..mask.len()).filter(|&d| !mask[d]).map(|d| shape[d]).collect() };
    let out = out.into_layout(Layout::contiguous(&kept(&shape)));
    out.broadcast_to("reduce", &kept(x.shape()))?.contiguous()
}

/// The fold of `times` equal values, by doubling.
fn fold_times<A: Element, F: Fold<A>>(value: A, mut times: usize, fold: F) -> A {
    let (mut result, mut power) = (fold.start(), value);
    while times > 0 {
        if times & 1 == 1 {
            result = fold.join(result, power);
        }
        power = fold.join(power, power);
        times >>= 1;
    }
    result
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
fn pass<T, A, L, F>(x: &Array, groups: &mut SmallVec<[Group; 4]>, load: L, fold: F) -> Result<Array>
where
    T: Element,
    A: Element,
    L: Load<T, A>,
    F: Fold<A>,
{
    let last = groups[groups.len() - 1];
    if last.reduced {
        groups.pop();
        let count = groups.iter().map(|group| group.extent).product();
        let out = Array::empty(&[count], A::DTYPE)?;
        rows(Shared(x.as_ptr::<T>()), count, last.extent, Shared(out.as_ptr::<A>()), load, fold)?;
        return Ok(out);
    }
    let height = groups[groups.len() - 2].extent;
    groups.truncate(groups.len() - 2);
    let outer: usize = groups.iter().map(|group| group.extent).product();
    match groups.last_mut() {
        Some(group) => group.extent *= last.extent, // a kept group: neighbours differ in kind
        None => groups.push(last),
    }
    let out = Array::empty(&[outer * last.extent], A::DTYPE)?;
    let dims = (outer, height, last.extent);
    columns(Shared(x.as_ptr::<T>()), dims, Shared(out.as_ptr::<A>()), load, fold)?;
    Ok(out)
}

/// `out[r]` = the fold of row `r`.
fn rows<T, A, L, F>(x: Shared<T>, count: usize, len: usize, out: Shared<A>, load: L, fold: F) -> Result<()>
where
    T: Element,
    A: Element,
    L: Load<T, A>,
    F: Fold<A>,
{
    let pieces = if len > 2 * SEGMENT { len.div_ceil(SEGMENT) } else { 1 };
    let piece_len = if pieces > 1 { SEGMENT } else { len };
    let partial = if pieces > 1 { Some(Array::empty(&[count * pieces], A::DTYPE)?) } else { None };
    let target = partial.as_ref().map_or(out, |p| Shared(p.as_ptr::<A>()));
    par::for_each_chunk(count * pieces, GRAIN.div_ceil(piece_len), |range| {
        dispatch(Rows { x, len, pieces, piece_len, range, out: target, load, fold });
    });
    match partial {
        Some(partial) => rows(Shared(partial.as_ptr::<A>()), count, pieces, out, Itself, fold),
        None => Ok(()),
    }
}

struct Rows<T, A, L, F> {
    x: Shared<T>,
    len: usize,
    pieces: usize,
    piece_len: usize,
    range: Range<usize>,
    out: Shared<A>,
    load: L,
    fold: F,
}

impl<T: Element, A: Element, L: Load<T, A>, F: Fold<A>> Kernel for Rows<T, A, L, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for task in self.range {
            let start = (task % self.pieces) * self.piece_len;
            let len = self.piece_len.min(self.len - start);
            let at = (task / self.pieces) * self.len + start;
            // SAFETY: `rows` passes complete rows, and a result for each of their pieces.
            unsafe {
                let row = std::slice::from_raw_parts(self.x.at(at as isize), len);
                *self.out.at(task as isize) = fold_run(row, self.load, self.fold);
            }
        }
    }
}

/// The fold of a run: lanes take its elements in turn, and are joined as a balanced tree.
#[inline(always)]
pub(crate) fn fold_run<T: Copy, A: Copy, L: Load<T, A>, F: Fold<A>>(x: &[T], load: L, fold: F) -> A {
    if x.len() < 2 * FEW {
        return x.iter().fold(fold.start(), |acc, &x| fold.join(acc, load.load(x)));
    }
    if x.len() <= BLOCK {
        return join_lanes(fold_block(x, load, fold), fold);
    }
    // A binary counter: slot k holds the fold of 2^k stretches.
    let mut tree = [fold.start(); 48];
    let mut filled = 0usize;
    for stretch in x.chunks(STRETCH) {
        let mut lanes = [fold.start(); LANES];
        for block in stretch.chunks(BLOCK) {
            let block = fold_block(block, load, fold);
            for k in 0..LANES {
                lanes[k] = fold.join(lanes[k], block[k]);
            }
        }
        let mut value = join_lanes(lanes, fold);
        let mut level = 0;
        while filled & (1 << level) != 0 {
            value = fold.join(tree[level], value);
            level += 1;
        }
        tree[level] = value;
        filled += 1;
    }
    let mut result = fold.start();
    for (level, &value) in tree.iter().enumerate() {
        if filled & (1 << level) != 0 {
            result = fold.join(value, result);
        }
    }
    result
}

/// The elements dealt out to the lanes. Every index of a lane is a constant: one that varies would keep them all
/// in memory (the sum of 1000 elements took a third longer).
#[inline(always)]
fn fold_block<T: Copy, A: Copy, L: Load<T, A>, F: Fold<A>>(x: &[T], load: L, fold: F) -> [A; LANES] {
    let mut lanes = [fold.start(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for k in 0..LANES {
            lanes[k] = fold.join(lanes[k], load.load(chunk[k]));
        }
    }
    let (chunks, rest) = rest.as_chunks::<FEW>();
    for chunk in chunks {
        for k in 0..FEW {
            lanes[k] = fold.join(lanes[k], load.load(chunk[k]));
        }
    }
    let mut last = [fold.start(); FEW];
    for (last, &x) in last.iter_mut().zip(rest) {
        *last = load.load(x);
    }
    for k in 0..FEW {
        lanes[FEW + k] = fold.join(lanes[FEW + k], last[k]);
    }
    lanes
}

#[inline(always)]
fn join_lanes<A: Copy, F: Fold<A>>(mut lanes: [A; LANES], fold: F) -> A {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            lanes[k] = fold.join(lanes[k], lanes[k + width]);
        }
    }
    lanes[0]
}

/// `out[o, c]` = the fold of `x[o, .., c]`; `dims` are the extents (outer, height, width).
fn columns<T, A, L, F>(
    x: Shared<T>,
    dims: (usize, usize, usize),
    out: Shared<A>,
    load: L,
    fold: F,
) -> Result<()>
where
    T: Element,
    A: Element,
    L: Load<T, A>,
    F: Fold<A>,
{
    let (outer, height, width) = dims;
    // Narrow columns: several rows are taken as one wide row, whose parts are reduced afterwards.
    // What is left over by that is added row by row, so there must be many rows, or nothing left.
    let pack = if width < 32 && height >= 256 / width { 64usize.div_ceil(width) } else { 1 };
    let pack = if height >= 8 * pack || height % pack == 0 { pack } else { 1 };
    let (tall, wide) = (height / pack, width * pack);
    let pieces = if tall > 2 * SEGMENT_ROWS { tall.div_ceil(SEGMENT_ROWS) } else { 1 };
    let rest = height % pack;
    let partial_height = pieces * pack + rest;
    let partial = if partial_height > 1 {
        Some(Array::empty(&[outer * partial_height * width], A::DTYPE)?)
    } else {
        None
    };
    let target = partial.as_ref().map_or(out, |p| Shared(p.as_ptr::<A>()));
    let tiles = wide.div_ceil(TILE);
    let piece_rows = if pieces > 1 { SEGMENT_ROWS } else { tall };
    let task_size = piece_rows * wide.min(TILE);
    par::for_each_chunk(outer * pieces * tiles, GRAIN.div_ceil(task_size), |range| {
        for task in range {
            let (tile, rest_of) = (task % tiles, task / tiles);
            let (piece, o) = (rest_of % pieces, rest_of / pieces);
            let (row, column) = (piece * piece_rows, tile * TILE);
            dispatch(Columns {
                x: x.at((o * height * width + row * wide + column) as isize),
                rows: piece_rows.min(tall - row),
                stride: wide,
                width: TILE.min(wide - column),
                out: target.at((o * partial_height * width + piece * wide + column) as isize),
                load,
                fold,
            });
        }
    });
    let Some(partial) = partial else { return Ok(()) };
    for o in 0..outer {
        for i in 0..rest * width {
            let from = o * height * width + tall * wide + i;
            let to = o * partial_height * width + pieces * wide + i;
            // SAFETY: the last `rest` rows of each outer step, in both arrays.
            unsafe { *target.at(to as isize) = load.load(*x.at(from as isize)) };
        }
    }
    let dims = (outer, partial_height, width);
    columns(Shared(partial.as_ptr::<A>()), dims, out, Itself, fold)
}

struct Columns<T, A, L, F> {
    x: *const T,
    rows: usize,
    stride: usize,
    width: usize,
    out: *mut A,
    load: L,
    fold: F,
}

impl<T: Element, A: Element, L: Load<T, A>, F: Fold<A>> Kernel for Columns<T, A, L, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (load, fold, width) = (self.load, self.fold, self.width);
        // SAFETY: `columns` passes `width` results and rows that are inside the input.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out, width) };
        // SAFETY: as above.
        let row = |r: usize| unsafe { std::slice::from_raw_parts(self.x.add(r * self.stride), width) };
        out.fill(fold.start());
        let mut buffer = [fold.start(); TILE];
        let block = &mut buffer[..width];
        let mut start = 0;
        while start < self.rows {
            let end = (start + BLOCK_ROWS).min(self.rows);
            block.fill(fold.start());
            let mut r = start;
            while r + 4 <= end {
                let (a, b, c, d) = (row(r), row(r + 1), row(r + 2), row(r + 3));
                for i in 0..width {
                    let ab = fold.join(load.load(a[i]), load.load(b[i]));
                    let cd = fold.join(load.load(c[i]), load.load(d[i]));
                    block[i] = fold.join(block[i], fold.join(ab, cd));
                }
                r += 4;
            }
            for r in r..end {
                for (acc, &x) in block.iter_mut().zip(row(r)) {
                    *acc = fold.join(*acc, load.load(x));
                }
            }
            for (out, &acc) in out.iter_mut().zip(block.iter()) {
                *out = fold.join(*out, acc);
            }
            start = end;
        }
    }
}
