//! Anomaly mode: where in the user's program operations ran, and where values went bad. While it is off,
//! every operation asks one byte.

mod pass;
mod place;
mod values;
mod writes;

pub use pass::{freed_at, saved_at, Origin};
pub(crate) use pass::{note_origin, FreedBy, Pass};
pub(crate) use place::FixedPlace;
pub use place::{check_interrupt, set_tracer, Place, Tracer};
pub(crate) use values::as_one;
pub use values::Known;
pub(crate) use writes::{changed_by, count_write};

use place::{at, here};
use std::sync::atomic::{AtomicU8, Ordering};

/// What is looked for, in all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Note where operations run, for messages. Without it nothing is looked for.
    pub enabled: bool,
    /// NaN in what gradient rules give.
    pub check_nan: bool,
    /// NaN and infinities in what operations give.
    pub check_forward: bool,
}

const ENABLED: u8 = 1;
const CHECK_NAN: u8 = 2;
const CHECK_FORWARD: u8 = 4;
static MODE: AtomicU8 = AtomicU8::new(CHECK_NAN);

impl Anomalies {
    /// What is looked for at present.
    #[inline]
    pub fn current() -> Self {
        let mode = MODE.load(Ordering::Relaxed);
        Self {
            enabled: mode & ENABLED != 0,
            check_nan: mode & CHECK_NAN != 0,
            check_forward: mode & CHECK_FORWARD != 0,
        }
    }

    /// Looks for these from now on.
    pub fn set(self) {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let mode = bit(self.enabled, ENABLED)
            | bit(self.check_nan, CHECK_NAN)
            | bit(self.check_forward, CHECK_FORWARD);
        MODE.store(mode, Ordering::Relaxed);
        if !self.enabled {
            writes::forget();
        }
    }
}

/// Whether operations are noted: all that they ask while the mode is off.
#[inline]
pub fn is_on() -> bool {
    MODE.load(Ordering::Relaxed) & ENABLED != 0
}
