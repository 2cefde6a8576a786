//! Matrix products of any strides.
//!
//! | shape                                   | path                                               |
//! | --------------------------------------- | -------------------------------------------------- |
//! | 1 x 1                                    | [`dot`]: one scalar product, split over k           |
//! | few rows, both operands contiguous along k | [`inner`]: scalar products, several at a time    |
//! | few rows or all dims small, rows of b contiguous | [`direct`]: register tiles, nothing packed  |
//! | all else                                | [`packed`]: blocks for the caches, packed panels    |
//! | bfloat16, with AVX512-BF16              | [`bfloat16`]: the same, packed in pairs             |
//!
//! Kernels that keep blocks of their own in the caches multiply them with [`multiply_block`].
//!
//! The path, the blocks of k and the order of summation follow from shapes and strides alone, so
//! results are the same bits for any number of threads.

#[cfg(target_arch = "x86_64")]
mod bfloat16;
mod block;
mod buffer;
mod direct;
mod dot;
mod inner;
mod integer;
mod kernel;
mod pack;
mod packed;
mod repeated;
mod vector;

pub(super) use block::{multiply_block, multiply_lines, transpose_block, BlockElement};
pub(super) use buffer::with_scratch;
pub(super) use pack::Pack;
pub(crate) use repeated::PackedRight;
pub use vector::{Vector, Vectored};

use crate::dtype::Element;
use crate::simd::{self, Isa, Level};
use vector::Lanes;

/// Element (i, j) of a matrix in memory stands at `ptr + i * row + j * col`: strides are in
/// elements, of any sign, and may be 0.
#[derive(Clone, Copy, Debug)]
pub struct Mat<T> {
    /// Element (0, 0).
    pub ptr: *const T,
    /// Stride from row to row.
    pub row: isize,
    /// Stride from column to column.
    pub col: isize,
}

/// As [`Mat`], for the result: no two elements may share a place.
#[derive(Clone, Copy, Debug)]
pub struct MatMut<T> {
    /// Element (0, 0).
    pub ptr: *mut T,
    /// Stride from row to row.
    pub row: isize,
    /// Stride from column to column.
    pub col: isize,
}

// SAFETY: these are addresses; whoever calls `gemm` promises that they may be read and written, and
// the paths write each element of c on one thread.
unsafe impl<T: Send + Sync> Send for Mat<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Mat<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Send for MatMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for MatMut<T> {}

impl<T> Mat<T> {
    /// Address of element (i, j).
    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> *const T {
        self.ptr.wrapping_offset(i as isize * self.row + j as isize * self.col)
    }

    /// The matrix whose element (0, 0) is element (i, j) of this one.
    #[inline(always)]
    pub(super) fn from(&self, i: usize, j: usize) -> Self {
        Self { ptr: self.at(i, j), ..*self }
    }

    pub(super) fn transposed(self) -> Self {
        Self { ptr: self.ptr, row: self.col, col: self.row }
    }
}

impl<T> MatMut<T> {
    /// The same elements, to read.
    pub fn read(self) -> Mat<T> {
        Mat { ptr: self.ptr.cast_const(), row: self.row, col: self.col }
    }

    /// The same elements, with rows as columns.
    pub(super) fn transposed(self) -> Self {
        Self { ptr: self.ptr, row: self.col, col: self.row }
    }

    /// Address of element (i, j).
    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> *mut T {
        self.ptr.wrapping_offset(i as isize * self.row + j as isize * self.col)
    }

    /// The matrix whose element (0, 0) is element (i, j) of this one.
    #[inline(always)]
    pub(super) fn from(&self, i: usize, j: usize) -> Self {
        Self { ptr: self.at(i, j), ..*self }
    }
}

/// A product to compute: c (m x n) = added + a (m x k) @ b (k x n).
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Product<T> {
    m: usize,
    n: usize,
    k: usize,
    a: Mat<T>,
    b: Mat<T>,
    c: MatMut<T>,
    added: Option<Mat<T>>,
}

impl<T: Copy> Product<T> {
    /// The same product seen as c^T = b^T @ a^T.
    fn transposed(self) -> Self {
        let (a, b, c) = (self.b.transposed(), self.a.transposed(), self.c.transposed());
        Self { m: self.n, n: self.m, k: self.k, a, b, c, added: self.added.map(Mat::transposed) }
    }

    /// What the products of a block of k that starts at `q` are added to, from element (i, j) on: what the caller
    /// adds comes with the first block.
    #[inline(always)]
    fn added_to(&self, i: usize, j: usize, q: usize) -> Option<Mat<T>> {
        if q > 0 {
            Some(self.c.read().from(i, j))
        } else {
            self.added.map(|added| added.from(i, j))
        }
    }

    /// Multiplications in it.
    fn work(&self) -> usize {
        self.m.saturating_mul(self.n).saturating_mul(self.k)
    }
}

/// Multiplications that are worth a thread: about 5 microseconds of them.
const GRAIN: usize = 1 << 18;

/// How many of `count` equal parts of `work` multiplications make up a grain.
fn grain(count: usize, work: usize) -> usize {
    (GRAIN / (work / count.max(1)).max(1)).max(1)
}

/// A type that matrices can be multiplied in. Integers wrap around.
pub trait GemmElement: Element {
    /// Computes `product`, whose dims are all at least 1.
    ///
    /// # Safety
    /// As for [`gemm`].
    #[doc(hidden)]
    unsafe fn multiply(product: Product<Self>);
}

/// Computes `c = a @ b`, or `c = added + a @ b`. With `k == 0` the product is all zeros.
///
/// # Safety
/// Every element of `a` (m x k), `b` (k x n) and `added` (m x n) may be read and every element of `c` (m x n)
/// written and read during the call, through the given strides. `c` overlaps neither `a` nor `b` nor itself, and
/// `added` only if it is `c`, element for element.
pub unsafe fn gemm<T: GemmElement>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<T>,
    b: Mat<T>,
    c: MatMut<T>,
    added: Option<Mat<T>>,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k > 0 {
        // SAFETY: the caller's promise, handed on.
        return unsafe { T::multiply(Product { m, n, k, a, b, c, added }) };
    }
    // SAFETY: the caller's promise.
    unsafe { fill(m, n, c, added) };
}

/// Computes `c = added`, or `c = 0`.
///
/// # Safety
/// As for [`gemm`].
unsafe fn fill<T: GemmElement>(m: usize, n: usize, c: MatMut<T>, added: Option<Mat<T>>) {
    for i in 0..m {
        for j in 0..n {
            // SAFETY: (i, j) is an element of both.
            unsafe { *c.at(i, j) = added.map_or(T::default(), |added| *added.at(i, j)) };
        }
    }
}

/// A floating-point type and its vectors.
#[doc(hidden)]
pub trait Float: GemmElement {
    type Base: Vector<Elem = Self>;
    type V3: Vector<Elem = Self>;
    type V4: Vector<Elem = Self>;
    /// Side of the squares that `transpose` handles.
    const SIDE: usize;

    /// Copies `lanes` (at most `SIDE`) lines of `SIDE` elements, `row` apart, to `SIDE` groups
    /// `width` apart. May write up to `SIDE` lanes of each group.
    ///
    /// # Safety
    /// The lines are valid and so is the room for whole squares.
    unsafe fn transpose<I: Isa>(src: *const Self, row: isize, lanes: usize, out: *mut Self, width: usize);

    fn add(self, b: Self) -> Self;
}

macro_rules! float {
    ($type:ty, $base:ty, $v3:ident, $v4:ident, $side:literal, $transpose:ident) => {
        impl Float for $type {
            type Base = $base;
            #[cfg(target_arch = "x86_64")]
            type V3 = vector::x86::$v3;
            #[cfg(target_arch = "x86_64")]
            type V4 = vector::x86::$v4;
            #[cfg(not(target_arch = "x86_64"))]
            type V3 = $base;
            #[cfg(not(target_arch = "x86_64"))]
            type V4 = $base;
            const SIDE: usize = $side;

            #[inline(always)]
            unsafe fn transpose<I: Isa>(
                src: *const Self,
                row: isize,
                lanes: usize,
                out: *mut Self,
                width: usize,
            ) {
                #[cfg(target_arch = "x86_64")]
                if I::LEVEL >= Level::V3 {
                    // SAFETY: the level has AVX2; the rest is the caller's promise.
                    return unsafe { pack::$transpose(src, row, lanes, out, width) };
                }
                // SAFETY: the caller's promise.
                unsafe { pack::transpose_plain($side, src, row, lanes, out, width) }
            }

            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self + b
            }
        }

        impl GemmElement for $type {
            unsafe fn multiply(product: Product<Self>) {
                // SAFETY: the caller's promise.
                unsafe { multiply_float(product) }
            }
        }
    };
}
float!(f32, Lanes<f32, 4>, Avx2F32, Avx512F32, 8, transpose_8x8);
float!(f64, Lanes<f64, 2>, Avx2F64, Avx512F64, 4, transpose_4x4);

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl GemmElement for $type {
            unsafe fn multiply(product: Product<Self>) {
                // SAFETY: the caller's promise.
                unsafe { integer::multiply(product, |a, b, c| c.wrapping_add(a.wrapping_mul(b))) }
            }
        }
    )+};
}
integer!(u8, i32, i64);

/// Only where [`simd::has_bf16`]; elsewhere callers widen it.
#[cfg(target_arch = "x86_64")]
impl GemmElement for crate::dtype::bf16 {
    unsafe fn multiply(product: Product<Self>) {
        // SAFETY: the caller's promise.
        unsafe { bfloat16::multiply(product) }
    }
}

/// Rows of A's packed panels, or columns of B's.
pub(super) const fn width<T: Float>(level: Level, is_a: bool) -> usize {
    let (mr, lanes) = match level {
        Level::V4 => (T::V4::MR, T::V4::LANES),
        Level::V3 => (T::V3::MR, T::V3::LANES),
        Level::Baseline => (T::Base::MR, T::Base::LANES),
    };
    if is_a {
        mr
    } else {
        2 * lanes
    }
}

/// The product as paths want it: rows of c and of what is added are contiguous, and a lone column is a lone row.
/// `None` if it had to be computed on the way.
///
/// # Safety
/// As for [`gemm`].
unsafe fn prepared<T: GemmElement>(mut p: Product<T>) -> Option<Product<T>> {
    if (p.n == 1 && p.m > 1) || (p.m > 1 && p.c.col != 1 && p.c.row == 1) {
        p = p.transposed();
    }
    // SAFETY: the caller's promise.
    unsafe {
        if p.c.col != 1 && p.n > 1 {
            through_scratch(p);
            return None;
        }
        if p.n > 1 && p.added.is_some_and(|added| added.col != 1) {
            fill(p.m, p.n, p.c, p.added);
            p.added = Some(p.c.read());
        }
    }
    Some(p)
}

/// Chooses the path.
///
/// # Safety
/// As for [`gemm`].
unsafe fn multiply_float<T: Float>(p: Product<T>) {
    // SAFETY: the caller's promise, handed on to the path that fits.
    unsafe {
        let Some(p) = prepared(p) else { return };
        if p.m == 1 && p.n == 1 {
            return dot::multiply(p);
        }
        if p.b.col == 1 && direct::fits(&p) {
            direct::multiply(p)
        } else if p.a.col == 1 && p.b.row == 1 && p.k >= 16 && p.m <= inner::max_rows::<T>() {
            inner::multiply(p)
        } else {
            packed::multiply(p, simd::level())
        }
    }
}

/// Computes into contiguous scratch and copies: for a c without contiguous rows or columns.
///
/// # Safety
/// As for [`gemm`].
unsafe fn through_scratch<T: GemmElement>(p: Product<T>) {
    let mut rows = vec![T::default(); p.m * p.n];
    let c = MatMut { ptr: rows.as_mut_ptr(), row: p.n as isize, col: 1 };
    // SAFETY: `rows` holds m x n elements; all else is the caller's.
    unsafe { T::multiply(Product { c, ..p }) };
    for (index, value) in rows.into_iter().enumerate() {
        // SAFETY: an element of c.
        unsafe { *p.c.at(index / p.n, index % p.n) = value };
    }
}
