//! A right operand that is packed once and multiplied often, by few rows at a time: a recurrent layer's weight.

// Indexed loops of constant length: every one is unrolled, and acc stays in registers.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::pack::Pack;
use super::packed::{even, Block, Rectangle, K_BLOCK};
use super::vector::{Vector, Vectored};
use super::{width, Float, Mat, MatMut};
use crate::alloc;
use crate::simd;
use crate::Result;

/// Up to so many rows a tile of few rows and many columns keeps the multipliers busier.
const FEW_ROWS: usize = 3;

/// A packed matrix of `k` x `n`.
pub(crate) struct PackedRight<T> {
    panels: alloc::Block,
    k: usize,
    n: usize,
    k_block: usize,
    life: PhantomData<T>,
}

impl<T: Float> PackedRight<T> {
    /// Packs `b` (k x n), neither extent 0.
    ///
    /// # Safety
    /// Its elements may be read through the strides.
    pub unsafe fn new(b: Mat<T>, k: usize, n: usize) -> Result<Self> {
        let nr = width::<T>(simd::level(), false);
        let len = k * n.next_multiple_of(nr);
        let panels = alloc::Block::new(len * size_of::<T>())?;
        // The columns that the last panel lacks are read beside the others, and not used.
        // SAFETY: the block has room for `len` elements, and zero bytes are the number 0.
        unsafe { panels.as_ptr().write_bytes(0, len * size_of::<T>()) };
        let packed = Self { panels, k, n, k_block: even(k, K_BLOCK, 1), life: PhantomData };
        for (start, len, out) in packed.blocks() {
            let src = b.from(start, 0).transposed();
            simd::dispatch(Pack { src, lanes: n, k: len, out, is_a: false });
        }
        Ok(packed)
    }

    /// First row, number of rows and packed panels of each block of k.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, *mut T)> + '_ {
        let padded = self.n.next_multiple_of(width::<T>(simd::level(), false));
        (0..self.k).step_by(self.k_block).map(move |start| {
            let panels = self.panels.as_ptr().cast::<T>().wrapping_add(start * padded);
            (start, self.k_block.min(self.k - start), panels)
        })
    }

    /// `c (m x n) = a (m x k) @ b`, or `c += a @ b`, on this thread. A row's values do not depend on the others.
    ///
    /// # Safety
    /// As for [`super::gemm`]; besides, c's rows are contiguous.
    pub unsafe fn multiply(&self, m: usize, a: Mat<T>, c: MatMut<T>, accumulate: bool) {
        debug_assert!(c.col == 1);
        let (mr, nr) = (width::<T>(simd::level(), true), width::<T>(simd::level(), false));
        for (start, k, panels) in self.blocks() {
            let (a, added) = (a.from(0, start), (accumulate || start > 0).then(|| c.read()));
            if m <= FEW_ROWS {
                simd::dispatch(Few { m, n: self.n, k, a, panels, c, accumulate: added.is_some() });
                continue;
            }
            let packed_b = MatMut { ptr: panels, row: 0, col: 1 };
            let block = Block {
                m,
                n: self.n,
                k,
                a,
                b: Mat { ptr: panels.cast_const(), row: 0, col: 1 },
                c,
                packed_a: packed_b,
                packed_b,
                added,
                packs_a: false,
                mr,
                nr,
            };
            simd::dispatch(Rectangle { block: &block, rows: 0..m, columns: 0..self.n });
        }
    }
}

/// Few rows times all panels of a block of k.
struct Few<T> {
    m: usize,
    n: usize,
    k: usize,
    a: Mat<T>,
    panels: *const T,
    c: MatMut<T>,
    accumulate: bool,
}

impl<T: Float> Vectored for Few<T> {
    type Elem = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) {
        let nr = 2 * V::LANES;
        let mut j = 0;
        while j < self.n {
            let left = (self.n - j).div_ceil(nr);
            // SAFETY: the panels from column j on are inside the block, rows inside a and c.
            j += unsafe {
                match (self.m, left) {
                    (1, 4..) => self.tile::<V, 1, 4>(j),
                    (1, _) => self.tile::<V, 1, 1>(j),
                    (2, 2..) => self.tile::<V, 2, 2>(j),
                    (2, _) => self.tile::<V, 2, 1>(j),
                    (_, 2..) => self.tile::<V, 3, 2>(j),
                    (_, _) => self.tile::<V, 3, 1>(j),
                }
            };
        }
    }
}

impl<T: Float> Few<T> {
    /// `M` rows times `P` panels: each element is one chain of multiply-adds over k, as in other tiles. Returns
    /// the number of columns.
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = T>, const M: usize, const P: usize>(&self, j: usize) -> usize {
        let nr = 2 * V::LANES;
        let (panel, mut b) = (self.k * nr, self.panels.wrapping_add(j * self.k));
        // SAFETY: by the caller's promise; panels are whole, and of c only columns below n are touched.
        unsafe {
            let mut acc = [[[V::zero(); 2]; P]; M];
            for q in 0..self.k {
                let mut x = [V::zero(); M];
                for i in 0..M {
                    x[i] = V::splat(*self.a.at(i, q));
                }
                for p in 0..P {
                    for half in 0..2 {
                        let columns = V::load(b.add(p * panel + half * V::LANES));
                        for i in 0..M {
                            acc[i][p][half] = x[i].fma(columns, acc[i][p][half]);
                        }
                    }
                }
                b = b.wrapping_add(nr);
            }
            for i in 0..M {
                for p in 0..P {
                    for half in 0..2 {
                        let first = j + p * nr + half * V::LANES;
                        let len = V::LANES.min(self.n.saturating_sub(first));
                        let (to, sum) = (self.c.at(i, first), acc[i][p][half]);
                        if len == V::LANES {
                            let sum = if self.accumulate { sum.add(V::load(to)) } else { sum };
                            sum.store(to);
                        } else if len > 0 {
                            let sum = if self.accumulate { sum.add(V::load_part(to, len)) } else { sum };
                            sum.store_part(to, len);
                        }
                    }
                }
            }
        }
        P * nr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, by: usize) -> Vec<f32> {
        (0..len).map(|i| (i * by % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn products_are_right_and_rows_do_not_depend_on_each_other() {
        for [m, n, k] in [[1, 1, 1], [2, 33, 7], [3, 130, 20], [4, 31, 5], [13, 64, 400], [30, 100, 800]] {
            let (a, b, start) = (values(m * k, 37), values(k * n, 53), values(m * n, 29));
            let right = Mat { ptr: b.as_ptr(), row: n as isize, col: 1 };
            // SAFETY: `b` is k x n.
            let packed = unsafe { PackedRight::new(right, k, n).unwrap() };
            let product = |first: usize, rows: usize, c: &mut [f32], accumulate: bool| {
                let a = Mat { ptr: a[first * k..].as_ptr(), row: k as isize, col: 1 };
                let c = MatMut { ptr: c[first * n..].as_mut_ptr(), row: n as isize, col: 1 };
                // SAFETY: the rows lie in the vectors.
                unsafe { packed.multiply(rows, a, c, accumulate) };
            };
            for accumulate in [false, true] {
                let (mut all, mut single) = (start.clone(), start.clone());
                product(0, m, &mut all, accumulate);
                (0..m).for_each(|row| product(row, 1, &mut single, accumulate));
                assert_eq!(all, single, "{m} x {n} x {k}");
                for (index, got) in all.iter().enumerate() {
                    let (i, j) = (index / n, index % n);
                    let exact =
                        (0..k).map(|q| f64::from(a[i * k + q]) * f64::from(b[q * n + j])).sum::<f64>()
                            + if accumulate { f64::from(start[index]) } else { 0.0 };
                    assert!((f64::from(*got) - exact).abs() < 1e-4 * (k as f64).sqrt(), "{m} x {n} x {k}");
                }
            }
        }
    }
}
