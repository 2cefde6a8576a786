//! Parts of rows, and zeros beside them.

use super::map::{Shared, GRAIN_CHEAP};
use crate::array::Array;
use crate::par;
use std::ops::Range;

/// Copies what is `kept` of each row of the last dim; the rest of `out` becomes 0. Both are contiguous.
pub fn triangle(x: &Array, out: &Array, kept: impl Fn(usize) -> Range<usize> + Sync) {
    assert!(x.is_contiguous() && out.is_contiguous() && x.shape() == out.shape() && x.dtype() == out.dtype());
    let cols = x.shape().last().copied().unwrap_or(1);
    if x.numel() == 0 {
        return;
    }
    // The bytes of a 0 are zeros in every dtype.
    let (size, from) = (x.dtype().size(), x.bytes());
    let op = Shared(out.storage().as_ptr().wrapping_add(out.layout().offset() * size));
    let row = cols * size;
    par::for_each_chunk(x.numel() / cols, GRAIN_CHEAP.div_ceil(cols), |range| {
        for r in range {
            let kept = kept(r);
            let (start, end) = (kept.start * size, kept.end * size);
            // SAFETY: `out` has as many rows, each of which is one chunk's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(op.at((r * row) as isize), row) };
            out[..start].fill(0);
            out[start..end].copy_from_slice(&from[r * row..][start..end]);
            out[end..].fill(0);
        }
    });
}
