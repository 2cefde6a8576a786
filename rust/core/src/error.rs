//! The one error type of the crate: a kind for programs, a message for people.
//!
//! Messages follow one pattern: `operation: facts with the actual values; what to do`.

use std::any::Any;
use std::fmt;

/// What went wrong, coarsely enough for a caller to react to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Shapes do not fit each other or the operation.
    Shape,
    /// The operation is not defined for these dtypes.
    DType,
    /// A dim or an index lies outside its range.
    Index,
    /// An argument has an impossible value.
    Value,
    /// An argument has the wrong type.
    Type,
    /// The graph cannot be recorded or walked as asked.
    Autograd,
    /// Memory ran out, or a limit was reached.
    Memory,
    /// A file could not be read or written.
    Io,
    /// A callback (a hook, a custom operation) failed; the payload holds its own error.
    External,
}

/// Result of every fallible public function.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A kind and a message; `External` errors also carry the callback's own error.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    payload: Option<Box<dyn Any + Send + Sync>>,
    note: Option<String>,
}

impl Error {
    /// An error of `kind` that says `message`.
    #[cold]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), payload: None, note: None }))
    }

    /// An error raised by a callback; `payload` is handed back by [`Error::into_payload`].
    #[cold]
    pub fn external(message: impl Into<String>, payload: impl Any + Send + Sync) -> Self {
        let payload: Box<dyn Any + Send + Sync> = Box::new(payload);
        Self(Box::new(Inner {
            kind: Kind::External,
            message: message.into(),
            payload: Some(payload),
            note: None,
        }))
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The same error with more text: in the message, or for a callback's own error beside it.
    #[must_use]
    pub fn with_note(mut self, text: &str) -> Self {
        let place = match self.0.payload {
            Some(_) => self.0.note.get_or_insert_default(),
            None => &mut self.0.message,
        };
        place.push_str(text);
        self
    }

    /// What is to be said of a callback's own error.
    pub fn note(&self) -> Option<&str> {
        self.0.note.as_deref()
    }

    /// The callback's own error, if this is an external one.
    pub fn into_payload(self) -> Option<Box<dyn Any + Send + Sync>> {
        self.0.payload
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Io, error.to_string())
    }
}

/// `bail!(Shape, "matmul: {a:?} @ {b:?}")` returns an error of that kind.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::Error::new($crate::Kind::$kind, format!($($message)+)))
    };
}

/// `ensure!(condition, Shape, "...")` is `bail!` unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $kind:ident, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($kind, $($message)+);
        }
    };
}
