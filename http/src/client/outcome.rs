//! The error of a call that ended without a response.

use fleetward_core::{Attempt, BoxError, Error, ErrorKind, RetryError};

use crate::OriginError;

/// The caller's body failed before anything was sent.
pub(super) fn caller(error: BoxError) -> Error {
    Error::new(ErrorKind::Other, error.to_string()).with_operation("call").with_source(error)
}

pub(super) fn of(error: RetryError, service: &str, no_endpoints: impl FnOnce() -> Error) -> Error {
    let last = error.attempts().last();
    let instance = last.and_then(|last| last.instance.clone());
    let cause = error.final_error();
    let (kind, message) = if error.is_timeout() {
        let what = match &instance {
            Some(instance) => format!("instance {instance} had not answered"),
            None => match no_endpoints() {
                none if error.attempts().len() > 1 && none.context("ready") != Some("0") => {
                    "every instance was tried, and none took the request".to_owned()
                }
                none => none.to_string(),
            },
        };
        (ErrorKind::Timeout, what)
    } else if let Some(error) = cause.downcast_ref::<OriginError>() {
        let kind = if error.is_caller() { ErrorKind::Other } else { ErrorKind::Unavailable };
        (kind, error.to_string())
    } else if let Some(error) = cause.downcast_ref::<Error>() {
        (error.kind(), error.message().to_owned())
    } else {
        (ErrorKind::Other, cause.to_string())
    };
    let mut result = Error::new(kind, message + &history(&error))
        .with_operation("call")
        .with_context("service", service);
    if let Some(instance) = instance {
        result = result.with_context("instance", instance);
    }
    result.with_context("attempts", error.attempts().len()).with_source(error)
}

/// The attempts before the last one.
fn history(error: &RetryError) -> String {
    const SHOWN: usize = 4;
    let Some((_, before)) = error.attempts().split_last().filter(|(_, b)| !b.is_empty()) else {
        return String::new();
    };
    let shown: Vec<_> = before.iter().take(SHOWN).map(describe).collect();
    let more = if before.len() > SHOWN { "; …" } else { "" };
    format!(" (before: {}{more})", shown.join("; "))
}

/// An attempt's error with the instance that it came from, which some name themselves.
fn describe(attempt: &Attempt) -> String {
    match &attempt.instance {
        Some(instance) if !attempt.error.is::<OriginError>() => {
            format!("instance {instance}: {}", attempt.error)
        }
        _ => attempt.error.to_string(),
    }
}
