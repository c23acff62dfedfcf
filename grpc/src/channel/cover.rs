//! A response's body that ends by the call's deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::{InstanceId, expiring};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use crate::deadline::Deadline;

/// Ends the response's body with DEADLINE_EXCEEDED when the deadline passes.
pub(super) fn cover(
    response: http::Response<Body>,
    deadline: Deadline,
    service: Arc<str>,
) -> http::Response<Body> {
    let instance = response.extensions().get::<InstanceId>().cloned();
    response.map(|inner| Body::new(Covered { inner, deadline, sleep: None, service, instance }))
}

struct Covered {
    inner: Body,
    deadline: Deadline,
    /// Made when the body keeps the caller waiting: a unary response is mostly there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    service: Arc<str>,
    instance: Option<InstanceId>,
}

impl Covered {
    fn exceeded(&mut self) -> Status {
        // Resets the stream: the server need not go on.
        // The instance hears of it, for it is the one that took too long.
        expiring(|| self.inner = Body::empty());
        match &self.instance {
            Some(instance) => {
                let why = format!("instance {instance} had not finished its response");
                self.deadline.exceeded(&self.service, why)
            }
            None => self.deadline.exceeded(&self.service, "the response had not ended"),
        }
    }
}

impl http_body::Body for Covered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            // A stream that never pauses must end too.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && this.deadline.left().is_zero() => {
                Poll::Ready(Some(Err(this.exceeded())))
            }
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => {
                let at = this.deadline.at();
                let sleep =
                    this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(this.exceeded()))),
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
