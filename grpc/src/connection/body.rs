//! What comes in for a response, with errors that a gRPC client understands.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fleetward_core::InstanceId;
use h2::{Reason, RecvStream};
use http_body::Frame;
use tonic::Status;

use super::error::{self, Lost};
use super::slots::Slot;
use super::upload::Upload;

/// The body of a response, as a [`Connection`](crate::Connection) gives it out.
///
/// Errors are statuses that name the instance. Dropped before its end, it resets the stream.
#[derive(Default)]
pub struct ResponseBody {
    /// Gone at its end: a caller that keeps a finished response must not keep the connection of a
    /// removed instance open.
    incoming: Option<Incoming>,
    instance: Option<InstanceId>,
}

struct Incoming {
    stream: RecvStream,
    data_is_over: bool,
    slot: Slot,
    /// The call is over when the response is.
    _upload: Option<Upload>,
}

impl ResponseBody {
    pub(super) fn new(
        stream: RecvStream,
        slot: Slot,
        upload: Option<Upload>,
        instance: InstanceId,
    ) -> Self {
        // What has ended keeps no connection open.
        let incoming = (!stream.is_end_stream()).then(|| Incoming {
            stream,
            data_is_over: false,
            slot,
            _upload: upload,
        });
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

impl Incoming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        if !self.data_is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Refused only for more than was read.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.note(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.failed(error)),
                None => self.data_is_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(trailers) => {
                self.note(0);
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Err(error) => self.failed(error),
        })
    }

    /// A server that is done and wants no more of the request resets with NO_ERROR (RFC 9113, 8.1).
    fn failed(&self, error: h2::Error) -> Option<Result<Frame<Bytes>, Lost>> {
        let done = error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
        (!done).then(|| Err(Lost::stream(error, self.slot.slots())))
    }

    fn note(&self, bytes: usize) {
        if let Some(reads) = &self.slot.slots().reads {
            reads.note(bytes);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(incoming.poll(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| self.status(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(|incoming| incoming.stream.is_end_stream())
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("instance", &self.instance).finish_non_exhaustive()
    }
}
