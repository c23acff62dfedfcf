//! How a call went, as far as the instance is to blame; and when it is over.

use std::time::Duration;

use bytes::Bytes;
use fleetward_core::{BoxError, InFlight, Observer, Outcome};
use http::HeaderMap;
use http_body::Frame;
use tonic::{Code, Status};

use super::head::Head;
use super::policy::Pushback;
use crate::connection::Fate;
use crate::{ConnectionError, ResponseBody};

/// Judges calls by their gRPC status and counts them as under way until their response's body ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByStatus;

impl Observer<http::Response<ResponseBody>> for ByStatus {
    fn response(
        &self,
        mut response: http::Response<ResponseBody>,
        mut call: InFlight,
    ) -> http::Response<ResponseBody> {
        match response.body().head() {
            Head::Failed(code) => call.finish(outcome(code, response.headers())),
            Head::Succeeded => call.finish(Outcome::Success),
            Head::Begun => {
                call.answered();
                response.body_mut().observe(Observed(Some(call)));
            }
        }
        response
    }

    fn error(&self, error: &BoxError) -> Outcome {
        match error.downcast_ref::<ConnectionError>() {
            Some(error) => match error.fate() {
                // The instance has not seen it. That its connection is gone is known already.
                Fate::Unsent | Fate::GoneAway => Outcome::Ignored,
                Fate::Refused | Fate::Unknown => outcome(error.status().code(), &HeaderMap::new()),
            },
            None => match error.downcast_ref::<fleetward_core::Error>() {
                Some(error) if error.is_unsent() => Outcome::Ignored,
                _ => Outcome::FAILURE,
            },
        }
    }
}

/// The codes by which a server says that it, and not the caller, is in trouble.
fn outcome(code: Code, head: &HeaderMap) -> Outcome {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Outcome::failure(pushback(head)),
        Code::Cancelled => Outcome::Ignored,
        _ => Outcome::Success,
    }
}

/// How long the server asks to be left alone.
fn pushback(head: &HeaderMap) -> Option<Duration> {
    match Pushback::of(head)? {
        Pushback::After(wait) => Some(wait),
        Pushback::Stop => None,
    }
}

/// Takes a call to the end of its response's body. Dropped before, the call was given up.
#[derive(Default)]
pub(crate) struct Observed(Option<InFlight>);

impl Observed {
    /// The call's deadline passed before its end.
    pub(crate) fn expired(&mut self) {
        if let Some(call) = self.0.take() {
            call.finish(Outcome::FAILURE);
        }
    }

    /// Says which code the trailers had, if that is what the body ended with.
    pub(crate) fn ended(&mut self, end: Option<&Result<Frame<Bytes>, Status>>) -> Option<Code> {
        let (code, outcome) = match end {
            Some(Ok(frame)) => {
                let trailers = frame.trailers_ref()?;
                let code = trailers.get(Status::GRPC_STATUS);
                let code = code.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
                (Some(code), outcome(code, trailers))
            }
            Some(Err(status)) => (None, outcome(status.code(), &HeaderMap::new())),
            // gRPC ends with trailers: without them the server has broken off.
            None => (None, Outcome::FAILURE),
        };
        if let Some(call) = self.0.take() {
            call.finish(outcome);
        }
        code
    }
}
