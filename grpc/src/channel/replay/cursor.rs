//! One attempt's reading of a body that several attempts may need.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;

use super::log::Log;

/// The body of one attempt.
pub(super) struct Cursor {
    log: Arc<Log>,
    reader: u64,
    at: usize,
}

impl Cursor {
    pub(super) fn new(log: Arc<Log>, reader: u64) -> Self {
        Self { log, reader, at: 0 }
    }
}

impl http_body::Body for Cursor {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = self.log.poll_frame(self.reader, self.at, cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.at += 1;
        }
        polled
    }
}

/// Whoever drops it reads no more, so a call that is committed to this attempt needs no more of the
/// body. The body may own the call's response and, through that, the log: this ends the circle.
impl Drop for Cursor {
    fn drop(&mut self) {
        self.log.leave(self.reader);
    }
}
