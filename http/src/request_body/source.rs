//! What the attempts of a call make their bodies from.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use fleetward_core::BoxError;
use fleetward_core::task::ReadAhead;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::loan::{Boxed, Lender};
use super::{CallerError, Kind, RequestBody};

/// What the attempts of a call make their bodies from.
pub(crate) enum Source {
    /// All of it: each attempt gets a copy, which shares the bytes.
    Whole(Bytes),
    /// A body that is still coming in: lent out until something was read of it.
    Once(Arc<Lender>),
}

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
            return Ok(Self::Once(Lender::new(body)));
        }
        let mut frames = VecDeque::new();
        if read(&mut body, limit, &mut frames)? {
            return Ok(Self::Whole(join(frames)));
        }
        let rest = Resumed { frames, rest: body }.boxed_unsync();
        Ok(Self::Once(Lender::new(rest)))
    }

    /// Whether it can be sent again after it has left.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// Whether [`lend`](Self::lend) would give it out.
    pub(crate) fn can_lend(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Once(lender) => lender.can_lend(),
        }
    }

    /// The body for one attempt, which takes it from the one before; `None` if something was read of it
    /// and it cannot be sent again.
    pub(crate) fn lend(&self) -> Option<RequestBody> {
        Some(match self {
            Self::Whole(bytes) => bytes.clone().into(),
            Self::Once(lender) => RequestBody::new(Kind::Loan(lender.lend()?)),
        })
    }
}

/// Reads what is there; says whether that is all.
fn read(
    body: &mut Boxed,
    limit: usize,
    frames: &mut VecDeque<Frame<Bytes>>,
) -> Result<bool, BoxError> {
    let mut ahead = ReadAhead::up_to(limit);
    while ahead.goes_on() {
        if body.is_end_stream() {
            return Ok(true);
        }
        let frame = match ahead.poll(|cx| Pin::new(&mut *body).poll_frame(cx)) {
            Poll::Pending => break,
            Poll::Ready(None) => return Ok(true),
            Poll::Ready(Some(frame)) => frame?,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        ahead.took(bytes);
        let trailers = frame.is_trailers();
        if bytes > 0 || trailers {
            frames.push_back(frame);
        }
        // Passed through as they are.
        if trailers {
            break;
        }
    }
    Ok(false)
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
    use std::task::Waker;

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
        drop(source.lend().unwrap());
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
    async fn a_body_is_there_although_the_task_s_budget_is_used_up() {
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::cooperative(std::future::ready(())).await;
        }
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send(data("one")).unwrap();
        drop(sender);
        let body = StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(receiver));
        assert!(Source::new(body, 10).unwrap().is_whole());
    }

    #[tokio::test]
    async fn an_attempt_that_is_over_reads_nothing_from_the_next_one() {
        let source = Source::new(stream(vec![data("one")]), 1000).unwrap();
        let mut first = source.lend().unwrap();
        let mut second = source.lend().unwrap();
        assert!(first.frame().await.unwrap().is_err());
        assert_eq!(next(&mut second).await, "one");
        drop(first);
        assert!(!source.can_lend() && source.lend().is_none());
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
