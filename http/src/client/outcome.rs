//! The error of a call that ended without a response.

use fleetward_core::retry::{Attempt, RetryError};
use fleetward_core::{BoxError, Error, ErrorKind};

use crate::OriginError;

/// The caller's body failed before anything was sent.
pub(super) fn caller(error: BoxError) -> Error {
    Error::new(ErrorKind::Other, error.to_string()).with_operation("call").with_source(error)
}

/// The reason is in the message, as it is over gRPC; the facts of an error of ours are facts of this one.
pub(super) fn of(error: RetryError, service: &str, no_endpoints: impl FnOnce() -> Error) -> Error {
    let instance = error.attempts().last().and_then(|last| last.instance.clone());
    let cause = error.final_error();
    let mut facts = Vec::new();
    let (kind, message) = if error.is_timeout() {
        (ErrorKind::Timeout, error.cut_off(no_endpoints))
    } else if let Some(cause) = cause.downcast_ref::<OriginError>() {
        let kind = match cause.is_caller() {
            true => ErrorKind::Other,
            // Of a call that may have been sent before, this must not say that nothing was.
            false if error.attempts().iter().all(is_turned_away) => ErrorKind::Overloaded,
            false => ErrorKind::Unavailable,
        };
        (kind, cause.to_string())
    } else if let Some(cause) = cause.downcast_ref::<Error>() {
        let kind = match cause.kind() {
            ErrorKind::Overloaded if !error.attempts().iter().all(is_turned_away) => {
                ErrorKind::Unavailable
            }
            kind => kind,
        };
        facts.extend(cause.contexts().map(|(key, value)| (key, value.to_owned())));
        (kind, cause.message().to_owned())
    } else {
        (ErrorKind::Other, error.last())
    };
    let mut result = Error::new(kind, message + &error.before()).with_operation("call");
    for (key, value) in facts {
        result = result.with_context(key, value);
    }
    result = result.with_context("service", service);
    if let Some(instance) = instance {
        result = result.with_context("instance", instance);
    }
    result.with_context("attempts", error.attempts().len()).with_source(error)
}

/// Whether a limit turned it away.
fn is_turned_away(attempt: &Attempt) -> bool {
    match attempt.error.downcast_ref::<OriginError>() {
        Some(error) => error.is_turned_away(),
        None => attempt.error.downcast_ref::<Error>().is_some_and(Error::is_unsent),
    }
}
