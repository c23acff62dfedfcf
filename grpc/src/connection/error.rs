//! Why a connection could not answer, and whether the server has seen the request.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use fleetward_core::InstanceId;
use tonic::body::Body;
use tonic::{Code, Status};

use super::slots::Slots;

/// A call that a [`Connection`](crate::Connection) could not carry through.
///
/// Its [`source`](std::error::Error::source) is a [`tonic::Status`], so a generated client on top
/// sees the right code whatever middleware lies between.
pub struct ConnectionError {
    instance: InstanceId,
    fate: Fate,
    by_server: bool,
    status: Status,
    /// Behind a lock only because a body need not be `Sync` and an error must be.
    request: Mutex<Option<http::Request<Body>>>,
}

/// What became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never left this process.
    Unsent,
    /// The server closes the connection and did not look at it.
    GoneAway,
    /// The server had no room for it.
    Refused,
    /// The server may have acted on it.
    Unknown,
}

impl ConnectionError {
    /// The connection was down before the request was written to it.
    pub(super) fn unsent(
        instance: InstanceId,
        request: Option<http::Request<Body>>,
        error: Option<h2::Error>,
    ) -> Self {
        let mut status = Status::unavailable("the connection is down; the request was not sent");
        if let Some(error) = error {
            status.set_source(Arc::new(error));
        }
        let (fate, by_server) = (Fate::Unsent, false);
        Self { instance, fate, by_server, status, request: Mutex::new(request) }
    }

    /// The instance takes no more calls, and the request waited for room there.
    pub(super) fn withdrawn(instance: InstanceId, request: Option<http::Request<Body>>) -> Self {
        let text = "the instance takes no more calls; the request was not sent";
        let (fate, status) = (Fate::Unsent, Status::unavailable(text));
        Self { instance, fate, by_server: false, status, request: Mutex::new(request) }
    }

    /// It failed while the server had the request, or might have.
    pub(super) fn failed(instance: InstanceId, error: Lost) -> Self {
        let by_server = error.h2().is_some_and(h2::Error::is_remote);
        let (fate, status) = (fate(&error), status(error));
        Self { instance, fate, by_server, status, request: Mutex::new(None) }
    }

    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The status that a client sees.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether the server certainly did not act on a whole request, so that sending it again is safe:
    /// it never left, or the server said so (REFUSED_STREAM, or GOAWAY with a lower stream id).
    pub fn is_unprocessed(&self) -> bool {
        self.fate != Fate::Unknown
    }

    /// The request, if it never left; but where the connection broke in the very moment of sending. Given out
    /// once.
    pub fn take_request(&self) -> Option<http::Request<Body>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the server ended the stream or the connection, and not this side.
    pub(crate) fn is_by_server(&self) -> bool {
        self.by_server
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {}: {}", self.instance, self.status.message())
    }
}

impl fmt::Debug for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionError")
            .field("instance", &self.instance)
            .field("fate", &self.fate)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for ConnectionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

/// Why a stream or a connection ended.
#[derive(Debug)]
pub(super) enum Lost {
    Http2(h2::Error),
    /// h2 only says that the connection was dropped.
    TimedOut,
}

impl Lost {
    /// What a stream ended with, on this connection.
    pub(super) fn stream(error: h2::Error, slots: &Slots) -> Self {
        if slots.is_timed_out() && error.is_io() { Self::TimedOut } else { Self::Http2(error) }
    }

    /// Whether the connection itself broke.
    pub(super) fn is_io(&self) -> bool {
        self.h2().is_some_and(h2::Error::is_io)
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

/// A remote GOAWAY reaches only streams above its last stream id (those below end with an I/O error
/// if the connection goes first), so it proves that the server did not look at the request.
fn fate(error: &Lost) -> Fate {
    match error.h2() {
        Some(h2) if h2.is_remote() && h2.is_go_away() => Fate::GoneAway,
        Some(h2) if h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Fate::Refused
        }
        _ => Fate::Unknown,
    }
}

/// The status of a call that ended with an error of its transport, by the table of gRPC over
/// HTTP/2: what the server did to the stream has a code of its own, what befell the connection is
/// UNAVAILABLE.
pub(super) fn status(error: Lost) -> Status {
    use h2::Reason;
    let code = match error.h2() {
        Some(h2) if h2.is_reset() => match h2.reason() {
            Some(Reason::REFUSED_STREAM) => Code::Unavailable,
            Some(Reason::CANCEL) => Code::Cancelled,
            Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
            Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
            _ => Code::Internal,
        },
        // Neither the server nor the connection: the request is one that HTTP/2 cannot carry.
        Some(h2) if !h2.is_go_away() && !h2.is_io() => Code::Internal,
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, describe(&error));
    status.set_source(Arc::new(error));
    status
}

/// The error and its causes in one line.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
