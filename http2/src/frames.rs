//! The frames of a foreign body, a bounded number at a time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

/// How many empty frames are read before the task yields.
const EMPTY_AT_ONCE: usize = 32;

/// The next frame that is not empty.
///
/// An empty frame means nothing in HTTP/2, costs no flow control and counts for no limit. So a body
/// that gives nothing else must not keep its reader busy, nor fill what the reader keeps: such frames
/// are skipped, a few in one poll.
pub fn poll_filled<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    for _ in 0..EMPTY_AT_ONCE {
        match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) if is_empty(&frame) => {}
            other => return Poll::Ready(other),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Whether there is nothing in it. Trailers are the end of a body, even if empty.
pub fn is_empty(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(Bytes::is_empty)
}
