//! Products of whole arrays, one or a batch: the safe door to [`super::gemm`].

use super::gemm::{gemm, GemmElement, Mat, MatMut};
use super::nest::Nest;
use crate::array::Array;
use crate::layout::Layout;
use crate::{dispatch_compute, par, Result};

/// Multiplications from which one product is worth several threads.
const LARGE: usize = 1 << 20;

/// `out = a @ b`, or `out = added + a @ b`, on the last two dims; the dims before them are equal in all
/// (what is read repeats along a dim by a stride of 0). All have one dtype that kernels compute in, or
/// bfloat16 where [`crate::simd::has_bf16`].
pub fn matmul(op: &str, a: &Array, b: &Array, out: &Array, added: Option<&Array>) -> Result<()> {
    matmul_of(op, a.into(), b.into(), out.into(), added.map(Operand::from))
}

/// An array, perhaps as another layout shows it: no array is made for that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// Where the elements are.
    pub array: &'a Array,
    /// How they lie in its storage.
    pub layout: &'a Layout,
}

impl<'a> From<&'a Array> for Operand<'a> {
    fn from(array: &'a Array) -> Self {
        Self { array, layout: array.layout() }
    }
}

/// As [`matmul`], of arrays in layouts that stay inside their storages.
pub(crate) fn matmul_of(
    op: &str,
    a: Operand<'_>,
    b: Operand<'_>,
    out: Operand<'_>,
    added: Option<Operand<'_>>,
) -> Result<()> {
    let (rank, dtype) = (out.layout.rank(), out.array.dtype());
    debug_assert!(rank >= 2 && a.layout.rank() == rank && b.layout.rank() == rank);
    debug_assert!(a.array.dtype() == b.array.dtype() && a.array.dtype() == dtype);
    #[cfg(target_arch = "x86_64")]
    if dtype == crate::DType::BF16 && crate::simd::has_bf16() {
        Products::<crate::dtype::bf16>::new(a, b, out, added).run();
        return Ok(());
    }
    dispatch_compute!(dtype, op, T => Products::<T>::new(a, b, out, added).run());
    Ok(())
}

/// A batch of products of one size, with any strides between them.
struct Products<T> {
    size: [usize; 3],
    a: Mat<T>,
    b: Mat<T>,
    c: MatMut<T>,
    added: Option<Mat<T>>,
    batch: Nest<4>,
}

impl<T: GemmElement> Products<T> {
    fn new(a: Operand<'_>, b: Operand<'_>, out: Operand<'_>, added: Option<Operand<'_>>) -> Self {
        let (shape, lead) = (out.layout.shape(), out.layout.rank() - 2);
        let (m, n, k) = (shape[lead], shape[lead + 1], a.layout.shape()[lead + 1]);
        let (a_shape, b_shape) = (a.layout.shape(), b.layout.shape());
        // These make the unsafe calls below sound, and cost nothing beside a product.
        assert!(a_shape[lead..] == [m, k] && b_shape[lead..] == [k, n], "operands of other sizes");
        assert!(a_shape[..lead] == shape[..lead] && b_shape[..lead] == shape[..lead]);
        let is_inside = |x: Operand<'_>| {
            x.layout.end().is_some_and(|end| end * size_of::<T>() <= x.array.storage().len_bytes())
        };
        assert!(is_inside(a) && is_inside(b) && is_inside(out) && added.is_none_or(is_inside));
        let is_apart = |x: Operand<'_>| !out.array.shares_memory_with(x.array);
        assert!(is_apart(a) && is_apart(b));
        assert!(added.is_none_or(|x| x.layout.shape() == shape && is_apart(x)));
        assert!(!out.layout.has_overlap(), "an output element stands for two");
        let mat = |x: Operand<'_>| Mat {
            ptr: x.array.as_ptr_in::<T>(x.layout).cast_const(),
            row: x.layout.strides()[lead],
            col: x.layout.strides()[lead + 1],
        };
        let c = mat(out);
        Self {
            size: [m, n, k],
            a: mat(a),
            b: mat(b),
            c: MatMut { ptr: c.ptr.cast_mut(), row: c.row, col: c.col },
            added: added.map(mat),
            batch: Nest::new(
                &shape[..lead],
                [out, a, b, added.unwrap_or(out)].map(|x| &x.layout.strides()[..lead]),
            ),
        }
    }

    /// Few large products one after the other, each on all threads; many small ones side by side.
    /// Either way each is computed alone, so that its bits do not depend on the choice.
    fn run(&self) {
        let [m, n, k] = self.size;
        let (batch, work) = (self.batch.numel(), m.saturating_mul(n).saturating_mul(k).max(1));
        if batch == 1 {
            return self.one([0; 4], [0; 4], 0);
        }
        let inner = self.batch.inner_strides();
        let some = |range| {
            self.batch.runs(range, &mut |offsets, len| (0..len).for_each(|i| self.one(offsets, inner, i)));
        };
        if work >= LARGE && batch < 2 * par::num_threads() {
            some(0..batch);
        } else {
            par::for_each_chunk(batch, (LARGE / 4 / work).max(1), some);
        }
    }

    /// The `i`-th product of a run of the batch.
    #[inline]
    fn one(&self, offsets: [isize; 4], steps: [isize; 4], i: usize) {
        let [m, n, k] = self.size;
        let at = |operand: usize| offsets[operand] + i as isize * steps[operand];
        let c = MatMut { ptr: self.c.ptr.wrapping_offset(at(0)), ..self.c };
        let a = Mat { ptr: self.a.ptr.wrapping_offset(at(1)), ..self.a };
        let b = Mat { ptr: self.b.ptr.wrapping_offset(at(2)), ..self.b };
        let added = self.added.map(|x| Mat { ptr: x.ptr.wrapping_offset(at(3)), ..x });
        // SAFETY: `new` has asserted that the sizes are the layouts' extents, which stay inside their
        // storages, that the output shares no storage with what is read, and that it does not overlap itself.
        unsafe { gemm(m, n, k, a, b, c, added) };
    }
}
