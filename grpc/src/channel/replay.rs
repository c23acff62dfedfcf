//! The request of a call, from which each attempt takes its own (gRFC A6).

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_client::{
    AttemptBody, AttemptError, ClientSettings, Deadline, Exchange, ReplayBody, RequestHead,
};
use fleetward_core::BoxError;
use http::{HeaderName, HeaderValue};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::body::{CallBody, Guard};
use super::head::Head;
use super::rejected::Rejected;

/// How many attempts of the call a server may have seen before this one.
static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// The request of a call.
pub(super) struct Replay<'a, B> {
    head: &'a RequestHead,
    deadline: Option<Deadline>,
    body: ReplayBody<Body>,
    /// Whether the last attempt was given up before it left.
    came_back: AtomicBool,
    /// The body of a response.
    response: PhantomData<fn() -> B>,
}

impl<'r, B> Replay<'r, B> {
    /// Takes what is there of the body, at once. A unary request is there whole.
    ///
    /// # Errors
    /// What the body fails with.
    pub(super) fn new(
        head: &'r RequestHead,
        body: Body,
        deadline: Option<Deadline>,
        settings: &ClientSettings,
    ) -> Result<Self, Status> {
        let body = ReplayBody::new(body, settings.replay_limit, &settings.replay_buffer)?;
        Ok(Self { head, deadline, body, came_back: AtomicBool::new(false), response: PhantomData })
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

impl<B> Exchange for &Replay<'_, B> {
    type Request = http::Request<Body>;
    type Body = Body;
    type Response = http::Response<CallBody<B>>;

    /// The deadline stands in its extensions: the connection is the first to know when it leaves.
    fn request(&self, previous: u32) -> Option<(http::Request<Body>, Guard)> {
        let (body, guard) = self.body.attempt()?;
        let mut parts = self.head.for_attempt();
        if let Some(deadline) = self.deadline {
            parts.extensions.insert(deadline);
        }
        if previous > 0 {
            parts.headers.insert(&PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        Some((http::Request::from_parts(parts, Body::new(Messages(body))), guard))
    }

    fn answered(
        &self,
        mut response: http::Response<CallBody<B>>,
        guard: Guard,
    ) -> Result<http::Response<CallBody<B>>, BoxError> {
        match response.body().head() {
            Head::Failed(code) | Head::Foreign(code) => {
                Err(Rejected { code, head: response.into_parts().0 }.into())
            }
            Head::Begun | Head::Succeeded => {
                if let Some(guard) = guard.commit() {
                    response.body_mut().hold(guard);
                }
                Ok(response)
            }
        }
    }

    fn came_back(&self) {
        self.came_back.store(true, Ordering::Relaxed);
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
