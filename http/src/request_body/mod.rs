//! A request's body as one attempt sends it.

mod progress;

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_client::{AttemptBody, AttemptError, ReplayBody, ReplayBuffer};
use fleetward_core::BoxError;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

pub(crate) use self::progress::Progress;

/// The caller's body.
pub(crate) type CallerBody = UnsyncBoxBody<Bytes, CallerError>;

/// Takes what is there of the caller's body; up to `limit` bytes are kept for further attempts.
///
/// # Errors
/// What the body fails with.
pub(crate) fn replay<B>(
    body: B,
    limit: usize,
    buffer: &Arc<ReplayBuffer>,
) -> Result<ReplayBody<CallerBody>, CallerError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let body = body.map_err(|error| CallerError(Arc::from(error.into()))).boxed_unsync();
    ReplayBody::new(body, limit, buffer)
}

/// The body of a request, as an instance's client gets it for one attempt.
///
/// It is either whole, and knows its length, or comes in over time. Its errors are those of the body that
/// the caller gave.
pub struct RequestBody {
    body: AttemptBody<CallerBody>,
    progress: Arc<Progress>,
}

impl RequestBody {
    pub(crate) fn new(body: AttemptBody<CallerBody>) -> Self {
        Self { body, progress: Arc::default() }
    }

    /// An empty one.
    pub fn empty() -> Self {
        Bytes::new().into()
    }

    /// What its client does with it.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes.into())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.progress.asked() {
            return Poll::Ready(Some(Err("the attempt was given up".into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(|error| match error {
            AttemptError::Body(caller) => caller.into(),
            AttemptError::Panicked => CallerError(Arc::from(BoxError::from("it panicked"))).into(),
            error => error.into(),
        })
    }

    fn is_end_stream(&self) -> bool {
        // One that must not be sent ends in an error.
        self.progress.asked() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.progress.asked() { self.body.size_hint() } else { SizeHint::default() }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBody").field(&self.body).finish()
    }
}

/// The caller's body failed, so that the instance is not to blame.
#[derive(Clone, Debug)]
pub(crate) struct CallerError(Arc<dyn Error + Send + Sync>);

impl fmt::Display for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request's body failed: {}", self.0)
    }
}

impl Error for CallerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
