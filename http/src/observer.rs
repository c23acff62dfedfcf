//! How a call went, as far as the instance is to blame; and when it is over.

use std::time::{Duration, SystemTime};

use fleetward_core::BoxError;
use fleetward_core::endpoints::{InFlight, Observer, Outcome};
use fleetward_core::retry::Verdict;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use crate::origin::OriginError;
use crate::response_body::ResponseBody;
use crate::retry_after::retry_after;

/// The longest `Retry-After` that a balancer is told: more would keep a server that answers again
/// from being tried.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(60);

/// Judges calls by their HTTP status, and counts them as under way until their response's body has
/// ended or is dropped.
///
/// 429 and 5xx are failures of the instance, with what `Retry-After` asks for (60 s at most), but for 501
/// and 505; so are an error (unless it says nothing about the instance), and a body that breaks off. Any
/// other 4xx, 501 and 505 may be the caller's fault ([`Outcome::Refused`]): they are weighed by
/// [`operation`](crate::operation), and tell nothing of the latency. Any other response is a success, and
/// its latency the time to the head. A call that failed or was refused is over with its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByStatus;

impl<B> Observer<Response<ResponseBody<B>>> for ByStatus
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Observed = Response<ResponseBody<B>>;

    fn response(
        &self,
        mut response: Response<ResponseBody<B>>,
        mut call: InFlight,
    ) -> Response<ResponseBody<B>> {
        if is_failure(response.status()) {
            call.finish(Outcome::failure(pushback(response.headers())));
        } else if response.status().is_client_error() || response.status().is_server_error() {
            call.finish(Outcome::Refused);
        } else if response.body().is_end_stream() {
            call.finish(Outcome::Success);
        } else {
            call.answered();
            response.body_mut().carry(call);
        }
        response
    }

    fn error(&self, error: &BoxError) -> Outcome {
        let says_nothing = match error.downcast_ref::<OriginError>() {
            Some(error) => !error.is_failure(),
            // A limit turned it away.
            None => Verdict::is_unsent(error),
        };
        if says_nothing { Outcome::Ignored } else { Outcome::FAILURE }
    }
}

fn is_failure(status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        StatusCode::TOO_MANY_REQUESTS => true,
        other => other.is_server_error(),
    }
}

fn pushback(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers, SystemTime::now()).map(|wait| wait.min(LONGEST_PUSHBACK))
}
