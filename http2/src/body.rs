//! What comes in for a response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};

use crate::error::Lost;
use crate::slots::Slot;
use crate::upload::Upload;

/// The body of a response. Dropped before its end, it resets the stream. The default is empty.
#[derive(Default)]
pub struct Incoming {
    /// Gone at its end: a caller that keeps a finished response must not keep the connection open.
    open: Option<Open>,
}

struct Open {
    stream: RecvStream,
    data_is_over: bool,
    slot: Slot,
    /// The call is over when the response is.
    _upload: Option<Upload>,
}

impl Incoming {
    pub(crate) fn new(stream: RecvStream, slot: Slot, upload: Option<Upload>) -> Self {
        let is_over = stream.is_end_stream();
        let open = || Open { stream, data_is_over: false, slot, _upload: upload };
        Self { open: (!is_over).then(open) }
    }
}

impl Open {
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

impl Body for Incoming {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        let frame = ready!(open.poll(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.open = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.stream.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.open {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("is_over", &self.is_end_stream()).finish_non_exhaustive()
    }
}
