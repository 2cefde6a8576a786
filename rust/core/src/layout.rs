//! Shape, strides and offset of a view: pure functions, no data.

use crate::{bail, ensure, Result};
use smallvec::SmallVec;

/// Extents, outermost first.
pub type Dims = SmallVec<[usize; 4]>;
/// Steps between neighbours along each dim, in elements.
pub type Strides = SmallVec<[isize; 4]>;

/// How the elements of a view lie in its storage.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Dims,
    strides: Strides,
    offset: usize,
}

// Not derived: SmallVec's own clone is a loop behind a call.
impl Clone for Layout {
    #[inline]
    fn clone(&self) -> Self {
        Self { shape: small(&self.shape), strides: small(&self.strides), offset: self.offset }
    }
}

/// A copy of `values`, without a call for up to four of them: a loop would become one of `memcpy`.
#[inline(always)]
pub(crate) fn small<T: Copy + Default>(values: &[T]) -> SmallVec<[T; 4]> {
    if values.len() > 4 {
        return SmallVec::from_slice(values);
    }
    let at = |i: usize| values.get(i).copied().unwrap_or_default();
    SmallVec::from_buf_and_len([at(0), at(1), at(2), at(3)], values.len())
}

/// Whether both lists are the same, without a call: they are short.
#[inline(always)]
pub(crate) fn same<T: Copy + PartialEq>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y)
}

impl Layout {
    /// Row-major layout at offset 0. The product of the extents must have been checked.
    #[inline]
    pub fn contiguous(shape: &[usize]) -> Self {
        Self { shape: small(shape), strides: contiguous_strides(shape), offset: 0 }
    }

    /// Any layout. The caller answers for its staying inside the storage.
    pub fn new(shape: Dims, strides: Strides, offset: usize) -> Self {
        assert_eq!(shape.len(), strides.len());
        Self { shape, strides, offset }
    }

    /// Extents.
    #[inline]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Steps in elements.
    #[inline]
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// First element, counted from the start of the storage.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Number of dims.
    #[inline]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the extents are those of `other`.
    #[inline(always)]
    pub(crate) fn has_shape_of(&self, other: &Self) -> bool {
        same(&self.shape, &other.shape)
    }

    /// Whether the steps are those of `other`.
    #[inline(always)]
    pub(crate) fn has_strides_of(&self, other: &Self) -> bool {
        same(&self.strides, &other.strides)
    }

    /// Whether the elements lie one after the other in row-major order.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if extent != 1 {
                if stride != expected {
                    return self.shape.contains(&0);
                }
                expected *= extent as isize;
            }
        }
        true
    }

    /// Whether the elements fill a gap-free region, each exactly once, in any order of dims.
    pub fn is_dense(&self) -> bool {
        if self.is_contiguous() {
            return true;
        }
        let mut dims: SmallVec<[usize; 4]> = (0..self.rank()).filter(|&d| self.shape[d] != 1).collect();
        dims.sort_by_key(|&d| self.strides[d]);
        let mut expected = 1;
        dims.into_iter().all(|d| {
            let fits = self.strides[d] == expected;
            expected *= self.shape[d] as isize;
            fits
        })
    }

    /// Layout of a new array for an element-wise result: dense, in the same order of dims, as PyTorch's.
    #[inline]
    pub fn like(&self) -> Self {
        if self.is_contiguous() {
            self.at_start()
        } else {
            self.like_permuted()
        }
    }

    /// The same at offset 0.
    #[inline(always)]
    pub(crate) fn at_start(&self) -> Self {
        Self { shape: small(&self.shape), strides: small(&self.strides), offset: 0 }
    }

    /// As `like` of what is not contiguous.
    #[inline(never)]
    pub(crate) fn like_permuted(&self) -> Self {
        self.ordered(|a, b| self.is_further_out(a, b))
    }

    /// As `like` for a result of two operands of one shape: the second orders the dims that the first repeats.
    pub fn like_both(&self, other: &Self) -> Self {
        self.ordered(|a, b| self.is_further_out(a, b).or_else(|| other.is_further_out(a, b)))
    }

    /// A dense layout of this shape with its dims in an order.
    fn ordered(&self, is_further_out: impl Fn(usize, usize) -> Option<bool>) -> Self {
        // Innermost first. Dims that repeat elements (stride 0) stay where they are.
        let mut order: SmallVec<[usize; 4]> = (0..self.rank()).rev().collect();
        for i in 1..order.len() {
            let mut at = i;
            for before in (0..i).rev() {
                match is_further_out(order[before], order[at]) {
                    Some(true) => {
                        order.swap(before, at);
                        at = before;
                    }
                    Some(false) => break,
                    None => {}
                }
            }
        }
        let mut strides = Strides::from_elem(1, self.rank());
        let mut step = 1;
        for d in order {
            strides[d] = step;
            step *= self.shape[d].max(1) as isize;
        }
        Self { shape: small(&self.shape), strides, offset: 0 }
    }

    /// Whether dim `a` must lie outside of dim `b` in memory; nothing if their strides do not tell.
    fn is_further_out(&self, a: usize, b: usize) -> Option<bool> {
        let (stride_a, stride_b) = (self.strides[a].unsigned_abs(), self.strides[b].unsigned_abs());
        if stride_a == 0 || stride_b == 0 || (stride_a == stride_b && self.shape[a] <= self.shape[b]) {
            return None;
        }
        Some(stride_a >= stride_b)
    }

    /// Number of elements from the first to one past the last in memory; 0 if empty.
    pub fn span(&self) -> usize {
        if self.numel() == 0 {
            return 0;
        }
        1 + self.shape.iter().zip(&self.strides).map(|(&n, &s)| (n - 1) * s.unsigned_abs()).sum::<usize>()
    }

    /// One past the last element that is reached, counted from the start of the storage; nothing if one lies
    /// before that start, or beyond what 64 bits can count.
    pub(crate) fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let (mut first, mut last) = (self.offset, self.offset);
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = (extent - 1).checked_mul(stride.unsigned_abs())?;
            if stride < 0 {
                first = first.checked_sub(reach)?;
            } else {
                last = last.checked_add(reach)?;
            }
        }
        last.checked_add(1)
    }

    /// Whether two indices may name the same element (expanded dims).
    pub fn has_overlap(&self) -> bool {
        if self.is_dense() || self.numel() <= 1 {
            return false;
        }
        let mut dims: SmallVec<[usize; 4]> = (0..self.rank()).filter(|&d| self.shape[d] > 1).collect();
        dims.sort_by_key(|&d| self.strides[d].unsigned_abs());
        let mut reach = 0;
        dims.into_iter().any(|d| {
            let step = self.strides[d].unsigned_abs();
            let overlaps = step <= reach;
            reach += (self.shape[d] - 1) * step;
            overlaps
        })
    }

    /// The view that repeats extents of 1 (and missing leading dims) to reach `shape`.
    pub fn broadcast_to(&self, shape: &[usize]) -> Option<Self> {
        if self.rank() == 0 {
            return Some(self.repeated(shape));
        }
        if self.shape.as_slice() == shape {
            return Some(self.clone());
        }
        let lead = shape.len().checked_sub(self.rank())?;
        let mut strides = Strides::from_elem(0, shape.len());
        for (d, (&extent, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            if extent == shape[lead + d] {
                strides[lead + d] = stride;
            } else if extent != 1 {
                return None;
            }
        }
        Some(Self { shape: Dims::from_slice(shape), strides, offset: self.offset })
    }

    /// The view that repeats the only element of a 0-d layout.
    #[inline]
    pub fn repeated(&self, shape: &[usize]) -> Self {
        debug_assert_eq!(self.rank(), 0);
        let strides = if shape.len() <= 4 {
            Strides::from_buf_and_len([0; 4], shape.len())
        } else {
            Strides::from_elem(0, shape.len())
        };
        Self { shape: small(shape), strides, offset: self.offset }
    }

    /// Dims in the order of `dims`, which must be a permutation.
    pub fn permute(&self, dims: &[usize]) -> Self {
        Self {
            shape: dims.iter().map(|&d| self.shape[d]).collect(),
            strides: dims.iter().map(|&d| self.strides[d]).collect(),
            offset: self.offset,
        }
    }

    /// Two dims swapped.
    pub fn transpose(&self, a: usize, b: usize) -> Self {
        let mut out = self.clone();
        out.shape.swap(a, b);
        out.strides.swap(a, b);
        out
    }

    /// `len` elements of `dim` from `start`, `step` apart. The caller has checked the range.
    pub fn slice(&self, dim: usize, start: usize, len: usize, step: isize) -> Self {
        let mut out = self.clone();
        if self.numel() > 0 && len > 0 {
            out.offset = (out.offset as isize + start as isize * self.strides[dim]) as usize;
        }
        out.shape[dim] = len;
        out.strides[dim] *= step;
        out
    }

    /// Position `index` of `dim`, which disappears.
    pub fn select(&self, dim: usize, index: usize) -> Self {
        let mut out = self.slice(dim, index, 1, 1);
        out.shape.remove(dim);
        out.strides.remove(dim);
        out
    }

    /// A new dim of extent 1 before `dim`.
    pub fn unsqueeze(&self, dim: usize) -> Self {
        let mut out = self.clone();
        let stride = if dim < self.rank() { self.shape[dim] as isize * self.strides[dim] } else { 1 };
        out.shape.insert(dim, 1);
        out.strides.insert(dim, stride);
        out
    }

    /// Without the dims for which `drop` holds, each of extent 1.
    pub fn squeeze(&self, drop: impl Fn(usize) -> bool) -> Self {
        let keep = |d: &usize| !(self.shape[*d] == 1 && drop(*d));
        Self {
            shape: (0..self.rank()).filter(keep).map(|d| self.shape[d]).collect(),
            strides: (0..self.rank()).filter(keep).map(|d| self.strides[d]).collect(),
            offset: self.offset,
        }
    }

    /// The view of `shape` over the same elements in the same order, if strides can express it.
    pub fn reshape(&self, shape: &[usize]) -> Option<Self> {
        debug_assert_eq!(self.numel(), shape.iter().product::<usize>());
        if self.is_contiguous() {
            return Some(Self { offset: self.offset, ..Self::contiguous(shape) });
        }
        // Runs of dims that are contiguous among themselves can be cut anew; nothing can cross runs.
        let mut strides = Strides::from_elem(0, shape.len());
        let mut new_dim = shape.len();
        let mut d = self.rank();
        while d > 0 {
            let inner_stride = self.strides[d - 1];
            let mut run = self.shape[d - 1];
            d -= 1;
            while d > 0 && (self.shape[d - 1] == 1 || self.strides[d - 1] == inner_stride * run as isize) {
                run *= self.shape[d - 1];
                d -= 1;
            }
            let mut filled = 1;
            while new_dim > 0 && (filled < run || shape[new_dim - 1] == 1) {
                new_dim -= 1;
                strides[new_dim] = inner_stride * filled as isize;
                filled *= shape[new_dim];
            }
            if filled != run {
                return None;
            }
        }
        while new_dim > 0 && shape[new_dim - 1] == 1 {
            new_dim -= 1;
            strides[new_dim] = 1;
        }
        (new_dim == 0).then(|| Self { shape: Dims::from_slice(shape), strides, offset: self.offset })
    }
}

/// Row-major strides, in elements.
#[inline]
pub fn contiguous_strides(shape: &[usize]) -> Strides {
    let mut step = 1isize;
    let mut next = |extent: usize| {
        let stride = step;
        step *= extent.max(1) as isize;
        stride
    };
    if shape.len() > 4 {
        let mut strides: Strides = shape.iter().rev().map(|&extent| next(extent)).collect();
        strides.reverse();
        return strides;
    }
    // Extents of 1 in the place of missing ones, of which only the first are looked at.
    let extent = |d: usize| shape.get(d).copied().unwrap_or(1);
    let (s3, s2, s1, s0) = (next(extent(3)), next(extent(2)), next(extent(1)), next(extent(0)));
    SmallVec::from_buf_and_len([s0, s1, s2, s3], shape.len())
}

/// Number of elements of a new tensor of `shape`, if its bytes can be counted.
#[inline]
pub fn checked_numel(op: &str, shape: &[usize], element_size: usize) -> Result<usize> {
    let mut product = 1usize;
    let mut span = element_size;
    for &extent in shape {
        product = product.wrapping_mul(extent);
        // Extents of 0 must not hide an overflow of the others: strides are made of those.
        match span.checked_mul(extent.max(1)) {
            Some(bytes) if bytes <= isize::MAX as usize => span = bytes,
            _ => bail!(Shape, "{op}: the element count of shape {shape:?} overflows; use smaller sizes"),
        }
    }
    Ok(product)
}

/// The shape that both broadcast to: dims aligned at the end, extents equal or 1.
#[inline]
pub fn broadcast_shapes(op: &str, a: &[usize], b: &[usize]) -> Result<Dims> {
    if a == b {
        return Ok(Dims::from_slice(a));
    }
    let rank = a.len().max(b.len());
    let mut shape = Dims::from_elem(1, rank);
    for back in 1..=rank {
        let x = if back <= a.len() { a[a.len() - back] } else { 1 };
        let y = if back <= b.len() { b[b.len() - back] } else { 1 };
        ensure!(
            x == y || x == 1 || y == 1,
            Shape,
            "{op}: shapes {a:?} and {b:?} do not broadcast: extents {x} and {y} differ at dim {}; \
             they must be equal or one of them 1",
            rank - back
        );
        shape[rank - back] = if x == 1 { y } else { x };
    }
    Ok(shape)
}

/// A dim counted from the front, for one that may be counted from the end.
#[inline]
pub fn normalize_dim(op: &str, dim: isize, rank: usize) -> Result<usize> {
    let limit = rank.max(1) as isize;
    ensure!(
        (-limit..limit).contains(&dim),
        Index,
        "{op}: Dimension out of range (expected to be in range of [{}, {}], but got {dim}); use a dim in that range",
        -limit,
        limit - 1
    );
    Ok(if dim < 0 { dim + limit } else { dim } as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_keeps_views_where_strides_allow() {
        let x = Layout::contiguous(&[2, 3, 4]);
        assert_eq!(x.reshape(&[6, 4]).unwrap().strides(), [4, 1]);
        let t = x.transpose(0, 1); // (3, 2, 4), strides 4 12 1
        assert!(t.reshape(&[6, 4]).is_none());
        assert_eq!(t.reshape(&[3, 2, 2, 2]).unwrap().strides(), [4, 12, 2, 1]);
        assert_eq!(t.reshape(&[3, 1, 2, 4, 1]).unwrap().shape(), [3, 1, 2, 4, 1]);
        let e = Layout::contiguous(&[1, 3]).broadcast_to(&[5, 3]).unwrap();
        assert!(e.reshape(&[15]).is_none());
        assert_eq!(Layout::contiguous(&[]).reshape(&[1, 1]).unwrap().shape(), [1, 1]);
        assert_eq!(Layout::contiguous(&[0, 3]).reshape(&[3, 0]).unwrap().numel(), 0);
    }

    #[test]
    fn dense_and_overlap() {
        let x = Layout::contiguous(&[3, 4]);
        assert!(x.transpose(0, 1).is_dense() && !x.transpose(0, 1).is_contiguous());
        assert!(!x.slice(1, 0, 2, 2).is_dense() && !x.slice(1, 0, 2, 2).has_overlap());
        assert!(Layout::contiguous(&[1, 3]).broadcast_to(&[2, 3]).unwrap().has_overlap());
    }

    #[test]
    fn results_keep_the_order_of_dims() {
        let x = Layout::contiguous(&[3, 4]);
        assert_eq!(x.transpose(0, 1).like().strides(), [1, 4]);
        assert_eq!(x.transpose(0, 1).slice(1, 0, 2, 2).like().strides(), [1, 4]); // shape (4, 2)
        assert_eq!(x.slice(1, 0, 2, 2).like().strides(), [2, 1]);
        assert_eq!(Layout::contiguous(&[3, 1]).broadcast_to(&[3, 4]).unwrap().like().strides(), [4, 1]);
    }

    #[test]
    fn overflow_is_an_error_even_beside_a_zero() {
        assert!(checked_numel("zeros", &[1 << 40, 1 << 40], 4).is_err());
        assert!(checked_numel("zeros", &[1 << 40, 1 << 40, 0], 4).is_err());
        assert_eq!(checked_numel("zeros", &[3, 0], 4).unwrap(), 0);
    }
}
