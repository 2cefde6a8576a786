//! A counted reference whose weak ones cost nothing until there is one.
//!
//! Each operation makes a tensor, and hardly any is watched. `Arc` frees with two atomic exchanges, 4.7 ns each; here the
//! last owner of a value that was never watched sees that it is alone, and changes no count.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{null_mut, NonNull};
use std::sync::atomic::{
    fence, AtomicPtr, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};

/// A value with several owners, and some who only watch it.
pub(crate) struct Watched<T> {
    counted: NonNull<Counted<T>>,
    owns: PhantomData<Counted<T>>,
}

/// A value and how many own it.
struct Counted<T> {
    owners: AtomicUsize,
    /// What all watchers share, a counted reference of its own; null before the first.
    watch: AtomicPtr<Watch<T>>,
    value: T,
}

/// Where watchers find the value as long as it has owners. It is not freed while somebody looks.
struct Watch<T>(Mutex<Option<NonNull<Counted<T>>>>);

/// A reference that does not keep its value alive.
pub(crate) struct Weak<T>(Option<Arc<Watch<T>>>);

// SAFETY: as `Arc`'s: owners on several threads read the value, and any of them may drop it.
unsafe impl<T: Send + Sync> Send for Watched<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Watched<T> {}
// SAFETY: it hands out owners, as above; the pointer is read and cleared under the lock.
unsafe impl<T: Send + Sync> Send for Watch<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Watch<T> {}

impl<T> Watched<T> {
    #[inline(always)]
    pub fn new(value: T) -> Self {
        let place = Box::leak(Box::new_uninit());
        let owners = AtomicUsize::new(1);
        let counted = place.write(Counted { owners, watch: AtomicPtr::new(null_mut()), value });
        Self { counted: NonNull::from(counted), owns: PhantomData }
    }

    #[inline(always)]
    fn counted(&self) -> &Counted<T> {
        // SAFETY: the value lives as long as it has an owner, and this is one.
        unsafe { self.counted.as_ref() }
    }

    /// How many own the value now; what others did before they let go of it has been done.
    #[inline(always)]
    pub fn owners(&self) -> usize {
        self.counted().owners.load(Acquire)
    }

    /// Whether nobody else owns the value, or can come to own it.
    #[inline(always)]
    fn is_alone(&self) -> bool {
        // In this order: an owner who made a watcher and then let go of the value is seen to have made it.
        self.counted().owners.load(Acquire) == 1 && self.counted().watch.load(Relaxed).is_null()
    }

    /// The value, if nobody else owns or watches it.
    #[inline(always)]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if !self.is_alone() {
            return None;
        }
        // SAFETY: the only owner is borrowed mutably, and others come from owners and watchers alone.
        Some(unsafe { &mut self.counted.as_mut().value })
    }

    /// The value, if nobody else owns it.
    pub fn into_inner(self) -> Option<T> {
        let this = ManuallyDrop::new(self);
        if !this.leave() {
            return None;
        }
        // SAFETY: `new` took it from a box, and the last owner is gone.
        Some(unsafe { Box::from_raw(this.counted.as_ptr()) }.value)
    }

    /// Whether both own one value.
    pub fn is_same(&self, other: &Self) -> bool {
        self.counted == other.counted
    }

    /// A number that names the value as long as it lives.
    pub fn address(&self) -> usize {
        self.counted.addr().get()
    }

    /// A watcher.
    pub fn downgrade(&self) -> Weak<T> {
        let watch = &self.counted().watch;
        let mut known = watch.load(Acquire);
        if known.is_null() {
            let new = Arc::into_raw(Arc::new(Watch(Mutex::new(Some(self.counted))))).cast_mut();
            known = match watch.compare_exchange(null_mut(), new, AcqRel, Acquire) {
                Ok(_) => new,
                Err(other) => {
                    // SAFETY: nobody else has seen it.
                    drop(unsafe { Arc::from_raw(new) });
                    other
                }
            };
        }
        // SAFETY: the reference in `watch` lives as long as the value; this is one more.
        Weak(Some(unsafe {
            Arc::increment_strong_count(known);
            Arc::from_raw(known)
        }))
    }

    /// Ends one owner's part. Whether it was the last: then nobody can reach the value any more.
    #[inline(always)]
    fn leave(&self) -> bool {
        if self.is_alone() {
            return true;
        }
        if self.counted().owners.fetch_sub(1, Release) != 1 {
            return false;
        }
        fence(Acquire);
        self.close();
        true
    }

    /// Sends all watchers away: none raises a count of 0, and none is still looking when this returns.
    #[cold]
    fn close(&self) {
        let watch = self.counted().watch.swap(null_mut(), Acquire);
        if !watch.is_null() {
            // SAFETY: the reference that `downgrade` left.
            let watch = unsafe { Arc::from_raw(watch) };
            *watch.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl<T> Weak<T> {
    /// The value, if it still has an owner.
    pub fn upgrade(&self) -> Option<Watched<T>> {
        let watched = self.0.as_ref()?.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = (*watched)?;
        // SAFETY: it is not freed before `close` has had this lock.
        let owners = unsafe { &counted.as_ref().owners };
        let one_more = |count: usize| (count > 0).then_some(count + 1);
        owners.fetch_update(Acquire, Relaxed, one_more).ok()?;
        Some(Watched { counted, owns: PhantomData })
    }
}

impl<T> Default for Weak<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Clone for Weak<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Clone for Watched<T> {
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

impl<T> Drop for Watched<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.leave() {
            free(self.counted);
        }
    }
}

/// Frees a value that nobody owns any more. Not in line: most drops leave others, and a drop of many fields is long.
#[inline(never)]
fn free<T>(counted: NonNull<Counted<T>>) {
    // SAFETY: `new` took it from a box, and the last owner is gone.
    drop(unsafe { Box::from_raw(counted.as_ptr()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Noted(Arc<AtomicUsize>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn noted() -> (Watched<Noted>, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        (Watched::new(Noted(drops.clone())), drops)
    }

    #[test]
    fn the_last_owner_drops_the_value_once_watched_or_not() {
        for is_watched in [false, true] {
            let (first, drops) = noted();
            let weak = if is_watched { first.downgrade() } else { Weak::default() };
            let second = first.clone();
            assert!(first.owners() == 2 && first.is_same(&second) && first.address() == second.address());
            drop(first);
            assert_eq!(weak.upgrade().is_some(), is_watched);
            assert_eq!(drops.load(Relaxed), 0);
            drop(second);
            assert!(weak.upgrade().is_none() && weak.clone().upgrade().is_none());
            assert_eq!(drops.load(Relaxed), 1);
        }
    }

    #[test]
    fn a_value_is_changed_and_taken_by_its_only_owner() {
        let mut x = Watched::new(2);
        *x.get_mut().unwrap() *= 2;
        let weak = x.downgrade();
        assert!(x.get_mut().is_none());
        let y = weak.upgrade().unwrap();
        assert_eq!(y.into_inner(), None);
        assert_eq!(x.into_inner(), Some(4));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn owners_and_watchers_on_many_threads() {
        for _ in 0..300 {
            let (first, drops) = noted();
            std::thread::scope(|scope| {
                for i in 0..4 {
                    let mine = first.clone();
                    scope.spawn(move || {
                        let weak = mine.downgrade();
                        let more: Vec<_> = (0..i).map(|_| mine.clone()).collect();
                        drop(mine);
                        // The value lives as long as an upgrade finds it, whoever lets go of it meanwhile.
                        for _ in 0..50 {
                            if let Some(found) = weak.upgrade() {
                                assert_eq!(found.0.load(Relaxed), 0);
                            }
                        }
                        drop(more);
                    });
                }
                drop(first);
            });
            assert_eq!(drops.load(Relaxed), 1);
        }
    }
}
