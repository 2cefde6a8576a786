//! Planes of a matrix transposed in registers, for elements of 1, 2, 4 and 8 bytes.

use crate::simd::{Isa, Level};

/// `out[b * out_row + a] = x[a * x_row + b]` for `a < rows` and `b < cols`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transposed<W> {
    pub x: *const W,
    pub x_row: isize,
    pub out: *mut W,
    pub out_row: isize,
    pub rows: usize,
    pub cols: usize,
}

/// Rows and columns that are finished before the next ones: 2048 x 2048 float32 take 1.6 ms, in whole rows 2.8,
/// for neither side's pages stay at hand then. Side by side are the rows, whose elements lie together in the output.
const BLOCK_ROWS: usize = 512;
/// See [`BLOCK_ROWS`].
const BLOCK_COLS: usize = 64;

impl<W: Copy> Transposed<W> {
    /// Moves all elements.
    ///
    /// # Safety
    /// All of them lie in memory that is valid to read, or write, and the two do not overlap. Called from a kernel
    /// compiled for `I`.
    #[inline(always)]
    pub unsafe fn run<I: Isa>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match size_of::<W>() {
                1 => self.widest::<I, 16>(),
                2 => self.widest::<I, 8>(),
                4 => self.widest::<I, 4>(),
                _ => self.widest::<I, 2>(),
            }
        }
    }

    /// With the longest vectors that the rows fill; `N` elements make 16 bytes.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn widest<I: Isa, const N: usize>(self) {
        use std::arch::x86_64::{__m128i, __m256i, __m512i};
        // SAFETY: the caller's promise; wider vectors only where the kernel is compiled for them.
        unsafe {
            if self.cols < N || self.rows < N {
                self.one_by_one();
            } else if I::LEVEL == Level::V4 && self.rows >= 4 * N {
                self.by_strips::<__m512i, N>();
            } else if I::LEVEL >= Level::V3 && self.rows >= 2 * N {
                self.by_strips::<__m256i, N>();
            } else {
                self.by_strips::<__m128i, N>();
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    unsafe fn widest<I: Isa, const N: usize>(self) {
        let _ = (I::LEVEL == Level::Baseline, N);
        // SAFETY: the caller's promise.
        unsafe { self.one_by_one() }
    }

    #[inline(always)]
    unsafe fn one_by_one(self) {
        for b in 0..self.cols as isize {
            for a in 0..self.rows as isize {
                // SAFETY: the caller's promise.
                unsafe { *self.out.offset(b * self.out_row + a) = *self.x.offset(a * self.x_row + b) };
            }
        }
    }

    /// In strips of `N` columns by one vector of rows; the last ones overlap those before, and write the same again.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn by_strips<V: Vector, const N: usize>(self) {
        let (height, line) = (V::LANES * N, 4 * N); // a line of cache in columns
        for rows in (0..self.rows).step_by(BLOCK_ROWS) {
            let last_row = self.rows.min(rows + BLOCK_ROWS);
            for cols in (0..self.cols).step_by(BLOCK_COLS) {
                let last_col = self.cols.min(cols + BLOCK_COLS);
                for col in (cols..last_col).step_by(line) {
                    for row in (rows..last_row).step_by(height) {
                        let a = row.min(self.rows - height) as isize;
                        for b in (col..last_col.min(col + line)).step_by(N) {
                            let b = b.min(self.cols - N) as isize;
                            // SAFETY: the strip lies inside the plane, which has that many rows and columns.
                            unsafe {
                                let x = self.x.offset(a * self.x_row + b);
                                strip::<W, V, N>(
                                    x,
                                    self.x_row,
                                    self.out.offset(b * self.out_row + a),
                                    self.out_row,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A vector of 16-byte lanes.
#[cfg(target_arch = "x86_64")]
trait Vector: Copy {
    const LANES: usize;
    /// All zero.
    unsafe fn zero() -> Self;
    /// Sixteen bytes from each of `from`, `step` bytes apart.
    unsafe fn load(from: *const u8, step: isize) -> Self;
    /// In each lane the first halves of both, element by element in turns, and the second halves; `N` elements a lane.
    unsafe fn zip<const N: usize>(self, other: Self) -> [Self; 2];
    unsafe fn store(self, to: *mut u8);
}

/// `N` columns by `V::LANES * N` rows. Each lane holds `N` neighbours of a row; what begins as a row and `N / 2` rows
/// further becomes, zipped log2 N times, a column.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn strip<W, V: Vector, const N: usize>(x: *const W, x_row: isize, out: *mut W, out_row: isize) {
    // SAFETY: the caller passes a strip of valid elements.
    unsafe {
        let mut rows = [V::zero(); N];
        for (i, row) in rows.iter_mut().enumerate() {
            let lane_step = N as isize * x_row * size_of::<W>() as isize;
            *row = V::load(x.offset(i as isize * x_row).cast(), lane_step);
        }
        for _ in 0..N.ilog2() {
            let old = rows;
            for i in 0..N / 2 {
                [rows[2 * i], rows[2 * i + 1]] = old[i].zip::<N>(old[i + N / 2]);
            }
        }
        for (j, col) in rows.iter().enumerate() {
            col.store(out.offset(j as isize * out_row).cast());
        }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    ($type:ty, $lanes:literal, $zero:ident, |$from:ident, $step:ident| $load:expr, $store:ident,
     $lo8:ident $hi8:ident $lo16:ident $hi16:ident $lo32:ident $hi32:ident $lo64:ident $hi64:ident) => {
        impl Vector for $type {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the kernel is compiled for this vector.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn load($from: *const u8, $step: isize) -> Self {
                // SAFETY: as above; the caller passes valid places.
                unsafe { $load }
            }
            #[inline(always)]
            unsafe fn zip<const N: usize>(self, other: Self) -> [Self; 2] {
                // SAFETY: as above.
                unsafe {
                    match N {
                        16 => [$lo8(self, other), $hi8(self, other)],
                        8 => [$lo16(self, other), $hi16(self, other)],
                        4 => [$lo32(self, other), $hi32(self, other)],
                        _ => [$lo64(self, other), $hi64(self, other)],
                    }
                }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                // SAFETY: as above; the caller passes a valid place.
                unsafe { $store(to.cast(), self) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    vector!(__m128i, 1, _mm_setzero_si128, |from, _step| _mm_loadu_si128(from.cast()), _mm_storeu_si128,
        _mm_unpacklo_epi8 _mm_unpackhi_epi8 _mm_unpacklo_epi16 _mm_unpackhi_epi16
        _mm_unpacklo_epi32 _mm_unpackhi_epi32 _mm_unpacklo_epi64 _mm_unpackhi_epi64);
    vector!(__m256i, 2, _mm256_setzero_si256, |from, step| {
            let low = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
            _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(from.offset(step).cast()))
        }, _mm256_storeu_si256,
        _mm256_unpacklo_epi8 _mm256_unpackhi_epi8 _mm256_unpacklo_epi16 _mm256_unpackhi_epi16
        _mm256_unpacklo_epi32 _mm256_unpackhi_epi32 _mm256_unpacklo_epi64 _mm256_unpackhi_epi64);
    vector!(__m512i, 4, _mm512_setzero_si512, |from, step| {
            let lanes = _mm512_castsi128_si512(_mm_loadu_si128(from.cast()));
            let lanes = _mm512_inserti32x4::<1>(lanes, _mm_loadu_si128(from.offset(step).cast()));
            let lanes = _mm512_inserti32x4::<2>(lanes, _mm_loadu_si128(from.offset(2 * step).cast()));
            _mm512_inserti32x4::<3>(lanes, _mm_loadu_si128(from.offset(3 * step).cast()))
        }, _mm512_storeu_si512,
        _mm512_unpacklo_epi8 _mm512_unpackhi_epi8 _mm512_unpacklo_epi16 _mm512_unpackhi_epi16
        _mm512_unpacklo_epi32 _mm512_unpackhi_epi32 _mm512_unpacklo_epi64 _mm512_unpackhi_epi64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{dispatch, Baseline, Kernel};

    struct Run<W>(Transposed<W>);
    impl<W: Copy> Kernel for Run<W> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self) {
            // SAFETY: `check` passes pointers to as many elements.
            unsafe { self.0.run::<I>() }
        }
    }

    fn check<W: Copy + Default + PartialEq + std::fmt::Debug>(
        rows: usize,
        cols: usize,
        value: impl Fn(usize) -> W,
    ) {
        let (x_row, out_row) = (cols + 3, rows + 1);
        let x: Vec<W> = (0..rows * x_row).map(value).collect();
        for is_best in [true, false] {
            let mut out = vec![W::default(); cols * out_row];
            let (x_row, out_row) = (x_row as isize, out_row as isize);
            let plane = Transposed { x: x.as_ptr(), x_row, out: out.as_mut_ptr(), out_row, rows, cols };
            if is_best {
                dispatch(Run(plane));
            } else {
                Run(plane).run::<Baseline>();
            }
            for (b, line) in out.chunks(out_row as usize).enumerate() {
                let column: Vec<W> = (0..rows).map(|a| x[a * x_row as usize + b]).collect();
                assert_eq!(line[..rows], column, "{rows} x {cols}, column {b}");
                assert_eq!(line[rows], W::default(), "what lies beside the plane is left as it is");
            }
        }
    }

    #[test]
    fn planes_of_every_size_of_element() {
        for (rows, cols) in
            [(1, 1), (2, 3), (4, 4), (7, 5), (16, 16), (33, 17), (64, 64), (70, 131), (530, 9), (9, 530)]
        {
            check(rows, cols, |i| (i % 251) as u8);
            check(rows, cols, |i| i as u16);
            check(rows, cols, |i| i as u32);
            check(rows, cols, |i| i as u64);
        }
    }
}
