//! Bodies that are there, that come in, that are too long, and that fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed(&'static str);

type Frames = Vec<Result<Frame<Bytes>, Failed>>;

fn data(text: &'static str) -> Result<Frame<Bytes>, Failed> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn full(text: &'static str) -> impl Body<Data = Bytes, Error = Failed> + Unpin {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})
}

/// Its last frame is followed by silence, not by an end.
fn silent_after(frames: Frames) -> impl Body<Data = Bytes, Error = Failed> + Unpin {
    StreamBody::new(stream::StreamExt::chain(stream::iter(frames), stream::pending()))
}

fn unbounded() -> Arc<ReplayBuffer> {
    Arc::new(ReplayBuffer::new(usize::MAX))
}

fn replay<B: Body<Data = Bytes, Error = Failed> + Unpin>(body: B, limit: usize) -> ReplayBody<B> {
    ReplayBody::new(body, limit, &unbounded()).unwrap()
}

async fn next<B: Body<Data = Bytes, Error = Failed> + Unpin>(body: &mut AttemptBody<B>) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn a_body_that_is_there_goes_out_as_often_as_needed() {
    let body = replay(full("hello"), 5);
    assert!(body.is_whole() && !body.is_empty());
    for _ in 0..3 {
        let (attempt, guard) = body.attempt().unwrap();
        assert_eq!(attempt.size_hint().exact(), Some(5));
        assert_eq!(attempt.collect().await.unwrap().to_bytes(), "hello");
        assert!(guard.commit().is_none());
    }
    let empty = replay(full(""), 0);
    assert!(empty.is_whole() && empty.is_empty() && empty.attempt().unwrap().0.is_end_stream());
}

#[tokio::test]
async fn a_body_that_comes_in_is_kept_while_another_attempt_may_need_it() {
    let body = replay(silent_after(vec![data("one"), data("two")]), 1000);
    assert!(!body.is_whole() && body.can_be_sent());
    let (mut first, _first) = body.attempt().unwrap();
    assert_eq!((next(&mut first).await, next(&mut first).await), ("one".into(), "two".into()));
    let (mut second, guard) = body.attempt().unwrap();
    assert_eq!(next(&mut second).await, "one");
    let held = guard.commit();
    assert!(held.is_some() && !body.can_be_sent() && body.attempt().is_none());
    assert!(matches!(first.frame().await, Some(Err(AttemptError::Cancelled(_)))));
    assert_eq!(next(&mut second).await, "two");
    drop(held);
    assert!(matches!(second.frame().await, Some(Err(AttemptError::Cancelled(_)))));
}

#[tokio::test]
async fn a_response_that_is_not_held_leaves_the_body_to_who_reads_it() {
    let body = replay(silent_after(vec![data("one"), data("two")]), 1000);
    let (mut attempt, guard) = body.attempt().unwrap();
    guard.release();
    assert_eq!((next(&mut attempt).await, next(&mut attempt).await), ("one".into(), "two".into()));
    assert!(!body.can_be_sent());
}

#[tokio::test]
async fn a_body_over_the_limit_goes_out_once_with_its_length_and_not_before_it_is_read() {
    let body = replay(full("0123456789"), 9);
    assert!(!body.is_whole());
    drop(body.attempt().unwrap());
    let (attempt, _guard) = body.attempt().unwrap();
    assert_eq!(attempt.size_hint().exact(), Some(10));
    assert_eq!(attempt.collect().await.unwrap().to_bytes(), "0123456789");
    assert!(!body.can_be_sent());

    let frames = stream::iter((0..10).map(|_| data("ten bytes!")));
    let body = replay(StreamBody::new(frames), 25);
    assert!(!body.is_whole());
    let (attempt, _guard) = body.attempt().unwrap();
    assert_eq!(attempt.collect().await.unwrap().to_bytes().len(), 100);

    // Asked in vain, it has lost nothing.
    let mut silent = silent_after(Vec::new()).boxed_unsync();
    silent = WithLength(silent, 100).boxed_unsync();
    let body = replay(silent, 10);
    let (mut attempt, _guard) = body.attempt().unwrap();
    assert!(futures::poll!(attempt.frame()).is_pending());
    assert!(body.can_be_sent());
}

/// A body that says how long it is.
struct WithLength<B>(B, u64);

impl<B: Body<Data = Bytes, Error = Failed> + Unpin> Body for WithLength<B> {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn a_length_that_is_known_stays_known() {
    let body = WithLength(silent_after(vec![data("one"), data("two")]), 9);
    // The length says what is left of it.
    let body = replay(WithLength(body, 3), 1000);
    let (mut attempt, _guard) = body.attempt().unwrap();
    assert_eq!(attempt.size_hint().exact(), Some(9));
    next(&mut attempt).await;
    assert_eq!(attempt.size_hint().exact(), Some(6));
    assert!(!attempt.is_end_stream());
}

#[tokio::test]
async fn the_buffer_bounds_what_all_calls_keep() {
    const LONG: &str = match std::str::from_utf8(&[b'x'; 5000]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let buffer = Arc::new(ReplayBuffer::new(6000));
    let body = |text| ReplayBody::new(full(text), 1 << 20, &buffer).unwrap();
    let first = body(LONG);
    assert!(first.is_whole() && buffer.used() == 5000);
    let second = body(LONG);
    assert!(!second.is_whole() && second.can_be_sent());
    assert!(body("little").is_whole(), "few bytes are not counted");
    let (attempt, _guard) = second.attempt().unwrap();
    assert_eq!(attempt.collect().await.unwrap().to_bytes(), LONG);
    assert!(!second.can_be_sent());
    drop(first);
    assert!(buffer.used() == 0 && body(LONG).is_whole());
}

#[tokio::test]
async fn trailers_are_passed_through_once() {
    let trailers = Frame::trailers(http::HeaderMap::new());
    let body = replay(StreamBody::new(stream::iter([data("one"), Ok(trailers)])), 1000);
    let (attempt, _guard) = body.attempt().unwrap();
    let collected = attempt.collect().await.unwrap();
    assert!(collected.trailers().is_some() && collected.to_bytes() == "one");
    assert!(!body.can_be_sent());
}

#[test]
fn a_body_that_fails_at_once_ends_the_call() {
    let body = silent_after(vec![data("one"), Err(Failed("gone"))]);
    let error = ReplayBody::new(body, 25, &unbounded()).err();
    assert_eq!(error, Some(Failed("gone")));
}

#[test]
fn frames_with_nothing_in_them_are_not_read_without_end() {
    let polls = Arc::new(AtomicUsize::new(0));
    let empties = |left: usize| {
        let counted = polls.clone();
        let frames = stream::iter((0..left).map(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            data("")
        }));
        replay(StreamBody::new(frames), usize::MAX)
    };
    let few = empties(1000);
    assert!(few.is_whole() && few.is_empty());
    polls.store(0, Ordering::SeqCst);
    assert!(!empties(10_000_000).is_whole());
    assert!(polls.load(Ordering::SeqCst) < 10_000, "{polls:?}");
}

#[tokio::test]
async fn a_body_is_there_although_the_task_s_budget_is_used_up() {
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::coop::cooperative(std::future::ready(())).await;
    }
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    sender.send(data("one")).unwrap();
    drop(sender);
    let frames = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    assert!(replay(StreamBody::new(frames), 10).is_whole());
}
