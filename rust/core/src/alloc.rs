//! Memory for tensors: aligned and uninitialised.

use crate::{bail, Result};
use std::alloc::Layout;

/// An owned block of uninitialised memory.
#[derive(Debug)]
pub struct Block {
    ptr: *mut u8,
    capacity: usize,
}

// SAFETY: a block owns its memory.
unsafe impl Send for Block {}
// SAFETY: a shared block gives out only a pointer.
unsafe impl Sync for Block {}

impl Block {
    /// At least `len_bytes` bytes.
    pub fn new(len_bytes: usize) -> Result<Self> {
        let capacity = len_bytes.max(64);
        let Ok(layout) = Layout::from_size_align(capacity, 64) else {
            bail!(Memory, "allocate: {len_bytes} bytes are more than this machine can address");
        };
        // SAFETY: the layout's size is not zero.
        let ptr = unsafe { std::alloc::alloc(layout) };
        crate::ensure!(!ptr.is_null(), Memory, "allocate: {len_bytes} bytes could not be had");
        Ok(Self { ptr, capacity })
    }

    /// Start of the memory.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { std::alloc::dealloc(self.ptr, Layout::from_size_align_unchecked(self.capacity, 64)) }
    }
}
