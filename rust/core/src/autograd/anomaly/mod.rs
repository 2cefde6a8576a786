//! Anomaly mode: where in the user's program operations ran, and where values went bad. While it is off,
//! every operation asks one byte.

mod pass;
mod values;
mod writes;

pub use pass::Origin;
pub(crate) use pass::{note_origin, FreedBy, Pass};
pub(crate) use values::{check_outputs, Known};
pub(crate) use writes::{changed_by, count_write};

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::OnceLock;

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
pub(crate) fn is_on() -> bool {
    MODE.load(Ordering::Relaxed) & ENABLED != 0
}

/// A line of the user's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Path of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: u32,
    /// The function that it stands in.
    pub function: String,
    /// The module of the network that was called there: `MLP.fc1`.
    pub module: Option<String>,
    /// The line itself, if it can be read.
    pub source: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File \"{}\", line {}, in {}", self.file, self.line, self.function)?;
        if let Some(module) = &self.module {
            write!(f, ", module {module}")?;
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

/// How a binding finds the line that runs now.
pub type Tracer = fn() -> Option<Place>;
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Sets how places are found; without it messages name operations only.
pub fn set_tracer(tracer: Tracer) {
    let _ = TRACER.set(tracer);
}

fn here() -> Option<Place> {
    TRACER.get().and_then(|tracer| tracer())
}

/// ` at File ...`, if the place is known.
fn at(place: Option<&Place>) -> String {
    place.map(|place| format!(" at {place}")).unwrap_or_default()
}
