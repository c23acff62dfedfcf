//! Why an attempt gets no more of the request's body.

use std::fmt;

/// Why an attempt gets no more of the request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptError<E> {
    /// The body itself has failed. Each attempt that reads it gets a copy.
    Body(E),
    /// The attempt is over, or the call goes on with another one.
    Cancelled(&'static str),
    /// The body has panicked.
    Panicked,
}

impl<E: fmt::Display> fmt::Display for AttemptError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Cancelled(why) => f.write_str(why),
            Self::Panicked => f.write_str("the request's body panicked"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for AttemptError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its text is this one's.
            Self::Body(error) => error.source(),
            _ => None,
        }
    }
}
