//! The product of a row and a column.

use super::vector::{Vector, Vectored};
use super::{Float, Mat, Product};
use crate::par;
use crate::simd;

/// Length of the partial sums, which are added up in order.
const BLOCK: usize = 4096;

/// Computes `p`.
///
/// # Safety
/// As for [`super::gemm`]; besides, `m == 1` and `n == 1`.
pub(super) unsafe fn multiply<T: Float>(p: Product<T>) {
    let blocks = p.k.div_ceil(BLOCK);
    // Sixteen blocks are a few microseconds of work.
    let sum = if blocks <= 16 {
        (0..blocks).fold(T::default(), |sum, block| sum.add(partial(&p, block)))
    } else {
        let mut sums = vec![T::default(); blocks];
        let out = Mat { ptr: sums.as_mut_ptr().cast_const(), row: 0, col: 1 };
        par::for_each_chunk(blocks, 16, |range| {
            for block in range {
                // SAFETY: `block` is within `sums` and this thread's alone.
                unsafe { *out.at(0, block).cast_mut() = partial(&p, block) };
            }
        });
        sums.into_iter().fold(T::default(), T::add)
    };
    // SAFETY: c's only element, and that of what is added.
    unsafe { *p.c.ptr = p.added.map_or(sum, |added| (*added.ptr).add(sum)) };
}

/// Sum of one block.
fn partial<T: Float>(p: &Product<T>, block: usize) -> T {
    let start = block * BLOCK;
    let k = BLOCK.min(p.k - start);
    simd::dispatch(Block { a: p.a.from(0, start), b: p.b.from(start, 0), k })
}

struct Block<T> {
    a: Mat<T>,
    b: Mat<T>,
    k: usize,
}

impl<T: Float> Vectored for Block<T> {
    type Elem = T;
    type Output = T;

    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>>(self) -> T {
        // SAFETY: k elements of each operand are valid.
        unsafe {
            let mut acc = [V::zero(); 4];
            let mut q = 0;
            if self.a.col == 1 && self.b.row == 1 {
                while q + 4 * V::LANES <= self.k {
                    for (u, sum) in acc.iter_mut().enumerate() {
                        let at = q + u * V::LANES;
                        *sum = V::load(self.a.ptr.add(at)).fma(V::load(self.b.ptr.add(at)), *sum);
                    }
                    q += 4 * V::LANES;
                }
            }
            // One element at a time in lane 0 of the vectors: the end, or strided operands.
            while q < self.k {
                let x = V::load_part(self.a.at(0, q), 1);
                acc[q % 4] = x.fma(V::load_part(self.b.at(q, 0), 1), acc[q % 4]);
                q += 1;
            }
            acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
        }
    }
}
