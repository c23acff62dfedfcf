//! A call on its way to the end of its response.

use std::time::Duration;

use bytes::Bytes;
use fleetward_core::InstanceId;
use fleetward_core::endpoints::{InFlight, Outcome};
use http::HeaderMap;
use http_body::Frame;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::pushback::Pushback;

/// Takes a call whose head came at that time to the end of its response's body. Dropped before, the call was
/// given up.
#[derive(Default)]
pub(super) struct Observed(Option<(InFlight, Instant)>);

impl Observed {
    pub(super) fn new(call: InFlight, head: Instant) -> Self {
        Self(Some((call, head)))
    }

    /// The instance, until the call has ended.
    pub(super) fn instance(&self) -> Option<&InstanceId> {
        self.0.as_ref().map(|(call, _)| call.instance())
    }

    /// The call's deadline passed before its end.
    pub(super) fn expired(&mut self) {
        if let Some((call, _)) = self.0.take() {
            call.finish(Outcome::FAILURE);
        }
    }

    /// A part of a message: only now is it known that the answer is one. Its latency is the time to its head.
    pub(super) fn data(&mut self) {
        if let Some((call, head)) = &mut self.0 {
            call.answered_at(*head);
        }
    }

    /// Says which code the trailers had, if that is what the body ended with.
    pub(super) fn ended(&mut self, end: Option<&Result<Frame<Bytes>, Status>>) -> Option<Code> {
        let (code, outcome) = match end {
            Some(Ok(frame)) => {
                let trailers = frame.trailers_ref()?;
                match trailers.get(Status::GRPC_STATUS) {
                    Some(code) => {
                        let code = Code::from_bytes(code.as_bytes());
                        (Some(code), outcome(code, trailers))
                    }
                    None => (Some(Code::Unknown), Outcome::Foreign),
                }
            }
            Some(Err(status)) => (None, broken(status, false)),
            // gRPC ends with trailers: without them the server has broken off.
            None => (None, Outcome::Foreign),
        };
        if let Some((call, _)) = self.0.take() {
            call.finish(outcome);
        }
        code
    }
}

/// Codes by which a server says that it is in trouble; the others may be the caller's fault.
pub(super) fn outcome(code: Code, head: &HeaderMap) -> Outcome {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Outcome::failure(pushback(head)),
        Code::Ok => Outcome::Success,
        _ => Outcome::Refused,
    }
}

/// What the end of a stream without a status says. If it was cancelled here, the caller did that.
pub(super) fn broken(status: &Status, by_server: bool) -> Outcome {
    match status.code() {
        Code::Cancelled if !by_server => Outcome::Ignored,
        _ => Outcome::FAILURE,
    }
}

/// How long the server asks to be left alone.
fn pushback(head: &HeaderMap) -> Option<Duration> {
    match Pushback::of(head)? {
        Pushback::After(wait) => Some(wait),
        Pushback::Stop => None,
    }
}
