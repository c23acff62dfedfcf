//! What a failure means, and who is to blame for it.

use std::borrow::Cow;
use std::io;

use fleetward_backend_common::rotation::Failed;
use fleetward_core::{BoxError, Error, ErrorKind};
use http::StatusCode;

/// What to change before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nothing: another agent would say the same.
    Nobody,
    /// The agent or the way to it: take the next one.
    Agent,
}

/// An error of a call.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) error: Error,
    pub(super) blame: Blame,
    nature: Nature,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// It never came to a request, or to an answer.
    Unanswered,
    /// The connection was closed before an answer; whether it was a new one.
    HungUp {
        fresh: bool,
    },
    /// In the middle of an answer.
    CutOff,
    Answered(StatusCode),
    /// Something answered that is not Consul.
    Stranger,
}

impl Failure {
    fn agent(kind: ErrorKind, message: impl Into<Cow<'static, str>>, nature: Nature) -> Self {
        Self { error: Error::new(kind, message), blame: Blame::Agent, nature }
    }

    /// It never came to a request.
    pub(super) fn ours(error: Error) -> Self {
        Self { error, blame: Blame::Nobody, nature: Nature::Unanswered }
    }

    /// What was answered has Consul's shape, and cannot be read.
    pub(crate) fn unreadable(error: Error) -> Self {
        Self { error, blame: Blame::Agent, nature: Nature::Stranger }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.error.kind() == ErrorKind::NotFound
    }

    pub(super) fn timeout() -> Self {
        let message = "Consul did not answer in time; is it overloaded or unreachable?";
        Self::agent(ErrorKind::Timeout, message, Nature::Unanswered)
    }

    pub(super) fn silent() -> Self {
        let message = "the Consul agent is silent, it hangs or is cut off";
        Self::agent(ErrorKind::Unavailable, message, Nature::Unanswered)
    }

    pub(super) fn cut_off(why: BoxError) -> Self {
        let message = format!("Consul's answer was cut off: {}", chain(&*why));
        Self::agent(ErrorKind::Unavailable, message, Nature::CutOff)
    }

    pub(super) fn too_long() -> Self {
        Self::ours(Error::new(ErrorKind::LimitExceeded, "Consul's answer has more than 64 MiB"))
    }

    /// No connection was made.
    pub(super) fn connecting(why: &(dyn std::error::Error + 'static)) -> Self {
        if is_hang_up(why) {
            return Self::hung_up(true);
        }
        let mut message = format!("cannot connect to the Consul agent: {}", chain(why));
        if message.contains("invalid peer certificate") {
            message.push_str("; check ca and domain");
        } else if message.contains("InvalidContentType") || message.contains("corrupt message") {
            message.push_str("; the port does not speak TLS: write consul:// or http://");
        }
        Self::agent(ErrorKind::Unavailable, message, Nature::Unanswered)
    }

    /// The connection, new or used before, gave no answer.
    pub(super) fn http(why: &hyper::Error, fresh: bool) -> Self {
        if why.is_incomplete_message() || why.is_canceled() || why.is_closed() || is_hang_up(why) {
            return Self::hung_up(fresh);
        }
        let text = chain(why);
        match why.is_parse() {
            true => Self::agent(
                ErrorKind::InvalidData,
                format!(
                    "what answers does not speak HTTP/1, so it is not Consul's HTTP API: {text}"
                ),
                Nature::Stranger,
            ),
            false => Self::agent(ErrorKind::Unavailable, text, Nature::Unanswered),
        }
    }

    fn hung_up(fresh: bool) -> Self {
        let message = match fresh {
            true => format!(
                "the Consul agent closed a new connection without an answer; {LIMIT}, or it is no HTTP port"
            ),
            false => "the Consul agent closed the connection without an answer".to_owned(),
        };
        Self::agent(ErrorKind::Unavailable, message, Nature::HungUp { fresh })
    }

    /// Something answered that Consul does not say.
    pub(super) fn stranger(status: StatusCode, kind: &str, body: &[u8]) -> Self {
        let (status, text) = (status.as_u16(), quoted(body, MAX_STRANGE));
        let kind = kind.escape_debug();
        let message = format!(
            "what answers there is not Consul: HTTP {status}, {kind}, it begins with \"{text}\"; check host, port and path"
        );
        Self::agent(ErrorKind::InvalidData, message, Nature::Stranger)
    }

    /// Consul answered with another status than 2xx.
    pub(super) fn refused(status: StatusCode, body: &[u8], token: &str) -> Self {
        let text = quoted(body, MAX_TEXT);
        let (kind, blame) = classify(status, &text);
        let hint = match (kind, status.as_u16()) {
            (ErrorKind::PermissionDenied, _) => {
                format!("; {token} needs service:read and node:read, to register service:write")
            }
            (ErrorKind::Unauthenticated, _) => format!("; check {token}"),
            (_, 429) => format!("; {LIMIT}"),
            (_, 400) if text.contains("HTTP request") && text.contains("HTTPS") => {
                "; the port speaks TLS: write consuls:// or https://".to_owned()
            }
            _ => String::new(),
        };
        let message = format!("Consul answered {}: {text}{hint}", status.as_u16());
        let error = Error::new(kind, message).with_context("status", status.as_u16());
        Self { error, blame, nature: Nature::Answered(status) }
    }

    /// Whether whoever is there is alive: it took the connection and did something with it.
    pub(super) fn is_sign_of_life(&self) -> bool {
        self.nature != Nature::Unanswered
    }

    /// Whether the agent turned a connection away, as it does with one too many.
    pub(super) fn is_crowded(&self) -> bool {
        match self.nature {
            Nature::HungUp { fresh } => fresh,
            Nature::Answered(status) => status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// Whether a connection was closed before an answer.
    pub(super) fn is_hang_up(&self) -> bool {
        matches!(self.nature, Nature::HungUp { .. })
    }

    /// Whether a query that was held back was ended by something on the way.
    pub(super) fn is_cut(&self) -> bool {
        match self.nature {
            Nature::HungUp { .. } | Nature::CutOff => true,
            Nature::Answered(status) => matches!(status.as_u16(), 408 | 502 | 504),
            _ => false,
        }
    }

    pub(super) fn is_stranger(&self) -> bool {
        self.nature == Nature::Stranger
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure.blame {
            Blame::Nobody => Self::Here(failure.error),
            Blame::Agent if failure.is_crowded() => Self::Later(failure.error),
            Blame::Agent => Self::Elsewhere(failure.error),
        }
    }
}

fn is_hang_up(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            if matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
            {
                return true;
            }
        }
        next = cause.source();
    }
    false
}

/// The beginning of a text that nobody has checked.
fn quoted(body: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(most)]);
    text.trim().escape_debug().to_string()
}

/// Consul says most things by the status, some in the text only.
fn classify(status: StatusCode, text: &str) -> (ErrorKind, Blame) {
    match status.as_u16() {
        // Older agents answer 500 where newer ones answer 404.
        404 => (ErrorKind::NotFound, Blame::Nobody),
        500 if text.contains("does not have associated TTL")
            || text.contains("Unknown check")
            || text.contains("Unknown service") =>
        {
            (ErrorKind::NotFound, Blame::Nobody)
        }
        500 if text.contains("Permission denied") || text.contains("ACL not found") => {
            (ErrorKind::PermissionDenied, Blame::Nobody)
        }
        500 if text.contains("boolean expression") => (ErrorKind::InvalidInput, Blame::Nobody),
        401 => (ErrorKind::Unauthenticated, Blame::Nobody),
        403 => (ErrorKind::PermissionDenied, Blame::Nobody),
        413 => (ErrorKind::LimitExceeded, Blame::Nobody),
        // 429: this agent has too many connections of ours; 503: later, or elsewhere.
        408 | 429 | 500..=599 => (ErrorKind::Unavailable, Blame::Agent),
        400..=499 => (ErrorKind::InvalidInput, Blame::Nobody),
        _ => (ErrorKind::Other, Blame::Agent),
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

/// As much of an error's text as is repeated.
const MAX_TEXT: usize = 300;
const MAX_STRANGE: usize = 60;
/// What turns connections away, and what to change.
const LIMIT: &str = "it may allow this address no more connections (http_max_conns_per_client in the agent's limits, 200 by default)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuls_answers_are_told_apart() {
        use Blame::{Agent, Nobody};
        use ErrorKind::{InvalidInput, NotFound, PermissionDenied, Unauthenticated, Unavailable};
        for (status, text, expected) in [
            (404, "Unknown check ID \"service:a\"", (NotFound, Nobody)),
            (500, "CheckID \"service:a\" does not have associated TTL", (NotFound, Nobody)),
            (500, "Failed to create boolean expression evaluator: 1:1", (InvalidInput, Nobody)),
            (500, "No cluster leader", (Unavailable, Agent)),
            (500, "rpc error making call: Permission denied", (PermissionDenied, Nobody)),
            (403, "ACL not found", (PermissionDenied, Nobody)),
            (403, "Permission denied", (PermissionDenied, Nobody)),
            (401, "ACL support disabled", (Unauthenticated, Nobody)),
            (400, "Cannot specify ?stale with ?consistent", (InvalidInput, Nobody)),
            (429, "Your IP is issuing too many concurrent connections", (Unavailable, Agent)),
            (503, "", (Unavailable, Agent)),
        ] {
            let failure = Failure::refused(
                StatusCode::from_u16(status).unwrap(),
                text.as_bytes(),
                "the token",
            );
            assert_eq!((failure.error.kind(), failure.blame), expected, "{status} {text}");
        }
    }

    #[test]
    fn a_long_or_hostile_text_is_cut_and_escaped() {
        let body = [b"a\r\nb\xff".as_slice(), &[b'x'; 5000]].concat();
        let error = Failure::refused(StatusCode::BAD_GATEWAY, &body, "the token").error.to_string();
        assert!(error.len() < 600 && !error.contains('\n'), "{error}");
    }
}
