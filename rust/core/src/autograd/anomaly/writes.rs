//! Who wrote to what in place, and where: for the error that says that a saved tensor was changed.

use super::{at, here, is_on, Place};
use crate::array::Array;
use crate::autograd::inplace::Write;
use crate::autograd::node::lock;
use crate::storage::on_free;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

/// Writes to one storage: the version after the write, the operation, and where it ran.
type Writes = VecDeque<(u32, String, Option<Place>)>;

/// Writes remembered of each storage: an optimizer writes to parameters for ever.
const REMEMBERED: usize = 64;

/// By the storage's number, as long as the storage lives.
static WRITES: Mutex<Option<HashMap<u64, Writes>>> = Mutex::new(None);

/// Forgets all of them.
pub(super) fn forget() {
    let old = lock(&WRITES).take();
    drop(old); // without the lock
}

/// Counts an in-place write by `op`, and remembers it while the mode is on.
#[inline]
pub(crate) fn count_write(array: &Array, op: &str) {
    array.storage().bump_version();
    if is_on() {
        remember(array, op);
    }
}

/// Forgets those to a storage that is gone.
fn forget_storage(serial: u64) {
    let old = lock(&WRITES).as_mut().and_then(|all| all.remove(&serial));
    drop(old); // without the lock
}

#[cold]
fn remember(array: &Array, op: &str) {
    on_free(forget_storage);
    let write = (array.storage().version(), Write(op).to_string(), here());
    let mut writes = lock(&WRITES);
    let all = writes.get_or_insert_default();
    let last = all.entry(array.storage().serial()).or_default();
    if last.len() == REMEMBERED {
        last.pop_front();
    }
    last.push_back(write);
}

/// For a message: what first wrote to the memory of `array` after it had `version`, or how to learn it.
#[cold]
pub(crate) fn changed_by(array: &Array, version: u32) -> String {
    if !is_on() {
        return "; torch.autograd.set_detect_anomaly(True) names the lines that saved and changed it".into();
    }
    let writes = lock(&WRITES);
    let of_storage = writes.as_ref().and_then(|all| all.get(&array.storage().serial()));
    let mut later = of_storage.into_iter().flatten().filter(|(after, ..)| *after > version);
    match later.next() {
        Some((_, op, place)) => format!("\n  changed by {op}{}", at(place.as_ref())),
        None => "\n  changed before the mode was on, or through memory that others share".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_remembered_as_long_as_their_storage_lives() {
        let count = |serial| lock(&WRITES).as_ref().and_then(|all| all.get(&serial).map(VecDeque::len));
        let x = Array::from_slice(&[1.0f32], &[1]).unwrap();
        let serial = x.storage().serial();
        (0..REMEMBERED + 3).for_each(|_| remember(&x, "add_"));
        assert_eq!(count(serial), Some(REMEMBERED));
        let view = x.with_layout(x.layout().clone());
        drop(x);
        assert_eq!(count(serial), Some(REMEMBERED));
        drop(view);
        assert_eq!(count(serial), None);
    }
}
