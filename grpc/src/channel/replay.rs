//! The request of a call, from which each attempt takes its own (gRFC A6).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_client::{
    AttemptBody, AttemptError, AttemptGuard, ReplayBody, ReplayBuffer, RequestHead,
};
use http::{HeaderName, HeaderValue};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use crate::deadline::Deadline;

/// How many attempts of the call a server may have seen before this one.
static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// An attempt's hold on the request.
pub(crate) type Guard = AttemptGuard<Body>;

/// The request of a call.
pub(super) struct Replay<'a> {
    head: &'a RequestHead,
    deadline: Option<Deadline>,
    body: ReplayBody<Body>,
    /// Whether the last attempt was given up before it left.
    came_back: AtomicBool,
}

/// The request as one attempt sends it.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    replay: &'a Replay<'a>,
}

impl<'a> Replay<'a> {
    /// Takes what is there of the body, at once. A unary request is there whole.
    ///
    /// # Errors
    /// What the body fails with.
    pub(super) fn new(
        head: &'a RequestHead,
        body: Body,
        deadline: Option<Deadline>,
        limit: usize,
        buffer: &Arc<ReplayBuffer>,
    ) -> Result<Self, Status> {
        let body = ReplayBody::new(body, limit, buffer)?;
        Ok(Self { head, deadline, body, came_back: AtomicBool::new(false) })
    }

    pub(super) fn sending(&self) -> Sending<'_> {
        Sending { replay: self }
    }

    /// Whether the whole of it can be sent once more.
    pub(super) fn can_be_sent(&self) -> bool {
        self.body.can_be_sent()
    }

    /// Whether the attempt that was just given up never left. There is one at a time where attempts have
    /// deadlines.
    pub(super) fn takes_back(&self) -> bool {
        self.came_back.swap(false, Ordering::Relaxed)
    }
}

impl Sending<'_> {
    /// The request for one attempt that follows so many, the deadline in its extensions; `None` if the
    /// call is committed to another attempt.
    pub(super) fn request(&self, previous: u32) -> Option<(http::Request<Body>, Guard)> {
        let (body, guard) = self.replay.body.attempt()?;
        let mut parts = self.replay.head.for_attempt();
        if let Some(deadline) = self.replay.deadline {
            parts.extensions.insert(deadline);
        }
        if previous > 0 {
            parts.headers.insert(&PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        Some((http::Request::from_parts(parts, Body::new(Messages(body))), guard))
    }

    /// Notes that this attempt is given up before it left.
    pub(super) fn came_back(&self) {
        self.replay.came_back.store(true, Ordering::Relaxed);
    }
}

/// An attempt's body. It does not tell its size: that would be sent as a `content-length`, which gRPC does without,
/// another one for each call in the table of headers.
struct Messages(AttemptBody<Body>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(|error| match error {
            AttemptError::Body(status) => status,
            error @ AttemptError::Cancelled(_) => Status::cancelled(error.to_string()),
            error => Status::internal(error.to_string()),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
