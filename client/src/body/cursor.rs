//! One attempt's reading of a body that several attempts may need.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, SizeHint};

use super::log::{Log, Polled};

/// Where an attempt is in the log.
pub(super) struct Cursor<B: Body> {
    log: Arc<Log<B>>,
    reader: u64,
    at: usize,
    /// Of what is left.
    hint: SizeHint,
}

impl<B> Cursor<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Clone,
{
    pub(super) fn new(log: Arc<Log<B>>, reader: u64, hint: SizeHint) -> Self {
        Self { log, reader, at: 0, hint }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Polled<B::Error> {
        let polled = self.log.poll_frame(self.reader, self.at, cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.at += 1;
            let read = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.hint = less(&self.hint, read);
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.log.is_over(self.at)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn less(hint: &SizeHint, read: u64) -> SizeHint {
    let mut left = SizeHint::new();
    left.set_lower(hint.lower().saturating_sub(read));
    if let Some(upper) = hint.upper() {
        left.set_upper(upper.saturating_sub(read));
    }
    left
}

/// Whoever drops it reads no more, so a call that is committed to this attempt needs no more of the
/// body. The body may own the call's response and, through that, the log: this ends the circle.
impl<B: Body> Drop for Cursor<B> {
    fn drop(&mut self) {
        self.log.leave(self.reader);
    }
}
