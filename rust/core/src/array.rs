//! Data without history: a dtype and a layout over shared storage.

use crate::dtype::Element;
use crate::kernels::copy;
use crate::layout::{checked_numel, Layout};
use crate::storage::Storage;
use crate::{bail, dispatch_all, ensure, DType, Result};
use std::sync::Arc;

/// A typed, strided view of a storage. Cloning shares the data.
#[derive(Debug, Clone)]
pub struct Array {
    storage: Arc<Storage>,
    layout: Layout,
    dtype: DType,
}

impl Array {
    /// A new contiguous array whose elements have no value yet.
    #[inline]
    pub fn empty(shape: &[usize], dtype: DType) -> Result<Self> {
        let numel = checked_numel("empty", shape, dtype.size())?;
        let storage = Arc::new(Storage::uninit(numel * dtype.size())?);
        Ok(Self { storage, layout: Layout::contiguous(shape), dtype })
    }

    /// A new array without values, in the order of dims that suits a result computed from `layout`.
    #[inline]
    pub fn empty_like(layout: &Layout, dtype: DType) -> Result<Self> {
        let numel = checked_numel("empty_like", layout.shape(), dtype.size())?;
        let storage = Arc::new(Storage::uninit(numel * dtype.size())?);
        Ok(Self { storage, layout: layout.like(), dtype })
    }

    /// A new array with every element `value`.
    pub fn full(shape: &[usize], value: f64, dtype: DType) -> Result<Self> {
        let out = Self::empty(shape, dtype)?;
        copy::fill(&out, value);
        Ok(out)
    }

    /// A new 0-d array.
    #[inline]
    pub fn scalar<T: Element>(value: T) -> Result<Self> {
        let mut out = Self::empty(&[], T::DTYPE)?;
        out.slice_mut::<T>()[0] = value;
        Ok(out)
    }

    /// A new array of `shape` with the elements of `values` in row-major order.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Self> {
        let mut out = Self::empty(shape, T::DTYPE)?;
        ensure!(
            out.numel() == values.len(),
            Shape,
            "from_slice: {} values do not fill shape {shape:?}",
            values.len()
        );
        out.slice_mut::<T>().copy_from_slice(values);
        Ok(out)
    }

    /// A view over existing storage.
    pub fn from_storage(storage: Arc<Storage>, layout: Layout, dtype: DType) -> Result<Self> {
        let needed = if layout.numel() == 0 { 0 } else { layout.offset() + layout.span() };
        ensure!(
            needed * dtype.size() <= storage.len_bytes(),
            Shape,
            "as_strided: shape {:?} with strides {:?} and offset {} needs {} bytes, the storage has {}",
            layout.shape(),
            layout.strides(),
            layout.offset(),
            needed * dtype.size(),
            storage.len_bytes()
        );
        Ok(Self { storage, layout, dtype })
    }

    /// The same data seen through another layout, made from this array's by a view operation.
    #[inline]
    pub fn with_layout(&self, layout: Layout) -> Self {
        debug_assert!(
            layout.numel() == 0
                || (layout.offset() + layout.span()) * self.dtype.size() <= self.storage.len_bytes()
        );
        Self { storage: self.storage.clone(), layout, dtype: self.dtype }
    }

    /// As `with_layout` for a layout with negative strides, made of this array's own.
    #[inline]
    pub(crate) fn with_reversed(&self, layout: Layout) -> Self {
        Self { storage: self.storage.clone(), layout, dtype: self.dtype }
    }

    /// Extents.
    #[inline]
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// Steps in elements.
    #[inline]
    pub fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    /// Shape, strides and offset.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Type of the elements.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of dims.
    #[inline]
    pub fn rank(&self) -> usize {
        self.layout.rank()
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        self.layout.numel()
    }

    /// The bytes that it views.
    #[inline]
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Whether the elements lie in row-major order without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// Pointer to the first element.
    #[inline]
    pub fn as_ptr<T: Element>(&self) -> *mut T {
        assert_eq!(self.dtype, T::DTYPE, "array of another dtype");
        self.storage.as_ptr().cast::<T>().wrapping_add(self.layout.offset())
    }

    /// The elements of a contiguous array.
    #[inline]
    pub fn slice<T: Element>(&self) -> &[T] {
        assert!(self.is_contiguous(), "slice of an array that is not contiguous");
        // SAFETY: constructors keep layouts inside the storage; contiguity and dtype are asserted.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.numel()) }
    }

    /// The bytes of a contiguous array.
    pub fn bytes(&self) -> &[u8] {
        assert!(self.is_contiguous(), "bytes of an array that is not contiguous");
        let start = self.storage.as_ptr().wrapping_add(self.layout.offset() * self.dtype.size());
        // SAFETY: constructors keep layouts inside the storage; any element is valid as bytes.
        unsafe { std::slice::from_raw_parts(start, self.numel() * self.dtype.size()) }
    }

    /// The elements of a contiguous array that nobody else shares, for writing.
    #[inline]
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        assert!(self.is_contiguous() && Arc::strong_count(&self.storage) == 1, "array is shared");
        // SAFETY: as `slice`; the storage has no other owner, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.numel()) }
    }

    /// Itself if contiguous, else a contiguous copy.
    #[inline]
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let out = Self::empty(self.shape(), self.dtype)?;
        copy::copy(self, &out);
        Ok(out)
    }

    /// A copy with storage of its own, in the same order of dims.
    pub fn copied(&self) -> Result<Self> {
        let out = Self::empty_like(&self.layout, self.dtype)?;
        copy::copy(self, &out);
        Ok(out)
    }

    /// Itself if of that dtype, else a converted copy.
    #[inline]
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if self.dtype == dtype {
            return Ok(self.clone());
        }
        let out = Self::empty_like(&self.layout, dtype)?;
        copy::copy(self, &out);
        Ok(out)
    }

    /// Writes `source`, broadcast and converted, into this array's elements. Does not count a version.
    pub fn copy_from(&self, source: &Array) -> Result<()> {
        let Some(layout) = source.layout.broadcast_to(self.shape()) else {
            bail!(
                Shape,
                "copy_: a source of shape {:?} does not broadcast to the target's shape {:?}",
                source.shape(),
                self.shape()
            );
        };
        // Overlapping views of one storage are read completely before the first write.
        let source = if Arc::ptr_eq(&source.storage, &self.storage) {
            source.with_layout(layout).copied()?
        } else {
            source.with_layout(layout)
        };
        copy::copy(&source, self);
        Ok(())
    }

    /// The view with repeated extents that has `shape`.
    pub fn broadcast_to(&self, op: &str, shape: &[usize]) -> Result<Self> {
        match self.layout.broadcast_to(shape) {
            Some(layout) => Ok(self.with_layout(layout)),
            None => bail!(Shape, "{op}: shape {:?} does not broadcast to {shape:?}", self.shape()),
        }
    }

    /// The only element, as a double.
    pub fn item_f64(&self) -> Result<f64> {
        self.check_single()?;
        Ok(dispatch_all!(self.dtype, T => copy::read_first::<T>(self).to_f64()))
    }

    /// The only element, as an integer.
    pub fn item_i64(&self) -> Result<i64> {
        self.check_single()?;
        Ok(dispatch_all!(self.dtype, T => copy::read_first::<T>(self).to_i64()))
    }

    fn check_single(&self) -> Result<()> {
        ensure!(
            self.numel() == 1,
            Shape,
            "item: a tensor with {} elements (shape {:?}) cannot be converted to Scalar; only one with \
             a single element can",
            self.numel(),
            self.shape()
        );
        Ok(())
    }

    /// All elements in row-major order, converted to `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        Ok(self.to_dtype(T::DTYPE)?.contiguous()?.slice::<T>().to_vec())
    }

    /// Whether both view the same elements in the same order.
    pub fn is_same_view(&self, other: &Array) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage) && self.layout == other.layout
    }

    /// Whether nobody else holds the storage, so that a result may reuse it.
    pub(crate) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.storage) == 1 && self.storage.is_owned()
    }
}
