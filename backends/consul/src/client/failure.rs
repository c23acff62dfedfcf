//! What a failure means, and who is to blame for it.

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
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) blame: Blame,
}

impl Failure {
    /// It never came to a request.
    pub(super) fn ours(error: Error) -> Self {
        Self { error, blame: Blame::Nobody }
    }

    pub(super) fn timeout() -> Self {
        let error =
            Error::timeout("Consul did not answer in time; is it overloaded or unreachable?");
        Self { error, blame: Blame::Agent }
    }

    pub(super) fn silent() -> Self {
        let error = Error::new(
            ErrorKind::Unavailable,
            "the Consul agent is silent, it hangs or is cut off",
        );
        Self { error, blame: Blame::Agent }
    }

    pub(super) fn cut_off(why: BoxError) -> Self {
        let message = format!("Consul's answer was cut off: {}", chain(&*why));
        Self { error: Error::new(ErrorKind::Unavailable, message), blame: Blame::Agent }
    }

    pub(super) fn too_long() -> Self {
        Self::ours(Error::new(ErrorKind::LimitExceeded, "Consul's answer has more than 64 MiB"))
    }

    /// Consul answered with another status than 2xx.
    pub(super) fn refused(status: StatusCode, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_TEXT)]);
        let text = text.trim().escape_debug().to_string();
        let (kind, blame) = classify(status, &text);
        let hint = match kind {
            ErrorKind::PermissionDenied => {
                "; the token needs service:read and node:read, to register service:write"
            }
            ErrorKind::Unauthenticated => "; check the token",
            _ => "",
        };
        let message = format!("Consul answered {}: {text}{hint}", status.as_u16());
        let error = Error::new(kind, message).with_context("status", status.as_u16());
        Self { error, blame }
    }
}

impl From<hyper_util::client::legacy::Error> for Failure {
    fn from(error: hyper_util::client::legacy::Error) -> Self {
        let mut message = chain(&error);
        if message.contains("invalid peer certificate") {
            message.push_str("; check ca and domain");
        }
        let error = Error::new(ErrorKind::Unavailable, message).with_source(error);
        Self { error, blame: Blame::Agent }
    }
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
            let failure = Failure::refused(StatusCode::from_u16(status).unwrap(), text.as_bytes());
            assert_eq!((failure.error.kind(), failure.blame), expected, "{status} {text}");
        }
    }

    #[test]
    fn a_long_or_hostile_text_is_cut_and_escaped() {
        let body = [b"a\r\nb\xff".as_slice(), &[b'x'; 5000]].concat();
        let error = Failure::refused(StatusCode::BAD_GATEWAY, &body).error.to_string();
        assert!(error.len() < 600 && !error.contains('\n'), "{error}");
    }
}
