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
    /// Gone at its end: a caller that keeps a finished response must not keep the connection of a
    /// removed instance open.
    inner: Option<hyper::body::Incoming>,
    instance: InstanceId,
}

impl ResponseBody {
    pub(super) fn new(inner: hyper::body::Incoming, instance: InstanceId) -> Self {
        Self { inner: Some(inner), instance }
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
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.inner = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| self.status(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
