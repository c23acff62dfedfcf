//! The body of a response: what comes over the connection, and what its channel does as it goes by.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::InstanceId;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use crate::channel::{Head, Observed, Sent, Tail};
use crate::connection::Transport;
use crate::deadline::Deadline;

/// The body of a response, as a [`Connection`](crate::Connection) gives it out.
///
/// Errors name the instance. Dropped before its end, it resets the stream.
///
/// One type from the connection to the caller: a channel fills in what it has to do at the end of the
/// call, where a body around the body would cost each call an allocation and each frame a detour.
#[derive(Default)]
pub struct ResponseBody {
    head: Head,
    // In the order in which they are to be dropped.
    /// Gone with a deadline that has passed.
    transport: Option<Transport>,
    observed: Observed,
    sent: Option<Sent>,
    tail: Option<Tail>,
}

impl ResponseBody {
    /// A response as it comes in from `instance`. `room` is what the request's extensions were kept
    /// in; made anew for each response it would be three allocations.
    pub(crate) fn begin(
        response: http::Response<Transport>,
        instance: InstanceId,
        mut room: Extensions,
    ) -> http::Response<Self> {
        let head = Head::of(&response, response.body().is_end_stream());
        let mut response = response.map(|transport| Self {
            head,
            // What has ended keeps no connection open.
            transport: Some(transport).filter(|transport| !transport.is_end_stream()),
            ..Self::default()
        });
        room.clear();
        room.insert(instance);
        room.extend(std::mem::take(response.extensions_mut()));
        *response.extensions_mut() = room;
        response
    }

    /// What the response's head says of the call.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn observe(&mut self, observed: Observed) {
        self.observed = observed;
    }

    pub(crate) fn hold(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    pub(crate) fn follow(&mut self, tail: Tail) {
        self.tail = Some(tail);
    }

    fn ended(&mut self, end: Option<&Result<Frame<Bytes>, Status>>) {
        let code = self.observed.ended(end);
        self.sent = None;
        if let Some(tail) = &mut self.tail {
            tail.ended(code);
        }
    }

    /// The deadline has passed.
    fn exceeded(&mut self, deadline: Deadline) -> Option<Status> {
        let instance = self.transport.as_ref().map(Transport::instance);
        let status = self.tail.as_ref()?.exceeded(deadline, instance);
        // Resets the stream: the server need not go on.
        self.transport = None;
        // The instance hears of it, for it is the one that took too long.
        self.observed.expired();
        self.sent = None;
        Some(status)
    }
}

impl Body for ResponseBody {
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
                this.tail.as_ref().and_then(Tail::late)
            }
            Poll::Ready(end) => {
                this.ended(end.as_ref());
                None
            }
            Poll::Pending => this.tail.as_mut().and_then(|tail| tail.poll_late(cx)),
        };
        if let Some(deadline) = late {
            return Poll::Ready(this.exceeded(deadline).map(Err));
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

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("ended", &self.is_end_stream()).finish_non_exhaustive()
    }
}
