//! The body of a response, with errors that a gRPC client understands.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::InstanceId;
use fleetward_http2::{Incoming, Lost};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::error;

/// The body of a response, as a [`Connection`](crate::Connection) gives it out.
///
/// Errors are statuses that name the instance. Dropped before its end, it resets the stream.
#[derive(Default)]
pub struct ResponseBody {
    incoming: Incoming,
    instance: Option<InstanceId>,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, instance: InstanceId) -> Self {
        Self { incoming, instance: Some(instance) }
    }

    /// The instance; none for an empty body that no connection has made.
    pub fn instance(&self) -> Option<&InstanceId> {
        self.instance.as_ref()
    }

    fn status(&self, error: Lost) -> Status {
        let status = error::status(error);
        let Some(instance) = &self.instance else { return status };
        let message = format!("instance {instance}: {}", status.message());
        let mut named = Status::new(status.code(), message);
        named.set_source(std::sync::Arc::new(status));
        named
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(|error| self.status(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("instance", &self.instance).finish_non_exhaustive()
    }
}
