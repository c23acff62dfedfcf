//! The request's body on its way out.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::frames::poll_filled;

/// Holds a body that is still coming in: dropped, no more of it is read and the stream is reset.
#[derive(Debug)]
pub(crate) struct Upload {
    _held: oneshot::Sender<Infallible>,
}

/// Sends what is there of the body. What is whole is gone with that; the rest of any other is sent by a task,
/// for as long as somebody holds the [`Upload`].
///
/// `reason` says which code resets the stream of a body that has failed.
pub(crate) fn start<B>(
    body: B,
    stream: SendStream<Bytes>,
    reason: fn(&B::Error) -> Reason,
    runtime: &Handle,
) -> Option<Upload>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let mut pipe = Pipe { body, stream, reason, next: None, waits: None, over: false };
    // Whoever polls next does so with a waker.
    let mut cx = Context::from_waker(Waker::noop());
    pipe.over = pipe.start(&mut cx).is_ready();
    if pipe.over {
        return None;
    }
    let (held, mut dropped) = oneshot::channel::<Infallible>();
    runtime.spawn(async move {
        poll_fn(|cx| {
            if Pin::new(&mut dropped).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let polled = pipe.poll(cx);
            pipe.over = polled.is_ready();
            polled
        })
        .await;
    });
    Some(Upload { _held: held })
}

/// How many frames of a body are sent before its task yields.
const FRAMES_AT_ONCE: usize = 64;

struct Pipe<B: Body> {
    body: B,
    stream: SendStream<Bytes>,
    reason: fn(&B::Error) -> Reason,
    /// Read already.
    next: Option<Frame<Bytes>>,
    /// Until there is room for it.
    waits: Option<Bytes>,
    /// The stream has ended, or has been told why it does not.
    over: bool,
}

/// Where nobody reads on: because the call is over, or because the body has panicked, of which the response
/// would never hear.
impl<B: Body> Drop for Pipe<B> {
    fn drop(&mut self) {
        if !self.over {
            self.reset(Reason::CANCEL);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Pipe<B> {
    /// A body of one frame, which is what a unary request is, goes out at once and with the stream's end: its
    /// bytes are there, so waiting for room would save nothing.
    fn start(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let first = match self.poll_body(cx) {
            Poll::Ready(Some(Ok(first))) => first,
            Poll::Ready(Some(Err(error))) => return self.failed(&error),
            Poll::Ready(None) => return self.end(Bytes::new()),
            Poll::Pending => return Poll::Pending,
        };
        match (first.into_data(), self.poll_body(cx)) {
            (Ok(data), Poll::Ready(None)) => self.end(data),
            (Ok(_), Poll::Ready(Some(Err(error)))) => self.failed(&error),
            (Ok(data), second) => {
                if let Poll::Ready(Some(Ok(second))) = second {
                    self.next = Some(second);
                }
                self.wait_for_room(data);
                self.poll(cx)
            }
            (Err(other), _) => self.trailers(other),
        }
    }

    /// Ends with the body, or with the stream. Yields after some frames: a body may always be ready.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..FRAMES_AT_ONCE {
            // The response says why.
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.waits.is_some() && !ready!(self.poll_room(cx)) {
                return Poll::Ready(());
            }
            if let Some(data) = self.waits.take()
                && self.stream.send_data(data, false).is_err()
            {
                return self.fail();
            }
            let frame = match self.next.take() {
                Some(frame) => frame,
                None => match ready!(self.poll_body(cx)) {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => return self.failed(&error),
                    None => return self.end(Bytes::new()),
                },
            };
            match frame.into_data() {
                Ok(data) => self.wait_for_room(data),
                Err(other) => return self.trailers(other),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        poll_filled(Pin::new(&mut self.body), cx)
    }

    /// One byte is asked for and not all of them: what is asked for is taken from the other streams of the
    /// connection while this one waits. h2 asks for the rest when it has the data.
    fn wait_for_room(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.stream.reserve_capacity(1);
        }
        self.waits = Some(data);
    }

    /// Whether there is any; not if the stream is over.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.waits.as_ref().is_some_and(Bytes::is_empty) {
            return Poll::Ready(true);
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }

    fn end(&mut self, data: Bytes) -> Poll<()> {
        match self.stream.send_data(data, true) {
            Ok(()) => Poll::Ready(()),
            Err(_) => self.fail(),
        }
    }

    fn trailers(&mut self, frame: Frame<Bytes>) -> Poll<()> {
        let sent = match frame.into_trailers() {
            Ok(trailers) => self.stream.send_trailers(trailers),
            Err(_) => self.stream.send_data(Bytes::new(), true),
        };
        match sent {
            Ok(()) => Poll::Ready(()),
            Err(_) => self.fail(),
        }
    }

    /// The body has failed.
    fn failed(&mut self, error: &B::Error) -> Poll<()> {
        let reason = (self.reason)(error);
        self.reset(reason);
        Poll::Ready(())
    }

    /// The body is one that h2 refuses, so the call cannot go on.
    fn fail(&mut self) -> Poll<()> {
        self.reset(Reason::INTERNAL_ERROR);
        Poll::Ready(())
    }
}

impl<B: Body> Pipe<B> {
    /// Not if the stream is over: it has ended with something else, and the response says with what.
    fn reset(&mut self, reason: Reason) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.stream.poll_reset(&mut cx).is_pending() {
            self.stream.send_reset(reason);
        }
    }
}
