//! How a call went, as far as the instance is to blame; and when it is over.

use std::time::Duration;

use bytes::Bytes;
use fleetward_core::BoxError;
use fleetward_core::endpoints::{InFlight, Observer, Outcome};
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::body::CallBody;
use super::head::Head;
use super::policy::Pushback;
use crate::ConnectionError;
use crate::connection::{ResponseBody, WasSent};

/// Judges calls by their gRPC status and counts them as under way until their response's body ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByStatus;

impl Observer<http::Response<ResponseBody>> for ByStatus {
    type Observed = http::Response<CallBody>;

    fn response(
        &self,
        response: http::Response<ResponseBody>,
        mut call: InFlight,
    ) -> http::Response<CallBody> {
        let mut observed = Observed::default();
        let head = Head::of(&response, response.body().is_end_stream());
        match head {
            Head::Failed(code) => call.finish(outcome(code, response.headers())),
            // A gateway's word that the instance is in trouble.
            Head::Foreign(Code::Unavailable) => call.finish(Outcome::FAILURE),
            Head::Foreign(_) => call.finish(Outcome::Foreign),
            Head::Succeeded => call.finish(Outcome::Success),
            Head::Begun => {
                let came = Instant::now();
                call.heard_at(came);
                observed = Observed(Some((call, came)));
            }
        }
        response.map(|body| CallBody::new(head, body, observed))
    }

    fn error(&self, error: &BoxError) -> Outcome {
        match error.downcast_ref::<ConnectionError>() {
            Some(error) => match error.was_sent() {
                // The instance has not seen it. That its connection is gone is known already.
                WasSent::Unsent | WasSent::GoneAway => Outcome::Ignored,
                WasSent::Refused => Outcome::FAILURE,
                WasSent::Unknown => broken(error.status(), error.is_by_server()),
            },
            None => match error.downcast_ref::<fleetward_core::Error>() {
                Some(error) if error.is_unsent() => Outcome::Ignored,
                _ => Outcome::FAILURE,
            },
        }
    }
}

/// Codes by which a server says that it is in trouble; the others may be the caller's fault.
fn outcome(code: Code, head: &HeaderMap) -> Outcome {
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
fn broken(status: &Status, by_server: bool) -> Outcome {
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

/// Takes a call whose head came at that time to the end of its response's body. Dropped before, the call was
/// given up.
#[derive(Default)]
pub(crate) struct Observed(Option<(InFlight, Instant)>);

impl Observed {
    /// The call's deadline passed before its end.
    pub(crate) fn expired(&mut self) {
        if let Some((call, _)) = self.0.take() {
            call.finish(Outcome::FAILURE);
        }
    }

    /// A part of a message: only now is it known that the answer is one. Its latency is the time to its head.
    pub(crate) fn data(&mut self) {
        if let Some((call, head)) = &mut self.0 {
            call.answered_at(*head);
        }
    }

    /// Says which code the trailers had, if that is what the body ended with.
    pub(crate) fn ended(&mut self, end: Option<&Result<Frame<Bytes>, Status>>) -> Option<Code> {
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
