//! Stable sorting of rows with the places that the elements come from; NaN counts as the largest.

use super::map::Shared;
use super::num::Num;
use crate::alloc::Block;
use crate::array::Array;
use crate::par;
use crate::Result;
use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

/// Elements per task.
const GRAIN: usize = 2 * 1024;

/// The order of numbers with NaN last.
#[inline]
pub fn compare<T: Num>(a: T, b: T) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// The first `k` elements of each sorted row of `n`, and their indices in the row. An error if the memory
/// for a row and its indices is not there.
///
/// `x` is contiguous with `n > 0` elements per row; the results are contiguous with `k` per row.
pub fn sort_rows<T: Num>(
    x: &Array,
    n: usize,
    k: usize,
    descending: bool,
    values: &Array,
    indices: &Array,
) -> Result<()> {
    assert!(n > 0 && k <= n && x.is_contiguous() && values.is_contiguous() && indices.is_contiguous());
    assert!(values.numel() == x.numel() / n * k && indices.numel() == values.numel());
    let (xp, vp, ip) =
        (Shared(x.as_ptr::<T>()), Shared(values.as_ptr::<T>()), Shared(indices.as_ptr::<i64>()));
    let order = |a: &(T, i64), b: &(T, i64)| {
        let order = if descending { compare(b.0, a.0) } else { compare(a.0, b.0) };
        order.then(a.1.cmp(&b.1))
    };
    let failure = Mutex::new(None);
    par::for_each_chunk(x.numel() / n, GRAIN.div_ceil(n), |range| {
        // From the allocator, not a Vec: a row may be most of the memory that there is.
        let block = match Block::new(n * size_of::<(T, i64)>()) {
            Ok(block) => block,
            Err(error) => {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        };
        let start = block.as_ptr().cast::<(T, i64)>();
        for r in range {
            // SAFETY: row `r` of `n` elements is inside the input (asserted).
            let row = unsafe { std::slice::from_raw_parts(xp.at((r * n) as isize), n) };
            for (i, &value) in row.iter().enumerate() {
                // SAFETY: the block has room for `n` pairs, and blocks are aligned for any of them.
                unsafe { start.add(i).write((value, i as i64)) };
            }
            // SAFETY: the `n` pairs have just been written.
            let pairs = unsafe { std::slice::from_raw_parts_mut(start, n) };
            if k < n && k > 0 {
                pairs.select_nth_unstable_by(k - 1, order);
            }
            // Indices break ties, so that a sort which is not stable gives the stable order.
            pairs[..k].sort_unstable_by(order);
            for (i, &(value, index)) in pairs[..k].iter().enumerate() {
                let at = (r * k + i) as isize;
                // SAFETY: row `r` of `k` elements is inside both results (asserted).
                unsafe {
                    *vp.at(at) = value;
                    *ip.at(at) = index;
                }
            }
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
