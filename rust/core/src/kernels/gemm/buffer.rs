//! Scratch memory for packed operands, kept per thread from call to call.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::cell::RefCell;
use std::ptr::NonNull;

/// Cache lines and the widest registers are 64 bytes.
const ALIGN: usize = 64;

/// Aligned, uninitialised bytes.
struct Buffer {
    ptr: NonNull<u8>,
    len_bytes: usize,
}

impl Buffer {
    fn layout(len_bytes: usize) -> Layout {
        Layout::from_size_align(len_bytes, ALIGN).expect("packed blocks are bounded in size")
    }

    fn new(len_bytes: usize) -> Self {
        let layout = Self::layout(len_bytes);
        // SAFETY: `with_scratch` asks for at least one byte.
        let ptr = unsafe { alloc(layout) };
        Self { ptr: NonNull::new(ptr).unwrap_or_else(|| handle_alloc_error(layout)), len_bytes }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len_bytes)) }
    }
}

thread_local! {
    /// A buffer for each call inside another one, the outermost call's at the end.
    static KEPT: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with uninitialised, 64-byte aligned room for `len` elements.
pub(in crate::kernels) fn with_scratch<T, R>(len: usize, body: impl FnOnce(*mut T) -> R) -> R {
    let len_bytes = (len * size_of::<T>()).max(1).next_multiple_of(4096);
    // Taken, not borrowed: a call inside `body` finds the next one, or allocates its own.
    let buffer = match KEPT.with_borrow_mut(Vec::pop) {
        Some(kept) if kept.len_bytes >= len_bytes => kept,
        _ => Buffer::new(len_bytes),
    };
    let result = body(buffer.ptr.as_ptr().cast());
    KEPT.with_borrow_mut(|kept| kept.push(buffer));
    result
}
