//! Scaled dot-product attention without the matrix of all scores (after FlashAttention, Dao 2023).
//!
//! A panel of queries meets the keys block by block, in the caches. Scores stand transposed there, a row per key and
//! a column per query, so that maxima and sums of a query's scores run down a lane of the vectors. Only the queries
//! are copied for that: both products, `keys @ queries^T` and `weights @ values`, read keys and values where they are.
//!
//! | pass     | a task                             | keeps for the next pass             |
//! | -------- | ---------------------------------- | ----------------------------------- |
//! | forward  | a panel of queries of one head     | per query ln(sum(exp(scores)))      |
//! | backward | a chunk of keys of one head        | nothing: weights are computed again |
//!
//! Panels, blocks and chunks follow from the shapes alone, so results are the same bits for any number of threads.

mod backward;
mod forward;
mod scores;
#[cfg(test)]
mod tests;

pub use backward::{backward, Outcome};
pub use forward::forward;

use std::ops::Range;

use super::gemm::{transpose_block, BlockElement, Mat, MatMut};
use super::rows;
use crate::array::Array;
use scores::scale_tile;

/// A type that attention is computed in: float32 or float64.
pub trait Float: rows::Float + BlockElement {}
impl Float for f32 {}
impl Float for f64 {}

/// Queries of a panel are padded to a multiple of this: the lanes that a kernel over scores takes at a time.
const LANES: usize = 16;

/// Queries (*, L, E), keys (*, S, E), values (*, S, F), and masks (*, L, S) of the scores; the leading
/// dims are equal in all, with strides of 0 where an input repeats. The last dim of all but the masks has a stride of 1.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries.
    pub query: &'a Array,
    /// Keys.
    pub key: &'a Array,
    /// Values.
    pub value: &'a Array,
    /// What is added to the scores.
    pub mask: Option<&'a Array>,
    /// What the weights are multiplied by: dropout.
    pub drop: Option<&'a Array>,
    /// What products of queries and keys are multiplied by.
    pub scale: f64,
    /// Whether query i sees the keys 0..=i only.
    pub is_causal: bool,
}

impl Inputs<'_> {
    /// Checks what the unsafe code relies on.
    fn check<T: Float>(&self, others: &[(&Array, [usize; 2])]) -> Sizes {
        let lead = self.query.rank() - 2;
        let batch = &self.query.shape()[..lead];
        let last = |x: &Array| [x.shape()[lead], x.shape()[lead + 1]];
        let ([queries, width], [keys, values]) = (last(self.query), last(self.value));
        let own = [(self.query, [queries, width]), (self.key, [keys, width]), (self.value, [keys, values])];
        for (array, size) in own.iter().chain(others) {
            assert!(array.shape()[..lead] == *batch && last(array) == *size, "arrays of other sizes");
            let has_rows = size[1] <= 1 || array.numel() == 0 || array.strides()[lead + 1] == 1;
            assert!(has_rows, "rows are not contiguous");
            assert!(array.dtype() == T::DTYPE, "array of another dtype");
        }
        if let Some(mask) = self.mask {
            assert!(
                mask.shape()[..lead] == *batch && last(mask) == [queries, keys] && mask.dtype() == T::DTYPE
            );
        }
        Sizes { heads: batch.iter().product(), queries, keys, width, values }
    }
}

/// Extents of one problem.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    heads: usize,
    queries: usize,
    keys: usize,
    /// Elements of a query and of a key.
    width: usize,
    /// Elements of a value.
    values: usize,
}

/// Where each head's matrix of some arrays begins, in row-major order of the leading dims.
fn heads_of<const N: usize>(arrays: [&Array; N]) -> Vec<[isize; N]> {
    let lead = arrays[0].rank() - 2;
    let mut heads = vec![[0; N]];
    for (dim, &extent) in arrays[0].shape()[..lead].iter().enumerate() {
        let steps = arrays.map(|x| x.strides()[dim]);
        let next = |at: &[isize; N], i: usize| std::array::from_fn(|n| at[n] + i as isize * steps[n]);
        heads = heads.iter().flat_map(|at| (0..extent).map(move |i| next(at, i))).collect();
    }
    heads
}

/// The matrix of the first head.
fn matrix<T: Float>(x: &Array) -> MatMut<T> {
    let lead = x.rank() - 2;
    let col = if x.shape()[lead + 1] <= 1 { 1 } else { x.strides()[lead + 1] };
    MatMut { ptr: x.as_ptr::<T>(), row: x.strides()[lead], col }
}

/// The same, to be read, `steps` elements on.
fn at<T>(x: MatMut<T>, steps: isize) -> Mat<T> {
    Mat { ptr: x.ptr.wrapping_offset(steps).cast_const(), row: x.row, col: x.col }
}

/// A panel of queries: which, and how many lanes they take.
#[derive(Debug, Clone, Copy)]
struct Panel {
    first: usize,
    count: usize,
    lanes: usize,
}

impl Panel {
    /// The `index`-th of `queries` queries in panels of `most`.
    fn new(index: usize, queries: usize, most: usize) -> Self {
        let first = index * most;
        let count = most.min(queries - first);
        Self { first, count, lanes: count.next_multiple_of(LANES) }
    }

    /// Copies the panel's rows of `x` to `out`, a lane per row, times `scale`; further lanes are 0.
    ///
    /// # Safety
    /// `x` has the panel's rows of `width` elements, and `out` room for `width * lanes`.
    unsafe fn transpose<T: Float>(&self, x: Mat<T>, width: usize, scale: f64, out: *mut T) {
        let len = width * self.lanes;
        // SAFETY: by the caller's promise.
        unsafe {
            if self.count < self.lanes {
                std::slice::from_raw_parts_mut(out, len).fill(T::default());
            }
            transpose_block(x.from(self.first, 0), self.count, width, out, self.lanes);
            scale_tile(std::slice::from_raw_parts_mut(out, len), T::from_f64(scale));
        }
    }

    /// The tile of a mask that belongs to the panel and to `keys`, as scores stand; `room` is where it is put.
    ///
    /// # Safety
    /// `mask` has the panel's rows and the columns `keys`; `room` has an element for each query and key, and nobody else uses it.
    unsafe fn tile<'a, T: Float>(&self, mask: Mat<T>, keys: &Range<usize>, room: *mut T) -> &'a [T] {
        let len = keys.len() * self.lanes;
        // SAFETY: by the caller's promise; lanes beyond the panel's queries are set here.
        unsafe {
            if self.count < self.lanes {
                std::slice::from_raw_parts_mut(room, len).fill(T::default());
            }
            transpose_block(mask.from(self.first, keys.start), self.count, keys.len(), room, self.lanes);
            std::slice::from_raw_parts(room.cast_const(), len)
        }
    }

    /// Forbids what causal attention does not see in a tile of scores.
    fn hide_later<T: Float>(&self, scores: &mut [T], keys: Range<usize>) {
        if keys.end > self.first + 1 {
            for (key, row) in keys.zip(scores.chunks_exact_mut(self.lanes)) {
                let hidden = key.saturating_sub(self.first).min(self.lanes);
                row[..hidden].fill(T::from_f64(f64::NEG_INFINITY));
            }
        }
    }

    /// The keys that the panel sees of `keys`.
    fn seen(&self, keys: usize, is_causal: bool) -> usize {
        if is_causal {
            keys.min(self.first + self.count)
        } else {
            keys
        }
    }
}
