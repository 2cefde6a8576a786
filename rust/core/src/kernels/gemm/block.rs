//! Products and transposes of blocks that a caller keeps in the caches, on its own thread.

use super::pack::{Pack, Transpose};
use super::{direct, inner, GemmElement, Mat, MatMut, Product};
use crate::simd;

/// A type whose blocks these functions take: float32 and float64.
pub trait BlockElement: GemmElement {
    /// Computes `product`.
    ///
    /// # Safety
    /// As for [`multiply_block`].
    #[doc(hidden)]
    unsafe fn multiply(product: Product<Self>);

    /// Computes `product` as scalar products.
    ///
    /// # Safety
    /// As for [`multiply_lines`].
    #[doc(hidden)]
    unsafe fn multiply_lines(product: Product<Self>);

    /// Copies `lanes` lines of `k` elements.
    ///
    /// # Safety
    /// As for [`transpose_block`].
    #[doc(hidden)]
    unsafe fn transpose(src: Mat<Self>, lanes: usize, k: usize, out: *mut Self, width: usize);
}

macro_rules! block {
    ($($type:ty),+) => {$(
        impl BlockElement for $type {
            unsafe fn multiply(product: Product<Self>) {
                // SAFETY: the caller's promise.
                unsafe { direct::multiply_here(product) }
            }

            unsafe fn multiply_lines(product: Product<Self>) {
                // SAFETY: the caller's promise.
                unsafe { inner::multiply(product) }
            }

            unsafe fn transpose(src: Mat<Self>, lanes: usize, k: usize, out: *mut Self, width: usize) {
                simd::dispatch(Transpose { pack: Pack { src, lanes, k, out, is_a: false }, width });
            }
        }
    )+};
}
block!(f32, f64);

/// Computes `c = a @ b`, or `c += a @ b`, in one sweep over `k`: an element is one chain of multiply-adds.
///
/// # Safety
/// As for [`super::gemm`]; besides, `b.col == 1` and `c.col == 1`.
pub(in crate::kernels) unsafe fn multiply_block<T: BlockElement>(
    [m, n, k]: [usize; 3],
    a: Mat<T>,
    b: Mat<T>,
    c: MatMut<T>,
    accumulate: bool,
) {
    debug_assert!(b.col == 1 && c.col == 1);
    if m > 0 && n > 0 && k > 0 {
        // SAFETY: the caller's promise.
        unsafe { BlockElement::multiply(Product { m, n, k, a, b, c, added: accumulate.then(|| c.read()) }) };
    }
}

/// Computes `c = a @ b^T` for few rows of `a`, as scalar products of lines.
///
/// # Safety
/// As for [`super::gemm`]; besides, `a.col == 1` and `b.col == 1`.
pub(in crate::kernels) unsafe fn multiply_lines<T: BlockElement>(
    [m, n, k]: [usize; 3],
    a: Mat<T>,
    b: Mat<T>,
    c: MatMut<T>,
) {
    debug_assert!(a.col == 1 && b.col == 1);
    if m > 0 && n > 0 && k > 0 {
        // SAFETY: the caller's promise.
        unsafe { BlockElement::multiply_lines(Product { m, n, k, a, b: b.transposed(), c, added: None }) };
    }
}

/// Sets `out[p * width + lane] = src(lane, p)`. Of each `width` lanes those beyond `lanes`, up to a multiple of 8,
/// may be overwritten with 0.
///
/// # Safety
/// `lanes` x `k` elements of `src` may be read, and `k * width` elements written at `out`; `width` is at least `lanes`
/// rounded up to a multiple of 8.
pub(in crate::kernels) unsafe fn transpose_block<T: BlockElement>(
    src: Mat<T>,
    lanes: usize,
    k: usize,
    out: *mut T,
    width: usize,
) {
    debug_assert!(lanes.next_multiple_of(8) <= width);
    // SAFETY: the caller's promise.
    unsafe { BlockElement::transpose(src, lanes, k, out, width) };
}
