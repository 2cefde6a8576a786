//! Integer products: a plain loop over k that adds multiples of rows of b.

use super::{grain, Product};
use crate::par;

/// Computes `p` with `fma(a, b, c)` = c + a * b, wrapping.
///
/// # Safety
/// As for [`super::gemm`].
pub(super) unsafe fn multiply<T: Copy + Default + Send + Sync>(
    p: Product<T>,
    fma: impl Fn(T, T, T) -> T + Sync,
) {
    par::for_each_chunk(p.m, grain(p.m, p.work()), |rows| {
        for i in rows {
            // SAFETY: row i of c is this thread's alone; all indices are inside the matrices.
            unsafe {
                for j in 0..p.n {
                    *p.c.at(i, j) = p.added.map_or(T::default(), |added| *added.at(i, j));
                }
                for q in 0..p.k {
                    let x = *p.a.at(i, q);
                    for j in 0..p.n {
                        let c = p.c.at(i, j);
                        *c = fma(x, *p.b.at(q, j), *c);
                    }
                }
            }
        }
    });
}
