//! Why a connection could not answer, as a gRPC client sees it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use fleetward_core::{Error, ErrorKind, InstanceId};
use fleetward_http2::{CallError, Lost, Unsent, WasProcessed};
use tonic::body::Body;
use tonic::{Code, Status};

/// A call that a [`Connection`](crate::Connection) could not carry through.
///
/// Its [`source`](std::error::Error::source) is a [`tonic::Status`], so a generated client on top
/// sees the right code whatever middleware lies between.
pub struct ConnectionError {
    instance: InstanceId,
    sent: WasSent,
    by_server: bool,
    status: Status,
    /// Behind a lock only because a body need not be `Sync` and an error must be.
    request: Mutex<Option<http::Request<Body>>>,
}

/// Whether the request was sent, and whether the server looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WasSent {
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
    pub(super) fn new(instance: InstanceId, error: CallError<Body>) -> Self {
        match error {
            CallError::Failed(lost) => {
                let by_server = lost.is_remote();
                let sent = match lost.was_processed() {
                    WasProcessed::GoneAway => WasSent::GoneAway,
                    WasProcessed::Refused => WasSent::Refused,
                    WasProcessed::Unknown => WasSent::Unknown,
                };
                Self { instance, sent, by_server, status: status(lost), request: Mutex::new(None) }
            }
            CallError::Unsent { request, why } => {
                let mut status = Status::unavailable(match why {
                    Unsent::Withdrawn => {
                        "the instance takes no more calls; the request was not sent"
                    }
                    _ => "the connection is down; the request was not sent",
                });
                if let Unsent::Down(Some(lost)) = why {
                    status.set_source(Arc::new(lost));
                }
                let (sent, by_server) = (WasSent::Unsent, false);
                let request = Mutex::new(request.map(|request| *request));
                Self { instance, sent, by_server, status, request }
            }
        }
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
        self.sent != WasSent::Unknown
    }

    /// The request, if it never left; but not if the connection broke in the very moment of sending. Given out once.
    pub fn take_request(&self) -> Option<http::Request<Body>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the server ended the stream or the connection, and not this side.
    pub(crate) fn is_by_server(&self) -> bool {
        self.by_server
    }

    pub(crate) fn was_sent(&self) -> WasSent {
        self.sent
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
            .field("sent", &self.sent)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for ConnectionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

/// The status of a call that ended with an error of its transport, by the table of gRPC over
/// HTTP/2: what the server did to the stream has a code of its own, what befell the connection is
/// UNAVAILABLE.
pub(super) fn status(lost: Lost) -> Status {
    use h2::Reason;
    let code = match (&lost, lost.reset()) {
        (_, Some(Reason::REFUSED_STREAM)) => Code::Unavailable,
        (_, Some(Reason::CANCEL)) => Code::Cancelled,
        (_, Some(Reason::ENHANCE_YOUR_CALM)) => Code::ResourceExhausted,
        (_, Some(Reason::INADEQUATE_SECURITY)) => Code::PermissionDenied,
        (_, Some(_)) => Code::Internal,
        // Neither the server nor the connection: the request is one that HTTP/2 cannot carry.
        (Lost::Http2(_), None) if !lost.is_go_away() && !lost.is_io() => Code::Internal,
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, describe(&lost));
    status.set_source(Arc::new(lost));
    status
}

/// The error and its causes in one line.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
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

/// One line that has the cause in it, which a status shows and a chain of sources does not.
pub(crate) fn unavailable(
    what: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what}: {}", describe(&error))).with_source(error)
}
