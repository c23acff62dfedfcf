//! How a call went, as far as the instance is to blame; and when it is over.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::{BoxError, InFlight, Observer, Outcome};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::head::failure;
use super::policy::Pushback;
use crate::ConnectionError;
use crate::connection::Fate;

/// Judges calls by their gRPC status and counts them as under way until their response's body ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByStatus;

impl Observer<http::Response<Body>> for ByStatus {
    fn response(&self, response: http::Response<Body>, mut call: InFlight) -> http::Response<Body> {
        if let Some(code) = failure(&response) {
            call.finish(outcome(code, response.headers()));
            return response;
        }
        if response.headers().contains_key(Status::GRPC_STATUS) {
            call.finish(Outcome::Success);
            return response;
        }
        call.answered();
        response.map(|inner| Body::new(Observed { inner, call: Some(call) }))
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

/// A body that takes its call to its end. Dropped before, the call was given up.
struct Observed {
    inner: Body,
    call: Option<InFlight>,
}

impl Observed {
    fn finish(&mut self, outcome: Outcome) {
        if let Some(call) = self.call.take() {
            call.finish(outcome);
        }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = trailers.get(Status::GRPC_STATUS);
                    let code = code.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
                    self.finish(outcome(code, trailers));
                }
            }
            Poll::Ready(Some(Err(status))) => {
                let outcome = outcome(status.code(), &HeaderMap::new());
                self.finish(outcome);
            }
            // gRPC ends with trailers: without them the server has broken off.
            Poll::Ready(None) => self.finish(Outcome::FAILURE),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
