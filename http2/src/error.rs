//! Why a stream or a connection ended, and whether the server has looked at the request.

use std::fmt;

use h2::Reason;

use crate::slots::Slots;

/// Why a stream or a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lost {
    /// As h2 says.
    Http2(h2::Error),
    /// The server does not answer pings. h2 only says that the connection was dropped.
    TimedOut,
}

/// Whether the server has looked at a request whose stream ended with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasProcessed {
    /// No: the server closes the connection, and its GOAWAY has a lower stream id.
    GoneAway,
    /// No: the server had no room for it (REFUSED_STREAM).
    Refused,
    /// It may have acted on it.
    Unknown,
}

impl Lost {
    /// What a stream ended with, on this connection.
    pub(crate) fn stream(error: h2::Error, slots: &Slots) -> Self {
        if slots.is_timed_out() && error.is_io() { Self::TimedOut } else { Self::Http2(error) }
    }

    /// Whether the connection itself broke.
    pub fn is_io(&self) -> bool {
        self.h2().is_some_and(h2::Error::is_io)
    }

    /// Whether the server ended it, and not this side.
    pub fn is_remote(&self) -> bool {
        self.h2().is_some_and(h2::Error::is_remote)
    }

    /// Whether it is a GOAWAY, of either side.
    pub fn is_go_away(&self) -> bool {
        self.h2().is_some_and(h2::Error::is_go_away)
    }

    /// Why the stream was reset, by either side, if it was.
    pub fn reset(&self) -> Option<Reason> {
        self.h2().filter(|error| error.is_reset()).and_then(h2::Error::reason)
    }

    /// Whether the server has looked at the request (RFC 9113, 6.8 and 8.7).
    ///
    /// A GOAWAY of the server reaches only streams above its last stream id: those below end with an I/O error if the
    /// connection goes first. So it proves that the server did not look at the request.
    pub fn was_processed(&self) -> WasProcessed {
        match self.h2().filter(|error| error.is_remote()) {
            Some(error) if error.is_go_away() => WasProcessed::GoneAway,
            Some(error) if error.reason() == Some(Reason::REFUSED_STREAM) => WasProcessed::Refused,
            _ => WasProcessed::Unknown,
        }
    }

    fn h2(&self) -> Option<&h2::Error> {
        match self {
            Self::Http2(error) => Some(error),
            Self::TimedOut => None,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http2(error) => write!(f, "HTTP/2: {error}"),
            Self::TimedOut => f.write_str("the server does not answer pings"),
        }
    }
}

impl std::error::Error for Lost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.h2().map(|error| error as _)
    }
}
