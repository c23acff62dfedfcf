//! The body of a response as a channel's caller gets it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_client::AttemptGuard;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::head::Head;
use super::observed::Observed;
use super::tail::Tail;
use crate::connection::ResponseBody;

/// An attempt's hold on the request.
pub(super) type Guard = AttemptGuard<tonic::body::Body>;

/// What comes in for a response, and what its channel does at the end of the call.
///
/// Each part of the channel adds what it has to do: a body around a body would cost each call an allocation and
/// each frame a detour.
pub(super) struct CallBody {
    head: Head,
    // In the order in which they are to be dropped.
    /// Gone with a deadline that has passed.
    transport: Option<ResponseBody>,
    observed: Observed,
    guard: Option<Guard>,
    tail: Option<Tail>,
}

impl CallBody {
    pub(super) fn new(head: Head, transport: ResponseBody, observed: Observed) -> Self {
        // What has ended keeps no connection open.
        let transport = Some(transport).filter(|transport| !transport.is_end_stream());
        Self { head, transport, observed, guard: None, tail: None }
    }

    /// What the response's head says of the call.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    pub(super) fn hold(&mut self, guard: Guard) {
        self.guard = Some(guard);
    }

    pub(super) fn follow(&mut self, tail: Tail) {
        self.tail = Some(tail);
    }

    fn ended(&mut self, end: Option<&Result<Frame<Bytes>, Status>>) {
        let code = self.observed.ended(end);
        self.guard = None;
        if let Some(tail) = &mut self.tail {
            tail.ended(code);
        }
    }

    /// The deadline has passed.
    fn exceeded(&mut self) -> Option<Status> {
        let instance = self.transport.as_ref().and_then(ResponseBody::instance);
        let status = self.tail.as_ref()?.exceeded(instance)?;
        // Resets the stream: the server need not go on.
        self.transport = None;
        // The instance hears of it, for it is the one that took too long.
        self.observed.expired();
        self.guard = None;
        Some(status)
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let polled = match &mut this.transport {
            Some(transport) => Pin::new(transport).poll_frame(cx),
            None => Poll::Ready(None),
        };
        let late = match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                if frame.data_ref().is_some_and(|data| !data.is_empty()) {
                    this.observed.data();
                }
                // A stream that never pauses must end too.
                this.tail.as_ref().is_some_and(Tail::is_late)
            }
            Poll::Ready(end) => {
                this.ended(end.as_ref());
                false
            }
            Poll::Pending => this.tail.as_mut().is_some_and(|tail| tail.poll_late(cx).is_ready()),
        };
        if late {
            return Poll::Ready(this.exceeded().map(Err));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.transport.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.transport.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl fmt::Debug for CallBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallBody").field("ended", &self.is_end_stream()).finish_non_exhaustive()
    }
}
