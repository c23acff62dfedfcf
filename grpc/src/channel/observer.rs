//! How a call went, as far as the instance is to blame; and when it is over.

use fleetward_core::BoxError;
use fleetward_core::endpoints::{InFlight, Observer, Outcome};
use http_body::Body;
use tokio::time::Instant;
use tonic::Code;

use super::body::CallBody;
use super::head::Head;
use super::observed::{Observed, broken, outcome};
use crate::ConnectionError;
use crate::connection::WasSent;

/// Judges calls by their gRPC status and counts them as under way until their response's body ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByStatus;

impl<B: Body> Observer<http::Response<B>> for ByStatus {
    type Observed = http::Response<CallBody<B>>;

    fn response(
        &self,
        response: http::Response<B>,
        mut call: InFlight,
    ) -> http::Response<CallBody<B>> {
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
                observed = Observed::new(call, came);
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
