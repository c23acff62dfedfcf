//! A request in a form that can be sent more than once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use tonic::Status;
use tonic::body::Body;

use crate::deadline::Deadline;

/// The request of a call, from which each attempt takes its own. Clones share it.
#[derive(Clone)]
pub(super) struct Replay {
    shared: Arc<Shared>,
    deadline: Option<Deadline>,
}

struct Shared {
    parts: http::request::Parts,
    body: Source,
    /// How many attempts of this call came back unsent.
    unsent: AtomicU32,
}

enum Source {
    /// All of it: each attempt gets a copy, which shares the bytes.
    Whole(Bytes),
    /// A body that is still coming in. Gone once it was sent; back if the attempt never left.
    Once(Mutex<Option<Body>>),
}

impl Replay {
    /// Takes what is there of the body, at once. A unary request is there whole.
    ///
    /// # Errors
    /// What the body fails with.
    pub(super) fn new(
        request: http::Request<Body>,
        deadline: Option<Deadline>,
        limit: usize,
    ) -> Result<Self, Status> {
        let (parts, body) = request.into_parts();
        let body = collect(body, limit)?;
        Ok(Self { shared: Arc::new(Shared { parts, body, unsent: AtomicU32::new(0) }), deadline })
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Whether it can be sent again after it has left.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.shared.body, Source::Whole(_))
    }

    /// The request for one attempt, the deadline in its extensions; `None` if it was sent before
    /// and cannot be sent again.
    pub(super) fn request(&self) -> Option<http::Request<Body>> {
        let body = match &self.shared.body {
            Source::Whole(bytes) => Body::new(Full::new(bytes.clone())),
            Source::Once(slot) => slot.lock().unwrap_or_else(PoisonError::into_inner).take()?,
        };
        let mut parts = self.shared.parts.clone();
        if let Some(deadline) = self.deadline {
            parts.extensions.insert(deadline);
        }
        Some(http::Request::from_parts(parts, body))
    }

    /// Takes back an attempt's request that never left. Says how often that has happened before.
    pub(super) fn give_back(&self, request: Option<http::Request<Body>>) -> u32 {
        if let (Source::Once(slot), Some(request)) = (&self.shared.body, request) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.into_body());
        }
        self.shared.unsent.fetch_add(1, Ordering::Relaxed)
    }
}

/// Reads as far as the body is there without waiting, and as `limit` bytes.
fn collect(mut body: Body, limit: usize) -> Result<Source, Status> {
    let mut frames = VecDeque::new();
    let mut read = 0;
    // Polled with no waker: whoever sends the rest polls again with its own.
    let mut cx = Context::from_waker(Waker::noop());
    while read <= limit {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(None) => return Ok(Source::Whole(join(frames))),
            Poll::Ready(Some(Err(status))) => return Err(status),
            Poll::Pending => break,
            Poll::Ready(Some(Ok(frame))) => {
                read += frame.data_ref().map_or(0, Bytes::len);
                let trailers = frame.is_trailers();
                frames.push_back(frame);
                // gRPC has no trailers on requests; what has them is passed through as it is.
                if trailers {
                    break;
                }
            }
        }
    }
    let rest = Body::new(Resumed { frames, rest: body });
    Ok(Source::Once(Mutex::new(Some(rest))))
}

fn join(mut frames: VecDeque<Frame<Bytes>>) -> Bytes {
    if frames.len() <= 1 {
        let only = frames.pop_front().and_then(|frame| frame.into_data().ok());
        return only.unwrap_or_default();
    }
    let mut joined = BytesMut::new();
    for frame in &frames {
        joined.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    joined.freeze()
}

/// The frames that were read ahead, then the rest.
struct Resumed {
    frames: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.frames.is_empty() { self.rest.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    fn request(body: Body) -> http::Request<Body> {
        http::Request::post("/S/M").header("x-mine", "1").body(body).unwrap()
    }

    async fn text(request: http::Request<Body>) -> Bytes {
        request.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_that_is_there_is_sent_as_often_as_needed() {
        let whole = Body::new(Full::new(Bytes::from_static(b"hello")));
        let replay = Replay::new(request(whole), None, 5).unwrap();
        assert!(replay.is_whole());
        for _ in 0..3 {
            let request = replay.clone().request().unwrap();
            assert_eq!(request.headers()["x-mine"], "1");
            assert_eq!(text(request).await, "hello");
        }
        let empty = Replay::new(request(Body::empty()), None, 0).unwrap();
        assert!(empty.is_whole());
        assert!(empty.request().unwrap().into_body().is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_comes_in_goes_out_once_unless_it_comes_back() {
        let (tell, told) = mpsc::channel(8);
        let frame = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        tell.send(frame("one ")).await.unwrap();
        tell.send(frame("two ")).await.unwrap();
        let body = Body::new(StreamBody::new(ReceiverStream::<Result<_, Status>>::new(told)));
        let replay = Replay::new(request(body), None, 1000).unwrap();
        assert!(!replay.is_whole());

        let unsent = replay.request().unwrap();
        assert!(replay.request().is_none());
        assert_eq!(replay.give_back(Some(unsent)), 0);
        let sent = replay.clone().request().unwrap();
        tell.send(frame("three")).await.unwrap();
        drop(tell);
        assert_eq!(text(sent).await, "one two three");
        assert!(replay.request().is_none());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_kept_but_goes_out_whole() {
        let frames =
            (0..10).map(|_| Ok::<_, Status>(Frame::data(Bytes::from_static(b"ten bytes!"))));
        let body = Body::new(StreamBody::new(tokio_stream::iter(frames)));
        let replay = Replay::new(request(body), None, 25).unwrap();
        assert!(!replay.is_whole());
        assert_eq!(text(replay.request().unwrap()).await.len(), 100);
    }

    #[tokio::test]
    async fn a_body_that_fails_ends_the_call() {
        let frames = [Err::<Frame<Bytes>, _>(Status::data_loss("gone"))];
        let body = Body::new(StreamBody::new(tokio_stream::iter(frames)));
        let status = Replay::new(request(body), None, 25).err().unwrap();
        assert_eq!(status.code(), tonic::Code::DataLoss);
    }
}
