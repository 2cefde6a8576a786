//! From queries, keys and values to results.

use super::scores::{add_tile, multiply_tile, scale_tile, Finish, Running, Softmax};
use super::{at, heads_of, matrix, Float, Inputs, Panel, Sizes};
use crate::array::Array;
use crate::kernels::gemm::{multiply_block, multiply_lines, with_scratch, Mat, MatMut};
use crate::kernels::shared::SharedSlice;
use crate::par;
use crate::simd::dispatch;

/// Queries of a panel. With 64 and more causal attention of short sequences computes more that is hidden (64 queries:
/// a fifth slower); others are as fast with 32, 64, 96 and 128 (`benchmarks/test_attention.py`).
const QUERIES: usize = 32;
/// Keys of a block. 64 and 128 are up to a twentieth slower: results are rescaled more often.
const KEYS: usize = 256;

/// So few queries are not copied to lanes, most of which would be empty (`test_one_query`: half the time).
const FEW_QUERIES: usize = 4;

/// Multiplications that are worth a task: set by `benchmarks/test_attention.py`.
pub(super) const GRAIN: usize = 1 << 19;

/// Writes `(softmax(query @ key^T * scale + mask) * drop) @ value` to `out`, and to `logs` for each query of each head
/// `ln(sum(exp(scores)))`. A query that may see no key gives zeros.
pub fn forward<T: Float>(inputs: &Inputs<'_>, out: &Array, logs: &mut [T]) {
    let Inputs { query, key, value, mask, drop, scale, is_causal } = *inputs;
    let (lead, wanted) = (query.rank() - 2, value.shape()[value.rank() - 1]);
    let sizes = inputs.check::<T>(&[(out, [query.shape()[lead], wanted])]);
    assert!(!out.layout().has_overlap() && logs.len() == sizes.heads * sizes.queries);
    let pass = Forward {
        sizes,
        query: matrix::<T>(query),
        key: matrix(key),
        value: matrix(value),
        mask: mask.map(matrix),
        drop: drop.map(matrix),
        out: matrix(out),
        logs: SharedSlice::new(logs),
        scale,
        is_causal,
        heads: heads_of([query, key, value, mask.unwrap_or(query), drop.unwrap_or(query), out]),
    };
    let panels = sizes.queries.div_ceil(QUERIES);
    let work = QUERIES.min(sizes.queries) * sizes.keys * (sizes.width + sizes.values);
    par::for_each_chunk(sizes.heads * panels, (GRAIN / work.max(1)).max(1), |tasks| {
        with_scratch(pass.room(), |room| {
            for task in tasks {
                // SAFETY: `check` has compared the sizes; each task writes the rows of its own panel.
                unsafe { pass.panel(task / panels, task % panels, room) };
            }
        });
    });
}

struct Forward<'a, T> {
    sizes: Sizes,
    query: MatMut<T>,
    key: MatMut<T>,
    value: MatMut<T>,
    mask: Option<MatMut<T>>,
    drop: Option<MatMut<T>>,
    out: MatMut<T>,
    logs: SharedSlice<'a, T>,
    scale: f64,
    is_causal: bool,
    heads: Vec<[isize; 6]>,
}

impl<T: Float> Forward<'_, T> {
    /// Elements of scratch: the panel, a tile of scores and one of a mask, and three numbers per query.
    fn room(&self) -> usize {
        QUERIES * (self.sizes.width + 2 * KEYS + 3)
    }

    /// # Safety
    /// `room` has `room()` elements, and nobody else has the panel's rows.
    unsafe fn panel(&self, head: usize, index: usize, room: *mut T) {
        let Sizes { queries, keys, width, values, .. } = self.sizes;
        let [query, key, value, mask, drop, out] = self.heads[head];
        let (key, value) = (at(self.key, key), at(self.value, value));
        let (mask, drop) = (self.mask.map(|x| at(x, mask)), self.drop.map(|x| at(x, drop)));
        let out = MatMut { ptr: self.out.ptr.wrapping_offset(out), ..self.out };
        let panel = Panel::new(index, queries, QUERIES);
        let lanes = panel.lanes;
        // SAFETY: the parts lie one after the other in the room; what is read was written before. Rows and columns of
        // the matrices stay inside their extents.
        unsafe {
            let packed = room;
            let scores = packed.add(QUERIES * width);
            let other = scores.add(QUERIES * KEYS);
            let max = std::slice::from_raw_parts_mut(other.add(QUERIES * KEYS), lanes);
            let sum = std::slice::from_raw_parts_mut(max.as_mut_ptr().add(QUERIES), lanes);
            let rescale = std::slice::from_raw_parts_mut(sum.as_mut_ptr().add(QUERIES), lanes);
            max.fill(T::from_f64(f64::NEG_INFINITY));
            sum.fill(T::default());
            let query = at(self.query, query);
            let are_few = panel.count <= FEW_QUERIES;
            if !are_few {
                panel.transpose(query, width, self.scale, packed);
            }
            let packed = Mat { ptr: packed.cast_const(), row: lanes as isize, col: 1 };
            let seen = panel.seen(keys, self.is_causal);
            for start in (0..seen).step_by(KEYS) {
                let block = start..seen.min(start + KEYS);
                let count = block.len();
                let tile = MatMut { ptr: scores, row: lanes as isize, col: 1 };
                let written = std::slice::from_raw_parts_mut(scores, count * lanes);
                if are_few || width == 0 {
                    written.fill(T::default());
                }
                if are_few {
                    let (query, key) = (query.from(panel.first, 0), key.from(start, 0));
                    multiply_lines([panel.count, count, width], query, key, tile.transposed());
                    scale_tile(written, T::from_f64(self.scale));
                } else {
                    multiply_block([count, lanes, width], key.from(start, 0), packed, tile, false);
                }
                if let Some(mask) = mask {
                    add_tile(written, panel.tile(mask, &block, other));
                }
                if self.is_causal {
                    panel.hide_later(written, block.clone());
                }
                let running = Running { max: &mut *max, sum: &mut *sum, rescale: &mut *rescale };
                dispatch(Softmax { tile: &mut *written, running });
                if let Some(drop) = drop {
                    multiply_tile(written, panel.tile(drop, &block, other));
                }
                if start > 0 {
                    self.scale_rows(out, panel, rescale);
                }
                let weights = Mat { ptr: scores.cast_const(), row: 1, col: lanes as isize };
                let size = [panel.count, values, count];
                multiply_block(size, weights, value.from(start, 0), out.from(panel.first, 0), start > 0);
            }
            if seen == 0 {
                for row in 0..panel.count {
                    let row = out.at(panel.first + row, 0);
                    std::slice::from_raw_parts_mut(row, values).fill(T::default());
                }
            }
            dispatch(Finish { max: &mut *max, sum: &mut *sum });
            self.scale_rows(out, panel, sum);
            self.logs.part(head * queries + panel.first, panel.count).copy_from_slice(&max[..panel.count]);
        }
    }

    /// Multiplies each of the panel's rows by its factor.
    ///
    /// # Safety
    /// The rows are written, and nobody else has them.
    unsafe fn scale_rows(&self, out: MatMut<T>, panel: Panel, factors: &[T]) {
        let one = T::from_f64(1.0);
        for (row, &factor) in factors[..panel.count].iter().enumerate() {
            if factor != one {
                // SAFETY: by the caller's promise; rows are contiguous.
                let row = unsafe {
                    std::slice::from_raw_parts_mut(out.at(panel.first + row, 0), self.sizes.values)
                };
                scale_tile(row, factor);
            }
        }
    }
}
