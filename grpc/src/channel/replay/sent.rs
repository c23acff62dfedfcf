//! An attempt's hold on the request, from its sending to the end of its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::log::Log;

/// One attempt's part of the request: who holds it can commit the call to this attempt. Dropped, the
/// attempt reads no more of a body that still comes in, and its stream is reset: HTTP/2 alone would
/// go on with the request for as long as the caller does.
pub(in crate::channel) struct Sent {
    /// `None` if the request was whole before it was sent.
    reader: Option<(Arc<Log>, u64)>,
}

impl Sent {
    pub(super) fn new(reader: Option<(Arc<Log>, u64)>) -> Self {
        Self { reader }
    }

    /// Whether the call is committed to another attempt.
    pub(in crate::channel) fn is_superseded(&self) -> bool {
        self.reader.as_ref().is_some_and(|(log, id)| log.is_committed_to_another(*id))
    }

    /// A response has begun: no other attempt will be needed.
    pub(in crate::channel) fn commit(self, response: http::Response<Body>) -> http::Response<Body> {
        let Some((log, id)) = &self.reader else { return response };
        log.commit(*id);
        response.map(|inner| Body::new(Answer { inner, sent: Some(self) }))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some((log, id)) = &self.reader {
            log.leave(*id);
        }
    }
}

/// The response to a request that may still come in.
struct Answer {
    inner: Body,
    sent: Option<Sent>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        let is_over = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if is_over {
            self.sent = None;
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
