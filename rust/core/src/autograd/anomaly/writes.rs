//! Who wrote to what in place, and where: for the error that says that a saved tensor was changed.

use super::{at, here, is_on, Place};
use crate::array::{Array, WeakMemory};
use crate::autograd::inplace::Write;
use crate::autograd::node::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

/// Writes to one storage.
struct Writes {
    /// It keeps the address from being given to another.
    memory: WeakMemory,
    /// The version after the write, the operation, and where it ran.
    last: VecDeque<(u32, String, Option<Place>)>,
}

/// Writes remembered of each storage: an optimizer writes to parameters for ever.
const REMEMBERED: usize = 64;

/// By the storage's address.
static WRITES: Mutex<Option<HashMap<usize, Writes>>> = Mutex::new(None);

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

#[cold]
fn remember(array: &Array, op: &str) {
    let write = (array.storage().version(), Write(op).to_string(), here());
    let mut writes = lock(&WRITES);
    let all = writes.get_or_insert_default();
    if all.len() == all.capacity() {
        all.retain(|_, writes| writes.memory.is_alive());
    }
    let entry = all
        .entry(array.memory_id())
        .or_insert_with(|| Writes { memory: array.weak_memory(), last: VecDeque::new() });
    if entry.last.len() == REMEMBERED {
        entry.last.pop_front();
    }
    entry.last.push_back(write);
}

/// For a message: what first wrote to the memory of `array` after it had `version`, or how to learn it.
#[cold]
pub(crate) fn changed_by(array: &Array, version: u32) -> String {
    if !is_on() {
        return "; torch.autograd.set_detect_anomaly(True) names the lines that saved and changed it".into();
    }
    let writes = lock(&WRITES);
    let of_memory = writes.as_ref().and_then(|all| all.get(&array.memory_id()));
    let mut later = of_memory.iter().flat_map(|writes| &writes.last).filter(|(after, ..)| *after > version);
    match later.next() {
        Some((_, op, place)) => format!("\n  changed by {op}{}", at(place.as_ref())),
        None => "\n  changed before the mode was on, or through memory that others share".into(),
    }
}
