//! A slice that tasks of a parallel region write to, each its own elements.

use std::marker::PhantomData;

/// A result slice shared between the tasks of a region.
pub(super) struct SharedSlice<'a, T> {
    data: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

impl<T> Clone for SharedSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SharedSlice<'_, T> {}

// SAFETY: elements move between threads only through the unsafe methods, whose callers promise to
// use each element from one task at a time.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { data: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// Pointer to the element at `index`.
    pub fn at(self, index: usize) -> *mut T {
        debug_assert!(index <= self.len);
        self.data.wrapping_add(index)
    }

    /// The `len` elements from `start`.
    ///
    /// # Safety
    /// They must lie in the slice and be used by no other task of the region.
    pub unsafe fn part(self, start: usize, len: usize) -> &'a mut [T] {
        debug_assert!(start + len <= self.len);
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}
