//! A counted reference for what every operation makes and frees: views of memory and nodes of graphs. (Tensors, which
//! can be watched, have one of their own.)
//!
//! `Arc` counts weak references as well, and its last owner changes both counts to free a value: two atomic exchanges,
//! 4.7 ns each where nothing is contended. Here the last owner sees that it is the last and changes none.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{
    fence, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// A value with several owners, without weak references.
pub struct Shared<T: ?Sized> {
    counted: NonNull<Counted<T>>,
    owns: PhantomData<Counted<T>>,
}

/// A value and how many own it.
#[repr(C)]
pub(crate) struct Counted<T: ?Sized> {
    owners: AtomicUsize,
    value: T,
}

// SAFETY: as `Arc`'s: owners on several threads read the value, and any of them may drop it.
unsafe impl<T: ?Sized + Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for Shared<T> {}

/// The memory of a shared value that is not made yet: the value is made where it stays. Made on the stack and copied,
/// the copies were 3 to 7 % of a tiny operation: they wait for the stores just before them.
pub(crate) struct Uninit<T>(Box<MaybeUninit<Counted<T>>>);

impl<T> Uninit<T> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self(Box::new_uninit())
    }

    #[inline(always)]
    pub(crate) fn fill(self, value: T) -> Shared<T> {
        let place = Box::leak(self.0);
        let counted = NonNull::from(place.write(Counted { owners: AtomicUsize::new(1), value }));
        Shared { counted, owns: PhantomData }
    }

    /// Where the value goes, to be written field by field. (What was written there before a panic stays allocated.)
    #[inline(always)]
    pub(crate) fn value(&mut self) -> *mut T {
        // SAFETY: a field of a box that is large enough and aligned for it.
        unsafe { &raw mut (*self.0.as_mut_ptr()).value }
    }

    /// The value that was written.
    ///
    /// # Safety
    /// All fields of `value` have been written.
    #[inline(always)]
    pub(crate) unsafe fn filled(self) -> Shared<T> {
        let place = Box::leak(self.0);
        // SAFETY: with the count, the value is complete.
        let counted = unsafe {
            (&raw mut (*place.as_mut_ptr()).owners).write(AtomicUsize::new(1));
            NonNull::from(place.assume_init_mut())
        };
        Shared { counted, owns: PhantomData }
    }
}

/// The same value as a [`Shared`] of another type, to which a pointer to it converts by itself: its type is forgotten.
macro_rules! coerced {
    ($shared:expr, $type:ty) => {{
        let thin = $crate::shared::Shared::into_raw($shared);
        let wide: *mut $crate::shared::Counted<$type> = thin;
        // SAFETY: a pointer to the same value, which the conversion keeps; its owner is handed on.
        unsafe { $crate::shared::Shared::<$type>::from_raw(wide) }
    }};
}
pub(crate) use coerced;

impl<T: ?Sized> Shared<T> {
    #[inline(always)]
    pub(crate) fn into_raw(self) -> *mut Counted<T> {
        std::mem::ManuallyDrop::new(self).counted.as_ptr()
    }

    /// # Safety
    /// The pointer is from `into_raw`, and this is done once.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(counted: *mut Counted<T>) -> Self {
        // SAFETY: it was not null there.
        Self { counted: unsafe { NonNull::new_unchecked(counted) }, owns: PhantomData }
    }

    #[inline(always)]
    fn counted(&self) -> &Counted<T> {
        // SAFETY: the value lives as long as it has an owner, and this is one.
        unsafe { self.counted.as_ref() }
    }

    /// How many own the value now.
    #[inline(always)]
    pub fn owners(&self) -> usize {
        self.counted().owners.load(Relaxed)
    }

    /// Whether nobody else owns the value; what others did before they let go of it has been done.
    #[inline(always)]
    pub fn is_sole(&self) -> bool {
        self.counted().owners.load(Acquire) == 1
    }

    /// The value, if nobody else owns it.
    #[inline(always)]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if !self.is_sole() {
            return None;
        }
        // SAFETY: the only owner is borrowed mutably, and others come from owners alone.
        Some(unsafe { &mut self.counted.as_mut().value })
    }

    /// Whether both own one value.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.counted.as_ptr(), other.counted.as_ptr())
    }

    /// A number that names the value as long as it lives.
    pub fn address(&self) -> usize {
        self.counted.as_ptr().cast::<u8>() as usize
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        // Relaxed: who has an owner can already see the value.
        let before = self.counted().owners.fetch_add(1, Relaxed);
        if before > usize::MAX / 2 {
            std::process::abort(); // forgotten clones; the count must not come round to 0
        }
        Self { counted: self.counted, owns: PhantomData }
    }
}

impl<T: ?Sized> Drop for Shared<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Alone, nobody else can become an owner: new ones come from owners.
        if !self.is_sole() {
            if self.counted().owners.fetch_sub(1, Release) != 1 {
                return;
            }
            fence(Acquire);
        }
        free(self.counted);
    }
}

/// Frees a value that nobody owns any more. Not in line: most drops leave others, and a drop of many fields is long.
#[inline(never)]
fn free<T: ?Sized>(counted: NonNull<Counted<T>>) {
    // SAFETY: `Uninit` took it from a box, and the last owner is gone.
    drop(unsafe { Box::from_raw(counted.as_ptr()) });
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Noted(Arc<AtomicUsize>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn noted() -> (Shared<Noted>, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        (Uninit::new().fill(Noted(drops.clone())), drops)
    }

    #[test]
    fn the_last_owner_drops_the_value_once() {
        let (first, drops) = noted();
        let second = first.clone();
        assert!(first.owners() == 2 && first.is_same(&second));
        drop(first);
        assert_eq!(drops.load(Relaxed), 0);
        drop(second);
        assert_eq!(drops.load(Relaxed), 1);
    }

    #[test]
    fn owners_on_many_threads() {
        for _ in 0..200 {
            let (first, drops) = noted();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let mine = first.clone();
                    scope.spawn(move || (0..50).map(|_| mine.clone()).for_each(drop));
                }
                drop(first);
            });
            assert_eq!(drops.load(Relaxed), 1);
        }
    }

    #[test]
    fn a_value_is_changed_by_its_only_owner() {
        let mut x = Uninit::new().fill(1);
        *x.get_mut().unwrap() = 2;
        let y = x.clone();
        assert!(x.get_mut().is_none());
        drop(y);
        assert_eq!(x.get_mut().copied(), Some(2));
    }

    #[test]
    fn a_value_without_its_type() {
        let x = coerced!(Uninit::new().fill([1, 2, 3]), dyn fmt::Debug);
        assert_eq!(format!("{x:?}"), "[1, 2, 3]");
    }
}
