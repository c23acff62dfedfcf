//! The body of a response as a channel's caller gets it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_client::AttemptGuard;
use fleetward_core::BoxError;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

use super::head::Head;
use super::observed::Observed;
use super::tail::Tail;

/// An attempt's hold on the request.
pub(super) type Guard = AttemptGuard<tonic::body::Body>;

pin_project! {
    /// What comes in for a response, and what its channel does at the end of the call.
    ///
    /// Each part of the channel adds what it has to do: a body around a body would cost each call an allocation and
    /// each frame a detour.
    pub(super) struct CallBody<B> {
        head: Head,
        // In the order in which they are to be dropped.
        // Gone with a deadline that has passed.
        #[pin]
        transport: Option<B>,
        observed: Observed,
        guard: Option<Guard>,
        tail: Option<Tail>,
    }
}

impl<B> CallBody<B> {
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

    fn ended(self: Pin<&mut Self>, end: Option<&Result<Frame<Bytes>, Status>>) {
        let this = self.project();
        let code = this.observed.ended(end);
        *this.guard = None;
        if let Some(tail) = this.tail {
            tail.ended(code);
        }
    }

    /// The deadline has passed.
    fn exceeded(self: Pin<&mut Self>) -> Option<Status> {
        let mut this = self.project();
        let status = this.tail.as_ref()?.exceeded(this.observed.instance())?;
        // Resets the stream: the server need not go on.
        this.transport.set(None);
        // The instance hears of it, for it is the one that took too long.
        this.observed.expired();
        *this.guard = None;
        Some(status)
    }
}

impl<B: Body> CallBody<B> {
    pub(super) fn new(head: Head, transport: B, observed: Observed) -> Self {
        // What has ended keeps no connection open.
        let transport = Some(transport).filter(|transport| !transport.is_end_stream());
        Self { head, transport, observed, guard: None, tail: None }
    }
}

impl<B> Body for CallBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.as_mut().project();
        let polled = match this.transport.as_mut().as_pin_mut() {
            Some(transport) => {
                transport.poll_frame(cx).map_err(|error| Status::from_error(error.into()))
            }
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
                self.as_mut().ended(end.as_ref());
                false
            }
            Poll::Pending => this.tail.as_mut().is_some_and(|tail| tail.poll_late(cx).is_ready()),
        };
        if late {
            return Poll::Ready(self.exceeded().map(Err));
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

impl<B> fmt::Debug for CallBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallBody").field("head", &self.head).finish_non_exhaustive()
    }
}
