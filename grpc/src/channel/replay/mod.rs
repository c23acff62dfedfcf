//! A request in a form that can be sent more than once, at the same time if need be.
//!
//! What is there of the body at once (all of it, for a unary call) is kept as bytes that attempts
//! share. What comes in over time is kept as it comes, for as long as another attempt may need it:
//! until a response begins, or more would have to be kept than the limits allow. Then the call is
//! committed to the attempt that has come furthest (gRFC A6).

mod buffer;
mod cursor;
mod log;
mod sent;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http_body::{Body as _, Frame};
use http_body_util::Full;
use tonic::Status;
use tonic::body::Body;

pub(super) use self::buffer::Buffer;
use self::buffer::Share;
use self::cursor::Cursor;
use self::log::Log;
pub(super) use self::sent::Sent;
use crate::deadline::Deadline;

/// How many attempts of the call a server may have seen before this one.
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// The request of a call, from which each attempt takes its own. Clones share it.
#[derive(Clone)]
pub(super) struct Replay {
    shared: Arc<Shared>,
    previous: u32,
}

struct Shared {
    parts: http::request::Parts,
    deadline: Option<Deadline>,
    body: Source,
    /// How many attempts of this call came back unsent.
    unsent: AtomicU32,
}

enum Source {
    /// All of it: each attempt gets a copy, which shares the bytes.
    Whole(Bytes, #[expect(dead_code, reason = "counts the bytes while it lives")] Option<Share>),
    /// A body that is still coming in.
    Coming(Arc<Log>),
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
        buffer: &Arc<Buffer>,
    ) -> Result<Self, Status> {
        let (parts, body) = request.into_parts();
        let body = collect(body, limit, buffer)?;
        let shared = Shared { parts, deadline, body, unsent: AtomicU32::new(0) };
        Ok(Self { shared: Arc::new(shared), previous: 0 })
    }

    pub(super) fn set_previous(&mut self, previous: u32) {
        self.previous = previous;
    }

    /// Whether the whole of it can be sent once more.
    pub(super) fn can_be_sent(&self) -> bool {
        match &self.shared.body {
            Source::Whole(..) => true,
            Source::Coming(log) => !log.is_committed(),
        }
    }

    /// The request for one attempt, the deadline in its extensions; `None` if the call is committed to
    /// another attempt.
    pub(super) fn request(&self) -> Option<(http::Request<Body>, Sent)> {
        let (body, log) = match &self.shared.body {
            Source::Whole(bytes, _) => (Body::new(Full::new(bytes.clone())), None),
            Source::Coming(log) => {
                let id = log.reader()?;
                (Body::new(Cursor::new(log.clone(), id)), Some((log.clone(), id)))
            }
        };
        let mut parts = self.shared.parts.clone();
        if let Some(deadline) = self.shared.deadline {
            parts.extensions.insert(deadline);
        }
        if self.previous > 0 {
            parts.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(self.previous));
        }
        Some((http::Request::from_parts(parts, body), Sent::new(log)))
    }

    /// Notes that an attempt never left. Says how often that has happened before.
    pub(super) fn came_back(&self) -> u32 {
        self.shared.unsent.fetch_add(1, Ordering::Relaxed)
    }
}

/// Reads as far as the body is there without waiting, and as `limit` bytes.
fn collect(mut body: Body, limit: usize, buffer: &Arc<Buffer>) -> Result<Source, Status> {
    let mut frames = VecDeque::new();
    let mut read = 0;
    // Polled with no waker: whoever sends the rest polls again with its own.
    let mut cx = Context::from_waker(Waker::noop());
    while read <= limit {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(None) => {
                return Ok(match buffer.share(read) {
                    Ok(share) => Source::Whole(join(frames), share),
                    // No room to keep it: it goes out once.
                    Err(_) => Source::Coming(Log::committed(frames, body)),
                });
            }
            Poll::Ready(Some(Err(status))) => return Err(status),
            Poll::Pending => break,
            Poll::Ready(Some(Ok(frame))) => {
                read += frame.data_ref().map_or(0, Bytes::len);
                let trailers = frame.is_trailers();
                frames.push_back(frame);
                // gRPC has no trailers on requests; what has them is passed through as it is.
                if trailers {
                    return Ok(Source::Coming(Log::committed(frames, body)));
                }
            }
        }
    }
    Ok(Source::Coming(Log::new(frames, body, limit, buffer)))
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
