//! How much of its stack a thread has left.

use std::cell::Cell;

thread_local! {
    /// The lowest address of this thread's stack, once it has been asked for; 0 where nobody can tell.
    static END: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Bytes that calls from here may still use, where the system tells.
pub fn left() -> Option<usize> {
    let end = END.get().unwrap_or_else(|| {
        let end = end().unwrap_or(0);
        END.set(Some(end));
        end
    });
    let here = std::ptr::from_ref(&end) as usize;
    (end != 0).then(|| here.saturating_sub(end))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn end() -> Option<usize> {
    let mut attributes = std::mem::MaybeUninit::uninit();
    let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the first call fills `attributes` or fails, and only what it has filled is read and destroyed.
    let is_known = unsafe {
        libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) == 0 && {
            let result = libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut size);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            result == 0
        }
    };
    is_known.then_some(lowest as usize)
}

#[cfg(target_os = "macos")]
fn end() -> Option<usize> {
    // SAFETY: both only read what the system keeps of the thread that calls.
    let (highest, size) = unsafe {
        let this = libc::pthread_self();
        (libc::pthread_get_stackaddr_np(this) as usize, libc::pthread_get_stacksize_np(this))
    };
    highest.checked_sub(size)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
fn end() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn a_thread_has_at_most_the_stack_that_it_was_given() {
        let size = 16 << 20; // larger than the stacks of ended threads, which the system may hand out again
        let thread = std::thread::Builder::new().stack_size(size);
        let left = thread.spawn(|| super::left().unwrap()).unwrap().join().unwrap();
        assert!((size / 2..=size + (64 << 10)).contains(&left), "{left} of {size}");
        assert!(super::left().unwrap() > 0);
    }
}
