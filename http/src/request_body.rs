//! A request's body in a form that can be sent more than once.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use fleetward_core::{BoxError, ReadAhead};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// The body of a request, as an instance's client gets it for one attempt.
///
/// It is either whole, and knows its length, or comes in over time. Its errors are those of the body that
/// the caller gave.
pub struct RequestBody {
    kind: Kind,
}

enum Kind {
    Whole(Option<Bytes>),
    Loan(Loan),
}

impl RequestBody {
    /// An empty one.
    pub fn empty() -> Self {
        Bytes::new().into()
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Loan(loan) => loan.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Loan(loan) => loan.is_end,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Loan(loan) => loan.size,
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = matches!(self.kind, Kind::Whole(_));
        f.debug_struct("RequestBody").field("whole", &whole).finish_non_exhaustive()
    }
}

/// What the attempts of a call make their bodies from.
pub(crate) enum Source {
    /// All of it: each attempt gets a copy, which shares the bytes.
    Whole(Bytes),
    /// A body that is still coming in. Gone once it was lent out; back if nothing was read of it.
    Once(Slot),
}

type Slot = Arc<Mutex<Option<Boxed>>>;

impl Source {
    /// Takes what is there of the body, without waiting and within the bounds of [`ReadAhead`]. What is
    /// longer than `limit` is not kept.
    ///
    /// # Errors
    /// What the body fails with.
    pub(crate) fn new<B>(body: B, limit: usize) -> Result<Self, BoxError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = body.map_err(|error| CallerError(error.into()).into()).boxed_unsync();
        if body.size_hint().lower() > limit as u64 {
            return Ok(Self::Once(Arc::new(Mutex::new(Some(body)))));
        }
        let (mut frames, mut ahead) = (VecDeque::new(), ReadAhead::up_to(limit));
        // Polled with no waker: whoever sends the rest polls again with its own.
        let mut cx = Context::from_waker(Waker::noop());
        while ahead.goes_on() {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(None) => return Ok(Self::Whole(join(frames))),
                Poll::Ready(Some(frame)) => {
                    let frame: Frame<Bytes> = frame?;
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    ahead.took(bytes);
                    let trailers = frame.is_trailers();
                    if bytes == 0 && !trailers {
                        continue;
                    }
                    frames.push_back(frame);
                    // Passed through as they are.
                    if trailers {
                        break;
                    }
                }
                Poll::Pending => break,
            }
        }
        let rest = Resumed { frames, rest: body }.boxed_unsync();
        Ok(Self::Once(Arc::new(Mutex::new(Some(rest)))))
    }

    /// Whether it can be sent again after it has left.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// The body for one attempt; `None` if it was sent before and cannot be sent again.
    pub(crate) fn lend(&self) -> Option<RequestBody> {
        Some(match self {
            Self::Whole(bytes) => bytes.clone().into(),
            Self::Once(slot) => {
                let body = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                RequestBody { kind: Kind::Loan(Loan::new(body, slot.clone())) }
            }
        })
    }
}

/// A body that goes back where it came from, if it is dropped before anything was read of it: an attempt
/// that never left has lost nothing then, whatever client made it.
struct Loan {
    /// Never locked: only so that the loan is `Sync`, which some clients ask for.
    body: Mutex<Boxed>,
    /// What the body said of itself after it was last polled. It is asked only by who has it alone.
    size: SizeHint,
    is_end: bool,
    slot: Option<Slot>,
}

impl Loan {
    fn new(body: Boxed, slot: Slot) -> Self {
        let (size, is_end) = (body.size_hint(), body.is_end_stream());
        Self { body: Mutex::new(body), size, is_end, slot: Some(slot) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let frame = Pin::new(&mut *body).poll_frame(cx);
        if frame.is_ready() {
            self.slot = None;
        }
        (self.size, self.is_end) = (body.size_hint(), body.is_end_stream());
        frame
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
            let body = std::mem::take(body);
            // The slot is empty while the body is lent, so nothing is dropped under the lock.
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

/// The caller's body failed, so that the instance is not to blame.
#[derive(Debug)]
pub(crate) struct CallerError(BoxError);

impl fmt::Display for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request's body failed: {}", self.0)
    }
}

impl std::error::Error for CallerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
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
    rest: Boxed,
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    /// A length that was known stays known, or HTTP/1.1 would send chunks instead.
    fn size_hint(&self) -> SizeHint {
        let ahead = self.frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
        let mut hint = self.rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(ahead as u64));
        }
        hint.set_lower(hint.lower().saturating_add(ahead as u64));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, BoxError>>;

    fn stream(frames: Frames) -> impl Body<Data = Bytes, Error = BoxError> + Send {
        // Its last frame is followed by silence, not by an end.
        let frames = tokio_stream::iter(frames);
        StreamBody::new(tokio_stream::StreamExt::chain(frames, tokio_stream::pending()))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    async fn next(body: &mut RequestBody) -> Bytes {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    }

    #[tokio::test]
    async fn a_body_that_is_there_is_lent_as_often_as_needed() {
        let source = Source::new(Full::new(Bytes::from_static(b"hello")), 5).unwrap();
        assert!(source.is_whole());
        for _ in 0..3 {
            let body = source.lend().unwrap();
            assert_eq!(body.size_hint().exact(), Some(5));
            assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        }
        let empty = Source::new(String::new(), 0).unwrap();
        assert!(empty.is_whole() && empty.lend().unwrap().is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_comes_in_is_lent_once_unless_it_comes_back_untouched() {
        let source = Source::new(stream(vec![data("one"), data("two")]), 1000).unwrap();
        assert!(!source.is_whole());
        let untouched = source.lend().unwrap();
        assert!(source.lend().is_none());
        drop(untouched);
        let mut touched = source.lend().unwrap();
        assert_eq!(next(&mut touched).await, "one");
        assert_eq!(next(&mut touched).await, "two");
        drop(touched);
        assert!(source.lend().is_none());

        // Asked in vain, it has lost nothing.
        let source = Source::new(stream(Vec::new()), 1000).unwrap();
        let mut asked = source.lend().unwrap();
        assert!(
            Pin::new(&mut asked).poll_frame(&mut Context::from_waker(Waker::noop())).is_pending()
        );
        drop(asked);
        assert!(source.lend().is_some());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_kept_and_goes_out_whole_with_its_length() {
        let source = Source::new(Full::new(Bytes::from_static(b"0123456789")), 9).unwrap();
        assert!(!source.is_whole());
        let body = source.lend().unwrap();
        assert_eq!(body.size_hint().exact(), Some(10));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "0123456789");

        let frames = tokio_stream::iter((0..10).map(|_| data("ten bytes!")));
        let source = Source::new(StreamBody::new(frames), 25).unwrap();
        assert!(!source.is_whole());
        let body = source.lend().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 100);
    }

    #[tokio::test]
    async fn a_body_that_fails_at_once_ends_the_call() {
        let error = Source::new(stream(vec![data("one"), Err("gone".into())]), 25).err().unwrap();
        assert_eq!(error.to_string(), "the request's body failed: gone");
    }

    /// So many empty frames, all there at once.
    struct Empty(u32);

    impl Body for Empty {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| data("")))
        }
    }

    #[test]
    fn frames_with_nothing_in_them_are_not_read_without_end() {
        assert!(Source::new(Empty(1000), 0).unwrap().is_whole());
        assert!(!Source::new(Empty(10_000_000), usize::MAX).unwrap().is_whole());
    }
}
