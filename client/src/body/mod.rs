//! A request's body in a form that can be sent more than once, at the same time if need be.
//!
//! What is there of the body at once (all of it, for a unary call) is kept as bytes that attempts
//! share. What comes in over time is kept as it comes, for as long as another attempt may need it:
//! until a response begins, or more would have to be kept than the limits allow. Then the call is
//! committed to the attempt that has come furthest (gRFC A6).

mod buffer;
mod cursor;
mod error;
mod guard;
mod log;
mod read_ahead;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use fleetward_http2::frames::is_empty;
use http_body::{Body, Frame, SizeHint};

pub use self::buffer::ReplayBuffer;
use self::buffer::Share;
use self::cursor::Cursor;
pub use self::error::AttemptError;
pub use self::guard::AttemptGuard;
use self::log::Log;
use self::read_ahead::ReadAhead;

/// The body of a call, from which each attempt takes its own.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use fleetward_client::{ReplayBody, ReplayBuffer};
/// use http_body_util::{BodyExt, Full};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let buffer = Arc::new(ReplayBuffer::new(16 << 20));
/// let body = ReplayBody::new(Full::new(Bytes::from_static(b"hello")), 1 << 20, &buffer).unwrap();
/// for _ in 0..2 {
///     let (attempt, _guard) = body.attempt().unwrap();
///     assert_eq!(attempt.collect().await.unwrap().to_bytes(), "hello");
/// }
/// # });
/// ```
pub struct ReplayBody<B: Body> {
    source: Source<B>,
}

enum Source<B: Body> {
    /// All of it: each attempt gets a copy, which shares the bytes.
    Whole(Bytes, #[expect(dead_code, reason = "counts the bytes while it lives")] Option<Share>),
    /// A body that is still coming in, and what it says of its length.
    Coming(Arc<Log<B>>, SizeHint),
}

impl<B> ReplayBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Clone,
{
    /// Takes what is there of the body, without waiting: at most 1,024 frames, and no more than one beyond `limit`
    /// bytes. That is the most that is kept for further attempts; all bodies of a `buffer` keep no more than it allows.
    ///
    /// # Errors
    /// What the body fails with.
    pub fn new(body: B, limit: usize, buffer: &Arc<ReplayBuffer>) -> Result<Self, B::Error> {
        Ok(Self { source: collect(body, limit, buffer)? })
    }

    /// Whether all of it is there, so that it can be sent again whatever becomes of an attempt.
    pub fn is_whole(&self) -> bool {
        matches!(self.source, Source::Whole(..))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.source, Source::Whole(bytes, _) if bytes.is_empty())
    }

    /// Whether the whole of it can be sent once more.
    pub fn can_be_sent(&self) -> bool {
        match &self.source {
            Source::Whole(..) => true,
            Source::Coming(log, _) => !log.is_committed(),
        }
    }

    /// The body for one attempt, and what the attempt holds for as long as its response lasts; nothing if the call is
    /// committed to another attempt.
    pub fn attempt(&self) -> Option<(AttemptBody<B>, AttemptGuard<B>)> {
        Some(match &self.source {
            Source::Whole(bytes, _) => (bytes.clone().into(), AttemptGuard::default()),
            Source::Coming(log, hint) => {
                let reader = log.reader()?;
                let cursor = Cursor::new(log.clone(), reader, *hint);
                let guard = AttemptGuard::new(Some((log.clone(), reader)));
                (AttemptBody(Kind::Coming(cursor)), guard)
            }
        })
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = matches!(self.source, Source::Whole(..));
        f.debug_struct("ReplayBody").field("whole", &whole).finish_non_exhaustive()
    }
}

/// The body of one attempt: a copy of the call's [`ReplayBody`].
///
/// It ends with [`AttemptError::Cancelled`] when the call goes on with another attempt.
pub struct AttemptBody<B: Body>(Kind<B>);

enum Kind<B: Body> {
    /// One frame with everything.
    Whole(Option<Bytes>),
    Coming(Cursor<B>),
}

/// One that is all there.
impl<B: Body> From<Bytes> for AttemptBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

impl<B> Body for AttemptBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Clone,
{
    type Data = Bytes;
    type Error = AttemptError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Coming(cursor) => cursor.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Coming(cursor) => cursor.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Coming(cursor) => cursor.size_hint(),
        }
    }
}

impl<B: Body> fmt::Debug for AttemptBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = matches!(self.0, Kind::Whole(_));
        f.debug_struct("AttemptBody").field("whole", &whole).finish_non_exhaustive()
    }
}

/// Reads as far as the body is there without waiting, within the bounds of [`ReadAhead`].
fn collect<B>(mut body: B, limit: usize, buffer: &Arc<ReplayBuffer>) -> Result<Source<B>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Clone,
{
    // Mostly the first frame is all there is.
    let mut first = None;
    let mut frames = VecDeque::new();
    let mut ahead = ReadAhead::up_to(limit);
    // What says that it is too long is not read ahead.
    let is_short = body.size_hint().lower() <= limit as u64;
    while is_short && ahead.goes_on() {
        match ahead.poll(|cx| Pin::new(&mut body).poll_frame(cx)) {
            Poll::Ready(None) => {
                return Ok(match buffer.share(ahead.bytes()) {
                    Ok(share) => Source::Whole(join(first, frames), share),
                    // No room to keep it: it goes out once.
                    Err(_) => {
                        let hint = SizeHint::with_exact(ahead.bytes() as u64);
                        Source::Coming(Log::once(all(first, frames), body), hint)
                    }
                });
            }
            Poll::Ready(Some(Err(error))) => return Err(error),
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
                // Requests seldom have trailers; what has them is passed through as it is.
                if trailers {
                    let hint = SizeHint::default();
                    return Ok(Source::Coming(Log::once(all(first, frames), body), hint));
                }
            }
        }
    }
    let hint = more(&body.size_hint(), ahead.bytes() as u64);
    let frames = all(first, frames);
    let log =
        if is_short { Log::new(frames, body, limit, buffer) } else { Log::once(frames, body) };
    Ok(Source::Coming(log, hint))
}

/// A length that is known stays known, or HTTP/1.1 would send chunks instead.
fn more(rest: &SizeHint, read: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(read));
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper.saturating_add(read));
    }
    hint
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
