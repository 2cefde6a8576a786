//! Lines of the user's program, and how a binding finds them.

use crate::{Error, Result};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::OnceLock;

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

/// How a binding finds the line that runs now. An error is an interrupt (Ctrl-C): the operation ends with it.
pub type Tracer = fn() -> Result<Option<Place>>;
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Sets how places are found; without it messages name operations only.
pub fn set_tracer(tracer: Tracer) {
    let _ = TRACER.set(tracer);
}

thread_local! {
    /// Whether the tracer is not asked: it runs the binding's code, which may do anything.
    static IS_FIXED: Cell<bool> = const { Cell::new(false) };
    /// What is noted then.
    static FIXED: RefCell<Option<Place>> = const { RefCell::new(None) };
    /// The interrupt that came while a place was looked for, until an operation ends with it.
    static INTERRUPT: RefCell<Option<Error>> = const { RefCell::new(None) };
}

pub(super) fn here() -> Option<Place> {
    if IS_FIXED.get() {
        return FIXED.with_borrow(Clone::clone);
    }
    let tracer = TRACER.get()?;
    tracer().unwrap_or_else(|error| {
        drop(INTERRUPT.replace(Some(error)));
        None
    })
}

/// The interrupt that came while a place was looked for.
#[cold]
pub fn check_interrupt() -> Result<()> {
    INTERRUPT.take().map_or(Ok(()), Err)
}

/// ` at File ...`, if the place is known.
pub(super) fn at(place: Option<&Place>) -> String {
    place.map(|place| format!(" at {place}")).unwrap_or_default()
}

/// While it lives, all that this thread runs is noted to run where it was made, and no tracer is asked: for
/// what runs under a lock.
pub(crate) struct FixedPlace {
    outer: bool,
}

impl FixedPlace {
    /// Looks for the place, before the lock.
    #[inline]
    pub fn here() -> Result<Self> {
        if super::is_on() {
            let place = here();
            check_interrupt()?;
            drop(FIXED.replace(place));
        }
        Ok(Self { outer: IS_FIXED.replace(true) })
    }
}

impl Drop for FixedPlace {
    #[inline]
    fn drop(&mut self) {
        IS_FIXED.set(self.outer);
        if super::is_on() {
            drop(FIXED.take());
        }
    }
}
