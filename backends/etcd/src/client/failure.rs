//! What a failure means, and who is to blame for it.

use std::error::Error as _;

use fleetward_core::{BoxError, Error, ErrorKind};
use tonic::Code;

/// What to change before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nothing: the server answered, and the others would say the same.
    Nobody,
    /// The login: make a new one, with the same server.
    Login,
    /// The server or the way to it: take the next one.
    Server,
    /// The cluster has no leader just now: take the next server, or wait.
    Cluster,
}

/// An error of a request.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) blame: Blame,
    /// It is the connection that failed, and not the server that refused.
    pub(super) is_transport: bool,
}

impl Failure {
    /// It never came to a request.
    pub(super) fn ours(error: Error) -> Self {
        Self { error, blame: Blame::Nobody, is_transport: false }
    }

    /// A file that was there when the registry was opened cannot be used now: it may be just about
    /// to be replaced.
    pub(super) fn file(error: Error) -> Self {
        let message = error.message().to_owned();
        let mut now = Error::new(ErrorKind::Unavailable, message);
        for key in ["option", "file"] {
            if let Some(value) = error.context(key) {
                now = now.with_context(key, value);
            }
        }
        Self::ours(now.with_source(error))
    }

    /// The server ended a stream that it should not have ended.
    pub(super) fn ended() -> Self {
        let error = Error::new(ErrorKind::Unavailable, "etcd ended the stream");
        Self { error, blame: Blame::Server, is_transport: false }
    }

    /// A refusal that came as text: in a status, or in the stream of a watch.
    pub(super) fn refused(code: Code, message: &str) -> Self {
        let (kind, blame) = classify(code, message);
        let hint = match kind {
            ErrorKind::PermissionDenied => {
                "; the user needs read (to register: readwrite) on the service's prefix"
            }
            ErrorKind::Unauthenticated if message.contains("user name is empty") => {
                "; etcd wants a login: give a user and a password"
            }
            ErrorKind::Unauthenticated => "; check user and password",
            _ if message.contains("database space exceeded") => {
                "; etcd's disk quota is used up: compact, defragment, then disarm the alarm"
            }
            _ => "",
        };
        let error = Error::new(kind, format!("{message}{hint}"));
        Self { error, blame, is_transport: false }
    }

    /// The server ended a watch, or did not begin it, for this reason.
    pub(super) fn refused_in_stream(reason: &str) -> Self {
        if reason.is_empty() {
            return Self::ended();
        }
        // Newer servers: `rpc error: code = PermissionDenied desc = etcdserver: permission denied`.
        let (code, text) = match reason.strip_prefix("rpc error: code = ") {
            Some(rest) => rest.split_once(" desc = ").unwrap_or(("", reason)),
            None => ("", reason),
        };
        let code = match code {
            "InvalidArgument" => Code::InvalidArgument,
            "Unauthenticated" => Code::Unauthenticated,
            "Unavailable" => Code::Unavailable,
            _ if text.contains("permission denied") => Code::PermissionDenied,
            _ => Code::Unknown,
        };
        let failure = Self::refused(code, text);
        match failure.error.kind() {
            // Older servers say this to a token that they no longer know as well: with a new login
            // it shows.
            ErrorKind::PermissionDenied => Self { blame: Blame::Login, ..failure },
            _ => failure,
        }
    }

    /// The connection ended soon after a probe, while there was no other traffic. So it looks to
    /// us if etcd takes the probes for too many: the reason, in a GOAWAY, does not reach the streams.
    pub(super) fn after_a_probe(self) -> Self {
        let message = format!(
            "{}; it came soon after a probe: if that repeats, etcd takes the probes for too many, \
             so raise keepalive= above its --grpc-keepalive-min-time",
            self.error.message(),
        );
        let error = Error::new(self.error.kind(), message).with_source(self.error);
        Self { error, ..self }
    }

    /// A login was refused because nobody needs one.
    pub(super) fn is_auth_disabled(&self) -> bool {
        self.error.message().contains("authentication is not enabled")
    }

    /// There is a lease of that id.
    pub(super) fn is_lease_known(&self) -> bool {
        self.error.message().contains("lease already exists")
    }

    fn transport(kind: ErrorKind, message: String, source: impl Into<BoxError>) -> Self {
        let hint = match message.contains("invalid peer certificate") {
            true => "; check ca and domain",
            false => "",
        };
        let error = Error::new(kind, message + hint).with_source(source);
        Self { error, blame: Blame::Server, is_transport: true }
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        let status = match error {
            etcd_client::Error::GRpcStatus(status) => status,
            // Debug of these shows nothing that the caller did not give.
            etcd_client::Error::InvalidArgs(_)
            | etcd_client::Error::InvalidUri(_)
            | etcd_client::Error::InvalidMetadataValue(_) => {
                return Self::ours(Error::invalid_input(error.to_string()));
            }
            etcd_client::Error::TransportError(why) => {
                return Self::transport(ErrorKind::Unavailable, chain(&why), why);
            }
            other => return Self::transport(ErrorKind::Unavailable, chain(&other), other),
        };
        // A status with a source was made here, by the transport, whatever its code.
        if let Some(source) = status.source() {
            let message = match chain(source) {
                causes if causes.contains(status.message()) => causes,
                causes => format!("{}: {causes}", status.message()),
            };
            let kind = match status.code() {
                Code::DeadlineExceeded => ErrorKind::Timeout,
                _ => ErrorKind::Unavailable,
            };
            return Self::transport(kind, message, status);
        }
        let failure = Self::refused(status.code(), status.message());
        Self { error: failure.error.with_source(status), ..failure }
    }
}

/// What the answers mean. The texts are those of etcd's `rpctypes/error.go`, for its codes alone do
/// not tell enough; failure/answers.rs has each of them from a real server.
fn classify(code: Code, message: &str) -> (ErrorKind, Blame) {
    let says = |part: &str| message.contains(part);
    let (here, login, server) = (Blame::Nobody, Blame::Login, Blame::Server);
    match code {
        _ if says("revision has been compacted") || says("future revision") => {
            (ErrorKind::CursorLost, here)
        }
        _ if says("message length too large")
            || says("message larger than max")
            || says("request is too large") =>
        {
            (ErrorKind::LimitExceeded, here)
        }
        // To no login, to a token that has expired or that another server made, and to a JWT that
        // is older than the last change of any user or role (the second text: 3.3).
        _ if says("invalid auth token")
            || says("user name is empty")
            || says("revision of auth store is old")
            || says("revision in header is old") =>
        {
            (ErrorKind::Unauthenticated, login)
        }
        _ if says("no leader") || says("not leader") || says("leader changed") => {
            (ErrorKind::Unavailable, Blame::Cluster)
        }
        _ if says("request timed out") => (ErrorKind::Timeout, server),
        // Its own backlog is too long.
        _ if says("too many requests") => (ErrorKind::Unavailable, server),
        _ if says("not supported for learner") => (ErrorKind::Unavailable, server),
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
        Code::Unavailable
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss => (ErrorKind::Unavailable, server),
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

#[cfg(all(test, unix))]
mod answers;

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
        use Blame::{Cluster, Login, Nobody, Server};
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
            (Code::Unavailable, "etcdserver: no leader", (Unavailable, Cluster)),
            (Code::DeadlineExceeded, "context deadline exceeded", (Timeout, Server)),
            // Not provoked in answers.rs.
            (Code::ResourceExhausted, "etcdserver: too many requests", (Unavailable, Server)),
            (Code::Unavailable, "etcdserver: leader changed", (Unavailable, Cluster)),
            (Code::FailedPrecondition, "etcdserver: not leader", (Unavailable, Cluster)),
            (Code::Unavailable, "etcdserver: server stopped", (Unavailable, Server)),
            (Code::DataLoss, "etcdserver: corrupt cluster", (Unavailable, Server)),
            (Code::Unknown, "auth: revision in header is old", (Unauthenticated, Login)),
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
