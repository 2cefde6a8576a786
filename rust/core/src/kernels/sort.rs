//! Stable sorting of rows with the places that the elements come from; NaN counts as the largest.

use super::map::Shared;
use super::num::Num;
use crate::array::Array;
use crate::par;
use std::cmp::Ordering;

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

/// The first `k` elements of each sorted row of `n`, and their indices in the row.
///
/// `x` is contiguous with `n > 0` elements per row; the results are contiguous with `k` per row.
pub fn sort_rows<T: Num>(x: &Array, n: usize, k: usize, descending: bool, values: &Array, indices: &Array) {
    debug_assert!(n > 0 && k <= n && values.numel() == x.numel() / n * k);
    let (xp, vp, ip) =
        (Shared(x.as_ptr::<T>()), Shared(values.as_ptr::<T>()), Shared(indices.as_ptr::<i64>()));
    let order = |a: &(T, i64), b: &(T, i64)| {
        let order = if descending { compare(b.0, a.0) } else { compare(a.0, b.0) };
        order.then(a.1.cmp(&b.1))
    };
    par::for_each_chunk(x.numel() / n, GRAIN.div_ceil(n), |range| {
        let mut pairs: Vec<(T, i64)> = Vec::with_capacity(n);
        for r in range {
            pairs.clear();
            // SAFETY: row `r` of `n` elements is inside the input.
            let row = unsafe { std::slice::from_raw_parts(xp.at((r * n) as isize), n) };
            pairs.extend(row.iter().zip(0..).map(|(&x, i)| (x, i)));
            if k < n && k > 0 {
                pairs.select_nth_unstable_by(k - 1, order);
            }
            // Indices break ties, so that a sort which is not stable gives the stable order.
            pairs[..k].sort_unstable_by(order);
            for (i, &(value, index)) in pairs[..k].iter().enumerate() {
                let at = (r * k + i) as isize;
                // SAFETY: row `r` of `k` elements is inside both results.
                unsafe {
                    *vp.at(at) = value;
                    *ip.at(at) = index;
                }
            }
        }
    });
}
