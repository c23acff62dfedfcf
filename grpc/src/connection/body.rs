//! The response's body, with errors that a gRPC client understands.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::InstanceId;
use http_body::{Frame, SizeHint};
use tonic::Status;

use super::error;

/// hyper's body, whose errors become statuses that name the instance.
pub(super) struct ResponseBody {
    inner: hyper::body::Incoming,
    instance: InstanceId,
}

impl ResponseBody {
    pub(super) fn new(inner: hyper::body::Incoming, instance: InstanceId) -> Self {
        Self { inner, instance }
    }

    fn status(&self, error: hyper::Error) -> Status {
        let status = error::status(error);
        let message = format!("instance {}: {}", self.instance, status.message());
        let mut named = Status::new(status.code(), message);
        named.set_source(std::sync::Arc::new(status));
        named
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.status(error)))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
