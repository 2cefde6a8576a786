//! Who wrote to what in place, and where: for the error that says that a saved tensor was changed.

use super::{at, here, is_on, Place};
use crate::autograd::inplace::Write;
use crate::autograd::node::lock;
use crate::storage::Storage;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

/// Writes to one storage.
struct Writes {
    /// It keeps the address from being given to another.
    storage: Weak<Storage>,
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
pub(crate) fn count_write(storage: &Arc<Storage>, op: &str) {
    storage.bump_version();
    if is_on() {
        remember(storage, op);
    }
}

#[cold]
fn remember(storage: &Arc<Storage>, op: &str) {
    let write = (storage.version(), Write(op).to_string(), here());
    let mut writes = lock(&WRITES);
    let all = writes.get_or_insert_default();
    if all.len() == all.capacity() {
        all.retain(|_, writes| writes.storage.strong_count() > 0);
    }
    let entry = all
        .entry(Arc::as_ptr(storage) as usize)
        .or_insert_with(|| Writes { storage: Arc::downgrade(storage), last: VecDeque::new() });
    if entry.last.len() == REMEMBERED {
        entry.last.pop_front();
    }
    entry.last.push_back(write);
}

/// For a message: what first wrote to `storage` after it had `version`, or how to learn it.
#[cold]
pub(crate) fn changed_by(storage: &Arc<Storage>, version: u32) -> String {
    if !is_on() {
        return "; torch.autograd.set_detect_anomaly(True) names the lines that saved and changed it".into();
    }
    let writes = lock(&WRITES);
    let of_storage = writes.as_ref().and_then(|all| all.get(&(Arc::as_ptr(storage) as usize)));
    let mut later = of_storage.iter().flat_map(|writes| &writes.last).filter(|(after, ..)| *after > version);
    match later.next() {
        Some((_, op, place)) => format!("\n  changed by {op}{}", at(place.as_ref())),
        None => "\n  changed before the mode was on, or through memory that others share".into(),
    }
}
