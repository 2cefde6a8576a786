//! Elements at given places along a dim, and putting them back.

use super::map::Shared;
use crate::array::Array;
use crate::dtype::Element;
use crate::par;

/// Elements per task.
const GRAIN: usize = 16 * 1024;

/// `out[o, k, i] = x[o, indices[o, k, i], i]`.
///
/// All are contiguous: `x` with extents (outer, n, inner), the others with (outer, k, inner); indices
/// are in `0..n`.
pub fn pick<T: Element>(x: &Array, indices: &Array, dims: (usize, usize, usize), k: usize, out: &Array) {
    let (outer, n, inner) = dims;
    debug_assert!(x.numel() == outer * n * inner && indices.numel() == outer * k * inner);
    let (xp, op, ip) = (Shared(x.as_ptr::<T>()), Shared(out.as_ptr::<T>()), Shared(indices.as_ptr::<i64>()));
    par::for_each_chunk(outer, GRAIN.div_ceil((k * inner).max(1)), |range| {
        for at in range.start * k * inner..range.end * k * inner {
            // SAFETY: `at` is inside the result and the indices, which are in range.
            unsafe {
                let index = *ip.at(at as isize) as usize;
                let from = (at / (k * inner) * n + index) * inner + at % inner;
                *op.at(at as isize) = *xp.at(from as isize);
            }
        }
    });
}

/// `out[o, indices[o, k, i], i] = x[o, k, i]`, the reverse of [`pick`]; no index occurs twice.
pub fn put<T: Element>(x: &Array, indices: &Array, dims: (usize, usize, usize), k: usize, out: &Array) {
    let (outer, n, inner) = dims;
    debug_assert!(out.numel() == outer * n * inner && indices.numel() == outer * k * inner);
    let (xp, op, ip) = (Shared(x.as_ptr::<T>()), Shared(out.as_ptr::<T>()), Shared(indices.as_ptr::<i64>()));
    par::for_each_chunk(outer, GRAIN.div_ceil((k * inner).max(1)), |range| {
        for at in range.start * k * inner..range.end * k * inner {
            // SAFETY: as in `pick`; tasks write to different `o`.
            unsafe {
                let index = *ip.at(at as isize) as usize;
                let to = (at / (k * inner) * n + index) * inner + at % inner;
                *op.at(to as isize) = *xp.at(at as isize);
            }
        }
    });
}
