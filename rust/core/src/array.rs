//! Data without history: a dtype and a layout over shared storage.

use crate::dtype::Element;
use crate::kernels::copy;
use crate::layout::{checked_numel, Layout};
use crate::shared::{Shared, Uninit};
use crate::storage::{Keeper, Storage};
use crate::{bail, dispatch_all, ensure, DType, Result};
use std::borrow::Cow;

/// A typed, strided view of a storage. Cloning shares it all, for the price of one counter: graphs
/// keep clones of what they save.
#[derive(Debug, Clone)]
pub struct Array(Shared<View>);

#[derive(Debug)]
struct View {
    memory: Memory,
    layout: Layout,
    dtype: DType,
    is_number: bool,
}

/// A new array has its storage within itself, one allocation less than a storage that stands alone.
#[derive(Debug)]
enum Memory {
    Own(Storage),
    /// That of another array, which has its own.
    Of(Array),
}

impl Array {
    fn make(storage: Storage, layout: Layout, dtype: DType) -> Self {
        Self(Uninit::new().fill(View { memory: Memory::Own(storage), layout, dtype, is_number: false }))
    }

    /// A new array of `len_bytes` bytes without values, to be finished. It is the first part of nearly every operation,
    /// and made where it stays, piece by piece: no piece exists while something can still go wrong, which would keep it
    /// on the stack, to be copied right after it was written there.
    #[inline(always)]
    fn begin(len_bytes: usize) -> Result<Uninit<View>> {
        let mut place = Uninit::<View>::new();
        let memory = Memory::Own(Storage::uninit(len_bytes)?);
        // SAFETY: a field of the place.
        unsafe { (&raw mut (*place.value()).memory).write(memory) };
        Ok(place)
    }

    /// What was begun, with all that is missing.
    #[inline(always)]
    fn finish(mut place: Uninit<View>, layout: Layout, dtype: DType, is_number: bool) -> Self {
        let view = place.value();
        // SAFETY: these are all fields but the memory, which `begin` has written.
        Self(unsafe {
            (&raw mut (*view).layout).write(layout);
            (&raw mut (*view).dtype).write(dtype);
            (&raw mut (*view).is_number).write(is_number);
            place.filled()
        })
    }

    #[inline]
    fn view(&self, layout: Layout, dtype: DType) -> Self {
        let memory = Memory::Of(self.root().clone());
        Self(Uninit::new().fill(View { memory, layout, dtype, is_number: false }))
    }

    /// The array that has the storage.
    #[inline]
    fn root(&self) -> &Self {
        match &self.0.memory {
            Memory::Own(_) => self,
            Memory::Of(root) => root,
        }
    }

    /// A new contiguous array whose elements have no value yet.
    #[inline]
    pub fn empty(shape: &[usize], dtype: DType) -> Result<Self> {
        let numel = checked_numel("empty", shape, dtype.size())?;
        Ok(Self::finish(Self::begin(numel * dtype.size())?, Layout::contiguous(shape), dtype, false))
    }

    /// A new array without values, in the order of dims that suits a result computed from `layout`.
    #[inline]
    pub fn empty_like(layout: &Layout, dtype: DType) -> Result<Self> {
        let numel = checked_numel("empty_like", layout.shape(), dtype.size())?;
        let new = Self::begin(numel * dtype.size())?;
        Ok(if layout.is_contiguous() {
            Self::finish(new, layout.at_start(), dtype, false)
        } else {
            Self::finish(new, layout.like_permuted(), dtype, false)
        })
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

    /// A new 0-d array that stands for a number without a dtype of its own: its dtype gives way to that
    /// of any array beside it, and may be wider to hold all digits of the number.
    #[inline]
    pub(crate) fn number<T: Element>(value: T) -> Result<Self> {
        let new = Self::begin(std::mem::size_of::<T>())?;
        let mut out = Self::finish(new, Layout::contiguous(&[]), T::DTYPE, true);
        out.slice_mut::<T>()[0] = value;
        Ok(out)
    }

    /// Whether it stands for a number without a dtype of its own.
    #[inline]
    pub(crate) fn is_number(&self) -> bool {
        self.0.is_number
    }

    /// A new array of `shape` with the elements of `values` in row-major order.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Self> {
        let mut out = Self::empty(shape, T::DTYPE)?;
        ensure!(
            out.numel() == values.len(),
            Shape,
            "from_slice: {} values do not fill shape {shape:?}; give one per element",
            values.len()
        );
        out.slice_mut::<T>().copy_from_slice(values);
        Ok(out)
    }

    /// All of a storage's bytes that `layout` reaches, as `dtype`.
    pub fn from_storage(storage: Storage, layout: Layout, dtype: DType) -> Result<Self> {
        check_inside(&storage, &layout, dtype)?;
        Ok(Self::make(storage, layout, dtype))
    }

    /// The same bytes seen through any layout and dtype.
    pub fn seen_as(&self, layout: Layout, dtype: DType) -> Result<Self> {
        check_inside(self.storage(), &layout, dtype)?;
        Ok(self.view(layout, dtype))
    }

    /// The same data seen through another layout, made from this array's by a view operation.
    #[inline]
    pub(crate) fn with_layout(&self, layout: Layout) -> Self {
        debug_assert!(layout.end().unwrap() * self.0.dtype.size() <= self.storage().len_bytes());
        self.view(layout, self.0.dtype)
    }

    /// As `with_layout`, in place where nobody else holds this array.
    #[inline]
    pub(crate) fn into_layout(mut self, layout: Layout) -> Self {
        match self.0.get_mut() {
            Some(view) => {
                (view.layout, view.is_number) = (layout, false);
                self
            }
            None => self.with_layout(layout),
        }
    }

    /// As `with_layout` for a layout with negative strides, made of this array's own.
    #[inline]
    pub(crate) fn with_reversed(&self, layout: Layout) -> Self {
        self.view(layout, self.0.dtype)
    }

    /// Extents.
    #[inline]
    pub fn shape(&self) -> &[usize] {
        self.0.layout.shape()
    }

    /// Steps in elements.
    #[inline]
    pub fn strides(&self) -> &[isize] {
        self.0.layout.strides()
    }

    /// Shape, strides and offset.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Type of the elements.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Number of dims.
    #[inline]
    pub fn rank(&self) -> usize {
        self.0.layout.rank()
    }

    /// Number of elements.
    #[inline]
    pub fn numel(&self) -> usize {
        self.0.layout.numel()
    }

    /// The bytes that it views.
    #[inline]
    pub fn storage(&self) -> &Storage {
        match &self.0.memory {
            Memory::Own(storage) => storage,
            Memory::Of(root) => root.storage(),
        }
    }

    /// Whether the elements lie in row-major order without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }

    /// Pointer to the first element.
    #[inline]
    pub fn as_ptr<T: Element>(&self) -> *mut T {
        self.as_ptr_in::<T>(&self.0.layout)
    }

    /// Pointer to the first element of what another layout shows of the storage.
    #[inline]
    pub(crate) fn as_ptr_in<T: Element>(&self, layout: &Layout) -> *mut T {
        assert_eq!(self.0.dtype, T::DTYPE, "array of another dtype");
        self.storage().as_ptr().cast::<T>().wrapping_add(layout.offset())
    }

    /// Pointer to the first element as an unsigned integer of its size.
    #[inline]
    pub(crate) fn as_words<W>(&self) -> *mut W {
        assert_eq!(self.0.dtype.size(), std::mem::size_of::<W>(), "elements of another size");
        self.storage().as_ptr().cast::<W>().wrapping_add(self.0.layout.offset())
    }

    /// The elements of a contiguous array.
    #[inline]
    pub fn slice<T: Element>(&self) -> &[T] {
        assert!(self.is_contiguous(), "slice of an array that is not contiguous");
        if self.numel() == 0 {
            return &[]; // its memory need not be aligned
        }
        // SAFETY: constructors keep layouts inside the storage; contiguity and dtype are asserted.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.numel()) }
    }

    /// The bytes of a contiguous array.
    pub fn bytes(&self) -> &[u8] {
        assert!(self.is_contiguous(), "bytes of an array that is not contiguous");
        let start = self.storage().as_ptr().wrapping_add(self.0.layout.offset() * self.0.dtype.size());
        // SAFETY: constructors keep layouts inside the storage; any element is valid as bytes.
        unsafe { std::slice::from_raw_parts(start, self.numel() * self.0.dtype.size()) }
    }

    /// The elements of a contiguous array that nobody else shares, for writing.
    #[inline]
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        assert!(self.is_contiguous() && self.is_unique(), "array is shared");
        if self.numel() == 0 {
            return &mut [];
        }
        // SAFETY: as `slice`; the memory is ours and has no other owner, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.numel()) }
    }

    /// Itself if contiguous, else a contiguous copy.
    #[inline]
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let out = Self::empty(self.shape(), self.0.dtype)?;
        copy::copy(self, &out);
        Ok(out)
    }

    /// A copy with storage of its own, in the same order of dims.
    pub fn copied(&self) -> Result<Self> {
        let out = Self::empty_like(&self.0.layout, self.0.dtype)?;
        copy::copy(self, &out);
        Ok(out)
    }

    /// As `contiguous`, of an array that is not needed any more.
    #[inline]
    pub(crate) fn into_contiguous(self) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self);
        }
        self.contiguous()
    }

    /// Itself if of that dtype, else a converted copy.
    #[inline]
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        self.clone().into_dtype(dtype)
    }

    /// As `to_dtype`, of an array that is not needed any more.
    #[inline]
    pub(crate) fn into_dtype(self, dtype: DType) -> Result<Self> {
        if self.0.dtype == dtype {
            return Ok(self);
        }
        self.converted(dtype)
    }

    /// As `to_dtype`, without a handle of its own where it is of that dtype: two counts less, which operations on
    /// one element feel.
    #[inline]
    pub(crate) fn as_dtype(&self, dtype: DType) -> Result<Cow<'_, Self>> {
        if self.0.dtype == dtype {
            return Ok(Cow::Borrowed(self));
        }
        self.converted(dtype).map(Cow::Owned)
    }

    fn converted(&self, dtype: DType) -> Result<Self> {
        let out = Self::empty_like(&self.0.layout, dtype)?;
        copy::copy(self, &out);
        Ok(out)
    }

    /// Writes `source`, broadcast and converted, into this array's elements. Does not count a version.
    pub fn copy_from(&self, source: &Array) -> Result<()> {
        let Some(layout) = source.0.layout.broadcast_to(self.shape()) else {
            bail!(
                Shape,
                "copy_: a source of shape {:?} does not broadcast to the target's shape {:?}; only extents of 1 \
                 are repeated",
                source.shape(),
                self.shape()
            );
        };
        // Overlapping views of one storage are read completely before the first write.
        let source = if source.shares_memory_with(self) {
            source.with_layout(layout).copied()?
        } else {
            source.with_layout(layout)
        };
        copy::copy(&source, self);
        Ok(())
    }

    /// The view with repeated extents that has `shape`.
    pub fn broadcast_to(&self, op: &str, shape: &[usize]) -> Result<Self> {
        match self.0.layout.broadcast_to(shape) {
            Some(layout) => Ok(self.with_layout(layout)),
            None => bail!(
                Shape,
                "{op}: shape {:?} does not broadcast to {shape:?}; only extents of 1 are repeated",
                self.shape()
            ),
        }
    }

    /// The only element, as a double.
    pub fn item_f64(&self) -> Result<f64> {
        self.check_single()?;
        Ok(dispatch_all!(self.0.dtype, T => copy::read_first::<T>(self).to_f64()))
    }

    /// The only element, as an integer.
    pub fn item_i64(&self) -> Result<i64> {
        self.check_single()?;
        Ok(dispatch_all!(self.0.dtype, T => copy::read_first::<T>(self).to_i64()))
    }

    fn check_single(&self) -> Result<()> {
        ensure!(
            self.numel() == 1,
            Shape,
            "item: a tensor with {} elements (shape {:?}) cannot be converted to Scalar; use .tolist(), \
             or reduce it with .sum() or .mean()",
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
        std::ptr::eq(self.storage(), other.storage()) && self.0.layout == other.0.layout
    }

    /// Whether a write to one may change the other: their storages have bytes in common.
    pub(crate) fn shares_memory_with(&self, other: &Array) -> bool {
        let (a, b) = (self.storage(), other.storage());
        if std::ptr::eq(a, b) {
            return true;
        }
        let (a, a_end) = (a.as_ptr(), a.as_ptr().wrapping_add(a.len_bytes()));
        let (b, b_end) = (b.as_ptr(), b.as_ptr().wrapping_add(b.len_bytes()));
        a < b_end && b < a_end
    }

    /// Whether both are the same elements of the same memory, whatever counts their versions.
    pub fn is_same_memory(&self, other: &Array) -> bool {
        self.storage().as_ptr() == other.storage().as_ptr()
            && self.storage().len_bytes() == other.storage().len_bytes()
            && self.0.layout == other.0.layout
            && self.0.dtype == other.0.dtype
    }

    /// The same memory with a version counter of its own, as `.data` has it.
    pub fn with_own_versions(&self) -> Self {
        Self::make(Storage::sharing(self), self.0.layout.clone(), self.0.dtype)
    }

    /// Whether nobody else holds the storage, so that a result may reuse it.
    pub(crate) fn is_unique(&self) -> bool {
        let is_sole = |array: &Array| array.0.is_sole();
        is_sole(self) && is_sole(self.root()) && self.storage().is_owned()
    }
}

impl Keeper for Array {
    fn storage(&self) -> &Storage {
        self.storage()
    }

    fn again(&self) -> Box<dyn Keeper> {
        Box::new(self.root().clone())
    }
}

/// An error if the layout leaves the storage, or elements would not be aligned.
fn check_inside(storage: &Storage, layout: &Layout, dtype: DType) -> Result<()> {
    let shape = layout.shape();
    let numel = shape.iter().filter(|&&n| n > 0).try_fold(1usize, |numel, &n| numel.checked_mul(n));
    let end = numel.and_then(|_| layout.end()).and_then(|end| end.checked_mul(dtype.size()));
    ensure!(
        end.is_some_and(|end| end <= storage.len_bytes()),
        Shape,
        "as_strided: shape {shape:?} with strides {:?} and offset {} of {dtype} leaves the storage, which has {} \
         bytes; use a larger one, or another view of it",
        layout.strides(),
        layout.offset(),
        storage.len_bytes()
    );
    ensure!(
        shape.contains(&0) || storage.as_ptr().addr().is_multiple_of(dtype.size()),
        Value,
        "as_strided: {dtype} needs memory at a multiple of {} bytes, and this is at {:?}; copy it to such a place",
        dtype.size(),
        storage.as_ptr()
    );
    Ok(())
}
