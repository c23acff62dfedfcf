//! Whether a request was sent whose client ended with an error.

use std::error::Error as StdError;
use std::io;

use fleetward_core::{BoxError, Error, ErrorKind};
use hyper_util::client::legacy;

use super::chain::causes;
use crate::request_body::{CallerError, Progress};

/// Whether the request was sent, and to whom an error of it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WasSent {
    /// A limit of ours turned it away: it never left, and the instance has nothing to do with it.
    TurnedAway,
    /// It never left: the instance could not be reached, or the connection was gone before.
    Unsent,
    /// The server closes the connection and did not look at it.
    GoneAway,
    /// The server had no room for it.
    Refused,
    /// The server may have acted on it.
    Unknown,
    /// Some server may have acted on it, and some other one, to which the first has redirected, may be what
    /// failed.
    AnyLeg,
    /// The caller's own body failed.
    Caller,
}

/// What is known of the client of an instance.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing: it may follow redirects, so an error may be that of another server, and come after this one
    /// has carried out the request.
    Any,
    /// It sends each request once, to this instance.
    OneLeg,
    /// A pool's: it always asks the body before it writes the head.
    Pooled,
}

impl Kind {
    /// Of a request whose client did not become ready for it.
    pub(super) fn early(error: &BoxError) -> WasSent {
        said(error).unwrap_or(WasSent::Unsent)
    }

    /// Of a request that was handed over.
    pub(super) fn was_sent(&self, error: &BoxError, progress: &Progress) -> WasSent {
        if let Some(sent) = said(error) {
            return sent;
        }
        if causes(&**error).any(<dyn StdError>::is::<CallerError>) {
            return WasSent::Caller;
        }
        match self {
            Self::Any => WasSent::AnyLeg,
            Self::OneLeg if causes(&**error).any(is_connect) => WasSent::Unsent,
            Self::OneLeg => not_processed(error),
            Self::Pooled if !progress.is_begun() => WasSent::Unsent,
            Self::Pooled => not_processed(error),
        }
    }
}

/// What an error of ours says itself: a limit has turned the call away, or nothing was sent. The error of a
/// whole call, which names its service, is another call's, on which this one depends: it says nothing about
/// this request.
fn said(error: &BoxError) -> Option<WasSent> {
    let own = error.downcast_ref::<Error>()?;
    let says = own.is_unsent() && own.context("service").is_none();
    says.then(|| match own.kind() {
        ErrorKind::Overloaded => WasSent::TurnedAway,
        _ => WasSent::Unsent,
    })
}

fn is_connect(cause: &(dyn StdError + 'static)) -> bool {
    let legacy = cause.downcast_ref::<legacy::Error>();
    let io = cause.downcast_ref::<io::Error>();
    legacy.is_some_and(legacy::Error::is_connect)
        || io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// What the server says of a request that it did not look at (RFC 9113, sections 6.8 and 8.7). h2 gives a
/// GOAWAY only to the streams above its last stream id: those below end with an I/O error if the
/// connection goes first.
fn not_processed(error: &BoxError) -> WasSent {
    let h2 = causes(&**error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    match h2.filter(|error| error.is_remote()) {
        Some(error) if error.is_go_away() => WasSent::GoneAway,
        Some(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => WasSent::Refused,
        _ => WasSent::Unknown,
    }
}
