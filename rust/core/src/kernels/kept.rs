//! Working memory that a thread keeps from call to call: what workers give back to the system costs page faults the
//! next time (a convolution of 8x8 planes on 2 threads took longer than on one).

use std::any::{Any, TypeId};
use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Vec<(TypeId, Box<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

/// This thread's value of the type as it was given back last, or a new one. Not lent to a closure, which would not be
/// compiled for the instruction set of the kernel around it.
pub(super) fn take<S: Default + 'static>() -> Box<S> {
    let kept = KEPT.with_borrow_mut(|kept| {
        let place = kept.iter().position(|(id, _)| *id == TypeId::of::<S>())?;
        Some(kept.swap_remove(place).1)
    });
    kept.and_then(|value| value.downcast::<S>().ok()).unwrap_or_default()
}

/// Gives back what `take` gave.
pub(super) fn give_back<S: 'static>(value: Box<S>) {
    KEPT.with_borrow_mut(|kept| {
        if !kept.iter().any(|(id, _)| *id == TypeId::of::<S>()) {
            kept.push((TypeId::of::<S>(), value));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_type() {
        give_back(Box::new(vec![1u8]));
        assert!(take::<Vec<u16>>().is_empty());
        let outer = take::<Vec<u8>>();
        assert_eq!(*outer, [1]);
        let inner = take::<Vec<u8>>();
        assert!(inner.is_empty());
        give_back(inner);
        give_back(outer);
        assert!(take::<Vec<u8>>().is_empty());
    }
}
