//! What the caller gets in the end of a call that failed.

use std::sync::Arc;

use fleetward_client::Deadline;
use fleetward_core::Error;
use fleetward_core::retry::RetryError;
use http::HeaderValue;
use tonic::body::Body;
use tonic::{Code, Status};

use super::head::describe_foreign;
use super::rejected::Rejected;
use crate::ConnectionError;
use crate::deadline;

/// The call's deadline is DEADLINE_EXCEEDED, as gRFC A6 says. Else the last status of a server as the
/// response that it was; where no server sent one, a status of the channel.
pub(super) fn of(
    error: RetryError,
    service: &str,
    deadline: Option<Deadline>,
    no_endpoints: impl FnOnce() -> Error,
) -> Result<http::Response<Body>, Status> {
    let exceeded = deadline.filter(|deadline| error.is_timeout() && deadline.has_passed());
    let mut status = match exceeded {
        Some(deadline) => {
            let why = error.cut_off(no_endpoints) + &error.before();
            deadline::exceeded(deadline, service, why)
        }
        None => match last_rejected(&error) {
            Some(rejected) => return Ok(response(rejected, &error, service)),
            None => status(&error, service),
        },
    };
    status.set_source(Arc::new(error));
    Err(status)
}

/// The last status that a server sent: it says more than that later attempts got none.
fn last_rejected(error: &RetryError) -> Option<&Rejected> {
    let last = error.final_error().downcast_ref();
    last.or_else(|| {
        error.attempts().iter().rev().find_map(|attempt| attempt.error.downcast_ref::<Rejected>())
    })
}

fn status(error: &RetryError, service: &str) -> Status {
    let cause = error.final_error();
    let code = if let Some(error) = cause.downcast_ref::<ConnectionError>() {
        error.status().code()
    } else if let Some(status) = cause.downcast_ref::<Status>() {
        status.code()
    } else if error.is_timeout() {
        Code::DeadlineExceeded
    } else {
        Code::Unavailable
    };
    Status::new(code, format!("service {service}: {}{}", error.last(), error.before()))
}

/// The head as it came; if it is no gRPC server's, with a status that says so. After several attempts the message also says how many and where the last
/// one went; its own text stays in front.
fn response(rejected: &Rejected, error: &RetryError, service: &str) -> http::Response<Body> {
    let mut head = rejected.head.clone();
    let attempts = error.attempts().len();
    if !head.headers.contains_key(Status::GRPC_STATUS) {
        let last = error.attempts().last().and_then(|last| last.instance.as_ref());
        let place = last.map(|instance| format!("instance {instance}: ")).unwrap_or_default();
        let message = percent_encode(&format!("{place}{}", describe_foreign(&rejected.head)));
        if let Ok(message) = HeaderValue::from_bytes(&message) {
            head.headers.insert(Status::GRPC_STATUS, HeaderValue::from(rejected.code as i32));
            head.headers.insert(Status::GRPC_MESSAGE, message);
        }
    }
    if attempts > 1 && head.headers.contains_key(Status::GRPC_STATUS) {
        let old = head.headers.get(Status::GRPC_MESSAGE);
        let mut message = old.map(|old| old.as_bytes().to_vec()).unwrap_or_default();
        let last = error.attempts().last().and_then(|last| last.instance.as_ref());
        let place = last.map(|instance| format!(", the last on {instance}")).unwrap_or_default();
        let note = format!(" (service {service}: {attempts} attempts{place})");
        message.extend(percent_encode(&note));
        if let Ok(message) = HeaderValue::from_bytes(&message) {
            head.headers.insert(Status::GRPC_MESSAGE, message);
        }
    }
    http::Response::from_parts(head, Body::empty())
}

/// As gRPC writes a `grpc-message`: printable ASCII as it is, but for `%`.
fn percent_encode(text: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => encoded.extend(format!("%{byte:02X}").into_bytes()),
            _ => encoded.push(byte),
        }
    }
    encoded
}
