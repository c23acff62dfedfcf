//! What a failure means, and who is to blame for it.

use std::error::Error as _;

use fleetward_core::{Error, ErrorKind};
use tonic::Code;

/// What to change before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nothing: the server answered.
    Nobody,
    /// The login: make a new one, with the same server.
    Login,
    /// The server or the way to it: take the next one.
    Server,
}

/// An error of a call.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) blame: Blame,
}

impl Failure {
    pub(super) fn timeout() -> Self {
        let error = Error::timeout("etcd did not answer in time; is it overloaded or unreachable?");
        Self { error, blame: Blame::Server }
    }

    /// The server ended a stream that it should not have ended.
    pub(super) fn ended() -> Self {
        let error = Error::new(ErrorKind::Unavailable, "etcd ended the stream");
        Self { error, blame: Blame::Server }
    }

    /// The credentials were refused.
    pub(super) fn login(why: Error) -> Self {
        let message =
            format!("etcd refused the login ({}); check user and password", why.message());
        let error = Error::new(ErrorKind::Unauthenticated, message).with_source(why);
        Self { error, blame: Blame::Login }
    }

    /// A refusal that came as text: in a status, or in the stream of a watch.
    pub(super) fn refused(code: Code, message: &str) -> Self {
        let (kind, blame) = classify(code, message);
        let hint = match kind {
            ErrorKind::PermissionDenied => {
                "; the user needs read (to register: readwrite) on the service's prefix"
            }
            ErrorKind::Unauthenticated => "; check user and password",
            _ => "",
        };
        Self { error: Error::new(kind, format!("{message}{hint}")), blame }
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = error else {
            let error = match error {
                // Debug of these shows nothing that the caller did not give.
                etcd_client::Error::InvalidArgs(_)
                | etcd_client::Error::InvalidUri(_)
                | etcd_client::Error::InvalidMetadataValue(_) => {
                    Error::invalid_input(error.to_string())
                }
                etcd_client::Error::TransportError(why) => {
                    Error::new(ErrorKind::Unavailable, chain(&why)).with_source(why)
                }
                other => Error::new(ErrorKind::Unavailable, other.to_string()),
            };
            let blame = match error.kind() {
                ErrorKind::InvalidInput => Blame::Nobody,
                _ => Blame::Server,
            };
            return Self { error, blame };
        };
        // A status with a source was made here, by the transport, whatever its code.
        if let Some(source) = status.source() {
            let message = match chain(source) {
                causes if causes.contains(status.message()) => causes,
                causes => format!("{}: {causes}", status.message()),
            };
            let message = match message.contains("invalid peer certificate") {
                true => format!("{message}; check ca and domain"),
                false => message,
            };
            let kind = match status.code() {
                Code::DeadlineExceeded => ErrorKind::Timeout,
                _ => ErrorKind::Unavailable,
            };
            return Self {
                error: Error::new(kind, message).with_source(status),
                blame: Blame::Server,
            };
        }
        let Self { error, blame } = Self::refused(status.code(), status.message());
        Self { error: error.with_source(status), blame }
    }
}

/// etcd's texts are stable (`rpctypes/error.go`); its codes alone do not tell enough.
fn classify(code: Code, message: &str) -> (ErrorKind, Blame) {
    let says = |part: &str| message.contains(part);
    let (here, login, server) = (Blame::Nobody, Blame::Login, Blame::Server);
    match code {
        _ if says("revision has been compacted") || says("future revision") => {
            (ErrorKind::CursorLost, here)
        }
        _ if says("message length too large") || says("request is too large") => {
            (ErrorKind::LimitExceeded, here)
        }
        // Also what a server says to no login, or to a token that it no longer knows.
        _ if says("invalid auth token") || says("user name is empty") || says("old revision") => {
            (ErrorKind::Unauthenticated, login)
        }
        Code::Unauthenticated => (ErrorKind::Unauthenticated, login),
        Code::PermissionDenied => (ErrorKind::PermissionDenied, here),
        Code::InvalidArgument if says("authentication failed") => {
            (ErrorKind::Unauthenticated, login)
        }
        Code::InvalidArgument | Code::OutOfRange => (ErrorKind::InvalidInput, here),
        Code::NotFound => (ErrorKind::NotFound, here),
        Code::Unimplemented => (ErrorKind::Unsupported, here),
        Code::ResourceExhausted => (ErrorKind::Unavailable, here),
        Code::DeadlineExceeded => (ErrorKind::Timeout, server),
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal | Code::Aborted => {
            (ErrorKind::Unavailable, server)
        }
        _ => (ErrorKind::Other, here),
    }
}

/// The causes in one line, without repeating what a cause says of its own cause.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn kind(code: Code, message: &str) -> (ErrorKind, Blame) {
        let failure = Failure::from(etcd_client::Error::GRpcStatus(Status::new(code, message)));
        assert!(failure.error.to_string().contains(message));
        (failure.error.kind(), failure.blame)
    }

    #[test]
    fn etcds_answers_are_told_apart() {
        use Blame::{Login, Nobody, Server};
        use ErrorKind::{
            CursorLost, InvalidInput, LimitExceeded, NotFound, PermissionDenied, Timeout,
            Unauthenticated, Unavailable,
        };
        for (code, message, expected) in [
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                (CursorLost, Nobody),
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                (CursorLost, Nobody),
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes",
                (LimitExceeded, Nobody),
            ),
            (Code::OutOfRange, "etcdserver: too large lease TTL", (InvalidInput, Nobody)),
            (Code::InvalidArgument, "etcdserver: request is too large", (LimitExceeded, Nobody)),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                (Unauthenticated, Login),
            ),
            (Code::InvalidArgument, "etcdserver: user name is empty", (Unauthenticated, Login)),
            (Code::Unauthenticated, "etcdserver: invalid auth token", (Unauthenticated, Login)),
            (Code::PermissionDenied, "etcdserver: permission denied", (PermissionDenied, Nobody)),
            (Code::NotFound, "etcdserver: requested lease not found", (NotFound, Nobody)),
            (Code::Unavailable, "etcdserver: no leader", (Unavailable, Server)),
            (Code::DeadlineExceeded, "context deadline exceeded", (Timeout, Server)),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                (Unavailable, Nobody),
            ),
        ] {
            assert_eq!(kind(code, message), expected, "{message}");
        }
    }
}
