//! A request in a form that can be sent more than once, at the same time if need be.
//!
//! What is there of the body at once (all of it, for a unary call) is kept as bytes that attempts
//! share. What comes in over time is kept as it comes, for as long as another attempt may need it:
//! until a response begins, or more would have to be kept than the limits allow. Then the call is
//! committed to the attempt that has come furthest (gRFC A6).

mod buffer;
mod cursor;
mod kept;
mod log;
mod sent;
mod waiting;
mod whole;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use fleetward_core::task::ReadAhead;
use http::{HeaderName, HeaderValue};
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

pub(super) use self::buffer::Buffer;
use self::buffer::Share;
use self::cursor::Cursor;
pub(super) use self::kept::Kept;
use self::log::Log;
pub(crate) use self::sent::Sent;
use self::whole::Whole;
use crate::deadline::Deadline;
use fleetward_http2::frames::is_empty;

/// How many attempts of the call a server may have seen before this one.
static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// The request of a call, from which each attempt takes its own.
pub(super) struct Replay<'a> {
    head: &'a Kept,
    deadline: Option<Deadline>,
    body: Source,
    /// Whether the last attempt was given up before it left.
    came_back: AtomicBool,
}

/// The request as one attempt sends it.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    replay: &'a Replay<'a>,
}

enum Source {
    /// All of it: each attempt gets a copy, which shares the bytes.
    Whole(Bytes, #[expect(dead_code, reason = "counts the bytes while it lives")] Option<Share>),
    /// A body that is still coming in.
    Coming(Arc<Log>),
}

impl<'a> Replay<'a> {
    /// Takes what is there of the body, at once. A unary request is there whole.
    ///
    /// # Errors
    /// What the body fails with.
    pub(super) fn new(
        head: &'a Kept,
        body: Body,
        deadline: Option<Deadline>,
        limit: usize,
        buffer: &Arc<Buffer>,
    ) -> Result<Self, Status> {
        let body = collect(body, limit, buffer)?;
        Ok(Self { head, deadline, body, came_back: AtomicBool::new(false) })
    }

    pub(super) fn sending(&self) -> Sending<'_> {
        Sending { replay: self }
    }

    /// Whether the whole of it can be sent once more.
    pub(super) fn can_be_sent(&self) -> bool {
        match &self.body {
            Source::Whole(..) => true,
            Source::Coming(log) => !log.is_committed(),
        }
    }
}

impl Replay<'_> {
    /// Whether the attempt that was just given up never left. There is one at a time where attempts have
    /// deadlines.
    pub(super) fn takes_back(&self) -> bool {
        self.came_back.swap(false, Ordering::Relaxed)
    }
}

impl Sending<'_> {
    /// The request for one attempt that follows so many, the deadline in its extensions; `None` if the
    /// call is committed to another attempt.
    pub(super) fn request(&self, previous: u32) -> Option<(http::Request<Body>, Sent)> {
        let (body, log) = match &self.replay.body {
            Source::Whole(bytes, _) => (Body::new(Whole::new(bytes.clone())), None),
            Source::Coming(log) => {
                let id = log.reader()?;
                (Body::new(Cursor::new(log.clone(), id)), Some((log.clone(), id)))
            }
        };
        let mut parts = self.replay.head.take();
        if let Some(deadline) = self.replay.deadline {
            parts.extensions.insert(deadline);
        }
        if previous > 0 {
            parts.headers.insert(&PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        Some((http::Request::from_parts(parts, body), Sent::new(log)))
    }

    /// Notes that this attempt is given up before it left.
    pub(super) fn came_back(&self) {
        self.replay.came_back.store(true, Ordering::Relaxed);
    }
}

/// Reads as far as the body is there without waiting, within the bounds of [`ReadAhead`].
fn collect(mut body: Body, limit: usize, buffer: &Arc<Buffer>) -> Result<Source, Status> {
    // Mostly the first frame is all there is.
    let mut first = None;
    let mut frames = VecDeque::new();
    let mut ahead = ReadAhead::up_to(limit);
    while ahead.goes_on() {
        match ahead.poll(|cx| Pin::new(&mut body).poll_frame(cx)) {
            Poll::Ready(None) => {
                return Ok(match buffer.share(ahead.bytes()) {
                    Ok(share) => Source::Whole(join(first, frames), share),
                    // No room to keep it: it goes out once.
                    Err(_) => Source::Coming(Log::committed(all(first, frames), body)),
                });
            }
            Poll::Ready(Some(Err(status))) => return Err(status),
            Poll::Pending => break,
            Poll::Ready(Some(Ok(frame))) => {
                ahead.took(frame.data_ref().map_or(0, Bytes::len));
                let trailers = frame.is_trailers();
                if is_empty(&frame) {
                    continue;
                }
                match &first {
                    None => first = Some(frame),
                    Some(_) => frames.push_back(frame),
                }
                // gRPC has no trailers on requests; what has them is passed through as it is.
                if trailers {
                    return Ok(Source::Coming(Log::committed(all(first, frames), body)));
                }
            }
        }
    }
    Ok(Source::Coming(Log::new(all(first, frames), body, limit, buffer)))
}

fn all(first: Option<Frame<Bytes>>, mut others: VecDeque<Frame<Bytes>>) -> VecDeque<Frame<Bytes>> {
    if let Some(first) = first {
        others.push_front(first);
    }
    others
}

fn join(first: Option<Frame<Bytes>>, others: VecDeque<Frame<Bytes>>) -> Bytes {
    if others.is_empty() {
        return first.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
    }
    let mut joined = BytesMut::new();
    for frame in first.iter().chain(&others) {
        joined.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    #[test]
    fn frames_with_nothing_in_them_are_not_read_without_end() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let empties = move |left: usize| {
            let counted = counted.clone();
            let frames = stream::iter((0..left).map(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Status>(Frame::data(Bytes::new()))
            }));
            Body::new(StreamBody::new(frames))
        };
        let buffer = Arc::new(Buffer::new(usize::MAX));
        let few = collect(empties(1000), 0, &buffer).unwrap();
        assert!(matches!(few, Source::Whole(bytes, _) if bytes.is_empty()));
        polls.store(0, Ordering::SeqCst);
        let many = collect(empties(10_000_000), usize::MAX, &buffer).unwrap();
        assert!(matches!(many, Source::Coming(_)));
        assert!(polls.load(Ordering::SeqCst) < 10_000, "{polls:?}");
    }

    #[tokio::test]
    async fn a_body_is_there_although_the_task_s_budget_is_used_up() {
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::cooperative(std::future::ready(())).await;
        }
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send(Ok::<_, Status>(Frame::data(Bytes::from_static(b"one")))).unwrap();
        drop(sender);
        let frames = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let body = Body::new(StreamBody::new(frames));
        let source = collect(body, 10, &Arc::new(Buffer::new(usize::MAX))).unwrap();
        assert!(matches!(source, Source::Whole(bytes, _) if bytes == "one"));
    }
}
