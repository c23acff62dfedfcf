//! What is left of a call when its response has begun: it ends by the deadline, and counts for or
//! against the budget of further attempts by how it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::{InstanceId, RetryBudget, expiring};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::head::failure;
use crate::deadline::Deadline;

/// Ends the response's body with DEADLINE_EXCEEDED when the deadline passes, and tells the budget how
/// the call went. With neither it is left as it is.
pub(super) fn follow(
    response: http::Response<Body>,
    deadline: Option<Deadline>,
    budget: Option<Arc<dyn RetryBudget>>,
    service: &Arc<str>,
) -> http::Response<Body> {
    let mut budget = budget;
    if response.headers().contains_key(Status::GRPC_STATUS) {
        // It is over: a failure has been counted already, attempt by attempt.
        let budget = budget.take();
        if let Some(budget) = budget.filter(|_| failure(&response).is_none()) {
            budget.succeeded();
        }
    }
    if deadline.is_none() && budget.is_none() {
        return response;
    }
    let instance = response.extensions().get::<InstanceId>().cloned();
    let service = service.clone();
    response
        .map(|inner| Body::new(Tail { inner, deadline, sleep: None, budget, service, instance }))
}

struct Tail {
    inner: Body,
    deadline: Option<Deadline>,
    /// Made when the body keeps the caller waiting: a unary response is mostly there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Until it has been told.
    budget: Option<Arc<dyn RetryBudget>>,
    service: Arc<str>,
    instance: Option<InstanceId>,
}

impl Tail {
    fn exceeded(&mut self, deadline: Deadline) -> Status {
        // Resets the stream: the server need not go on.
        // The instance hears of it, for it is the one that took too long.
        expiring(|| self.inner = Body::empty());
        match &self.instance {
            Some(instance) => {
                let why = format!("instance {instance} had not finished its response");
                deadline.exceeded(&self.service, why)
            }
            None => deadline.exceeded(&self.service, "the response had not ended"),
        }
    }
}

impl http_body::Body for Tail {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && let Some(budget) = this.budget.take()
            && trailers.get(Status::GRPC_STATUS).is_some_and(|status| status == "0")
        {
            budget.succeeded();
        }
        let Some(deadline) = this.deadline else { return polled };
        match polled {
            // A stream that never pauses must end too.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && deadline.left().is_zero() => {
                Poll::Ready(Some(Err(this.exceeded(deadline))))
            }
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => {
                let sleep = this
                    .sleep
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.at())));
                match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(this.exceeded(deadline)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
