//! From the gradient of the results to those of queries, keys and values.

use super::forward::GRAIN;
use super::scores::{add_tile, dot, multiply_tile, Slope};
use super::{at, heads_of, matrix, Float, Inputs, Panel, Sizes};
use crate::array::Array;
use crate::kernels::gemm::{multiply_block, with_scratch, Mat, MatMut};
use crate::par;
use crate::simd::dispatch;
use crate::Result;
use std::ops::Range;

/// Queries of a panel, at most; of causal attention half as many, which skips more (64 queries: a tenth faster, others
/// a thirtieth slower; 96 and 128 are no faster).
const QUERIES: usize = 64;
/// Keys of a block. 32, 64 and 96 are no faster.
const KEYS: usize = 128;
/// Keys of a chunk: with their values and the gradients of both they stay in a core's L2.
const CHUNK: usize = 256;
/// With fewer heads, parts of the keys are tasks of their own: each has a gradient of the queries, and these are
/// added up at the end.
const FEW_HEADS: usize = 16;
/// Parts of a head's keys, at most.
const MOST_PARTS: usize = 16;

/// What the forward pass has left, and the gradient of its result.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a, T> {
    /// The result.
    pub out: &'a Array,
    /// Its gradient.
    pub grad: &'a Array,
    /// Per query of each head `ln(sum(exp(scores)))`.
    pub logs: &'a [T],
}

/// Writes the gradients of queries, keys and values, those that are given.
///
/// With P the weights and h the gradient of the results, d = h @ value^T: the gradient of the values is P^T @ h, that of
/// the scores s = P * (d - sum(h * out)), that of the queries s @ key * scale, that of the keys s^T @ query * scale.
/// Dropout multiplies d, and P in the first of these.
pub fn backward<T: Float>(
    inputs: &Inputs<'_>,
    outcome: &Outcome<'_, T>,
    grads: [Option<&Array>; 3],
) -> Result<()> {
    let Inputs { query, key, value, mask, drop, scale, is_causal } = *inputs;
    let Outcome { out, grad, logs } = *outcome;
    let lead = query.rank() - 2;
    let last = |x: &Array| [x.shape()[lead], x.shape()[lead + 1]];
    let result = [query.shape()[lead], value.shape()[lead + 1]];
    let mut others = vec![(out, result), (grad, result)];
    for (grad, of) in grads.iter().zip([query, key, value]) {
        let Some(grad) = grad else { continue };
        assert!(!grad.layout().has_overlap());
        others.push((grad, last(of)));
    }
    let sizes = inputs.check::<T>(&others);
    assert!(logs.len() == sizes.heads * sizes.queries);
    let is_split = sizes.heads < FEW_HEADS && sizes.keys > CHUNK;
    let part = CHUNK.max(sizes.keys.div_ceil(MOST_PARTS)).next_multiple_of(KEYS);
    let parts = if is_split { sizes.keys.div_ceil(part) } else { 1 };
    let more = [parts - 1, sizes.heads, sizes.queries, sizes.width];
    let more =
        if grads[0].is_some() { Array::empty(&more, T::DTYPE)? } else { Array::empty(&[0, 0], T::DTYPE)? };
    let [by_query, by_key, by_value] = grads.map(|x| x.map(matrix::<T>));
    let or_query = |x: Option<&Array>| x.unwrap_or(query).clone();
    let [gq, gk, gv] = grads.map(or_query);
    let pass = Backward {
        sizes,
        query: matrix::<T>(query),
        key: matrix(key),
        value: matrix(value),
        mask: mask.map(matrix),
        drop: drop.map(matrix),
        out: matrix(out),
        grad: matrix(grad),
        by_query,
        by_key,
        by_value,
        more: MatMut { ptr: more.as_ptr::<T>(), row: sizes.width as isize, col: 1 },
        logs,
        scale,
        is_causal,
        heads: heads_of([
            query,
            key,
            value,
            mask.unwrap_or(query),
            drop.unwrap_or(query),
            out,
            grad,
            &gq,
            &gk,
            &gv,
        ]),
    };
    let work = 3 * sizes.queries * part.min(sizes.keys) * (sizes.width + sizes.values);
    par::for_each_chunk(sizes.heads * parts, (GRAIN / work.max(1)).max(1), |tasks| {
        with_scratch(pass.room(), |room| {
            for task in tasks {
                let (head, index) = (task / parts, task % parts);
                let end = if is_split { sizes.keys.min((index + 1) * part) } else { sizes.keys };
                // SAFETY: `check` has compared the sizes; each task writes the rows of its own keys, and a gradient of
                // the queries that is its own.
                unsafe { pass.keys(head, index, index * part..end, room) };
            }
        });
    });
    if parts > 1 && by_query.is_some() {
        let rows = sizes.heads * sizes.queries;
        par::for_each_chunk(rows, (GRAIN / (16 * parts * sizes.width).max(1)).max(1), |rows| {
            // SAFETY: all parts are written; each row is added to by one task.
            rows.for_each(|row| unsafe { pass.add_parts(row, parts) });
        });
    }
    Ok(())
}

struct Backward<'a, T> {
    sizes: Sizes,
    query: MatMut<T>,
    key: MatMut<T>,
    value: MatMut<T>,
    mask: Option<MatMut<T>>,
    drop: Option<MatMut<T>>,
    out: MatMut<T>,
    grad: MatMut<T>,
    by_query: Option<MatMut<T>>,
    by_key: Option<MatMut<T>>,
    by_value: Option<MatMut<T>>,
    /// Gradients of the queries by further parts of the keys: part by part, head by head.
    more: MatMut<T>,
    logs: &'a [T],
    scale: f64,
    is_causal: bool,
    heads: Vec<[isize; 10]>,
}

/// The matrices of one head, and which of the gradients are asked for.
#[derive(Clone, Copy)]
struct Head<T> {
    query: Mat<T>,
    key: Mat<T>,
    value: Mat<T>,
    mask: Option<Mat<T>>,
    drop: Option<Mat<T>>,
    out: Mat<T>,
    grad: Mat<T>,
    by_query: Option<MatMut<T>>,
    by_key: Option<MatMut<T>>,
    by_value: Option<MatMut<T>>,
}

/// The parts of a task's scratch.
#[derive(Clone, Copy)]
struct Room<T> {
    queries: *mut T,
    grads: *mut T,
    scores: *mut T,
    slopes: *mut T,
    other: *mut T,
    logs: *mut T,
    means: *mut T,
}

impl<T: Float> Backward<'_, T> {
    /// Elements of scratch: two panels, three tiles, and two numbers per query.
    fn room(&self) -> usize {
        QUERIES * (self.sizes.width + self.sizes.values + 3 * KEYS + 2)
    }

    fn parts_of(&self, room: *mut T) -> Room<T> {
        let tile = QUERIES * KEYS;
        let grads = room.wrapping_add(QUERIES * self.sizes.width);
        let scores = grads.wrapping_add(QUERIES * self.sizes.values);
        let logs = scores.wrapping_add(3 * tile);
        Room {
            queries: room,
            grads,
            scores,
            slopes: scores.wrapping_add(tile),
            other: scores.wrapping_add(2 * tile),
            logs,
            means: logs.wrapping_add(QUERIES),
        }
    }

    fn head(&self, head: usize, part: usize) -> Head<T> {
        let [query, key, value, mask, drop, out, grad, by_query, by_key, by_value] = self.heads[head];
        let on = |x: MatMut<T>, steps: isize| MatMut { ptr: x.ptr.wrapping_offset(steps), ..x };
        let Sizes { heads, queries, width, .. } = self.sizes;
        let by_query = match part {
            0 => self.by_query.map(|x| on(x, by_query)),
            _ => self.by_query.map(|_| self.more.from(((part - 1) * heads + head) * queries, 0)),
        };
        debug_assert!(self.more.row == width as isize);
        Head {
            query: at(self.query, query),
            key: at(self.key, key),
            value: at(self.value, value),
            mask: self.mask.map(|x| at(x, mask)),
            drop: self.drop.map(|x| at(x, drop)),
            out: at(self.out, out),
            grad: at(self.grad, grad),
            by_query,
            by_key: self.by_key.map(|x| on(x, by_key)),
            by_value: self.by_value.map(|x| on(x, by_value)),
        }
    }

    /// All that follows from some keys of a head: their own gradients, and their share in that of the queries.
    ///
    /// # Safety
    /// `room` has `room()` elements; nobody else writes the keys' rows, nor part `part` of the queries' gradient.
    unsafe fn keys(&self, head: usize, part: usize, keys: Range<usize>, room: *mut T) {
        let Sizes { queries, width, values, .. } = self.sizes;
        let (matrices, room) = (self.head(head, part), self.parts_of(room));
        let most = if self.is_causal { QUERIES / 2 } else { QUERIES };
        let logs = &self.logs[head * queries..(head + 1) * queries];
        // SAFETY: rows and columns stay inside the extents; the rest is the caller's promise.
        unsafe {
            clear(matrices.by_query, 0..queries, width);
            clear(matrices.by_key, keys.clone(), width);
            clear(matrices.by_value, keys.clone(), values);
            for start in keys.clone().step_by(CHUNK) {
                let chunk = start..keys.end.min(start + CHUNK);
                for index in 0..queries.div_ceil(most) {
                    let panel = Panel::new(index, queries, most);
                    let end = panel.seen(chunk.end, self.is_causal);
                    if end <= chunk.start {
                        continue;
                    }
                    self.prepare(&matrices, panel, logs, room);
                    for start in (chunk.start..end).step_by(KEYS) {
                        self.block(&matrices, panel, start..end.min(start + KEYS), room);
                    }
                }
            }
        }
    }

    /// Copies a panel of queries and of gradients, and computes the means that the slopes of scores need. The panel of
    /// gradients and the means carry the scale.
    ///
    /// # Safety
    /// As for `keys`.
    unsafe fn prepare(&self, head: &Head<T>, panel: Panel, logs: &[T], room: Room<T>) {
        let Sizes { width, values, .. } = self.sizes;
        // SAFETY: the parts of the room are disjoint; rows are contiguous.
        unsafe {
            panel.transpose(head.query, width, self.scale, room.queries);
            panel.transpose(head.grad, values, self.scale, room.grads);
            let to = std::slice::from_raw_parts_mut(room.logs, panel.lanes);
            to[..panel.count].copy_from_slice(&logs[panel.first..panel.first + panel.count]);
            to[panel.count..].fill(T::from_f64(f64::INFINITY));
            let means = std::slice::from_raw_parts_mut(room.means, panel.lanes);
            means[panel.count..].fill(T::default());
            for (row, mean) in means[..panel.count].iter_mut().enumerate() {
                let of = |x: Mat<T>| std::slice::from_raw_parts(x.at(panel.first + row, 0), values);
                *mean = dot(of(head.grad), of(head.out)) * T::from_f64(self.scale);
            }
        }
    }

    /// One block of keys against one panel of queries.
    ///
    /// # Safety
    /// As for `keys`; the panel is prepared.
    unsafe fn block(&self, head: &Head<T>, panel: Panel, keys: Range<usize>, room: Room<T>) {
        let Sizes { width, values, .. } = self.sizes;
        let (lanes, count) = (panel.lanes, keys.len());
        let tile = |ptr: *mut T| MatMut { ptr, row: lanes as isize, col: 1 };
        let wants_slopes = head.by_query.is_some() || head.by_key.is_some();
        // SAFETY: the parts of the room are disjoint, and what is read of them was written before.
        unsafe {
            let scores = std::slice::from_raw_parts_mut(room.scores, count * lanes);
            let slopes = std::slice::from_raw_parts_mut(room.slopes, count * lanes);
            if width == 0 {
                scores.fill(T::default());
            }
            let packed = at(tile(room.queries), 0);
            multiply_block(
                [count, lanes, width],
                head.key.from(keys.start, 0),
                packed,
                tile(room.scores),
                false,
            );
            if let Some(mask) = head.mask {
                add_tile(scores, panel.tile(mask, &keys, room.other));
            }
            if self.is_causal {
                panel.hide_later(scores, keys.clone());
            }
            let drop = head.drop.map(|drop| panel.tile(drop, &keys, room.other));
            if wants_slopes {
                if values == 0 {
                    slopes.fill(T::default());
                }
                let (from, packed) = (head.value.from(keys.start, 0), at(tile(room.grads), 0));
                multiply_block([count, lanes, values], from, packed, tile(room.slopes), false);
                if let Some(drop) = drop {
                    multiply_tile(slopes, drop);
                }
            }
            dispatch(Slope {
                scores: &mut *scores,
                grads: wants_slopes.then_some(slopes),
                logs: std::slice::from_raw_parts(room.logs, lanes),
                means: std::slice::from_raw_parts(room.means, lanes),
            });
            if let (Some(drop), true) = (drop, head.by_value.is_some()) {
                multiply_tile(scores, drop);
            }
            let (weights, slopes) = (at(tile(room.scores), 0), at(tile(room.slopes), 0));
            if let Some(out) = head.by_value {
                let (from, out) = (head.grad.from(panel.first, 0), out.from(keys.start, 0));
                multiply_block([count, values, panel.count], weights, from, out, true);
            }
            if let Some(out) = head.by_key {
                let (from, out) = (head.query.from(panel.first, 0), out.from(keys.start, 0));
                multiply_block([count, width, panel.count], slopes, from, out, true);
            }
            if let Some(out) = head.by_query {
                let (from, out) = (head.key.from(keys.start, 0), out.from(panel.first, 0));
                multiply_block([panel.count, width, count], slopes.transposed(), from, out, true);
            }
        }
    }

    /// Adds the further parts of one row of the queries' gradient to the first.
    ///
    /// # Safety
    /// All are written, and nobody else has the row.
    unsafe fn add_parts(&self, row: usize, parts: usize) {
        let Sizes { queries, width, .. } = self.sizes;
        let (head, row) = (row / queries, row % queries);
        let of = |part: usize| self.head(head, part).by_query.map(|x| x.at(row, 0));
        let Some(sum) = of(0) else { return };
        // SAFETY: by the caller's promise; rows are contiguous.
        unsafe {
            let sum = std::slice::from_raw_parts_mut(sum, width);
            for part in (1..parts).filter_map(of) {
                add_tile(sum, std::slice::from_raw_parts(part.cast_const(), width));
            }
        }
    }
}

/// Sets some rows to 0.
///
/// # Safety
/// `out` has them, and nobody else does.
unsafe fn clear<T: Float>(out: Option<MatMut<T>>, rows: Range<usize>, width: usize) {
    let Some(out) = out else { return };
    for row in rows {
        // SAFETY: by the caller's promise; rows are contiguous.
        unsafe { std::slice::from_raw_parts_mut(out.at(row, 0), width) }.fill(T::default());
    }
}
