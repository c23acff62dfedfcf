//! A request's body in a form that can be sent more than once.

mod loan;
mod progress;
mod source;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::BoxError;
use http_body::{Body, Frame, SizeHint};

use self::loan::Loan;
pub(crate) use self::progress::Progress;
pub(crate) use self::source::Source;

/// The body of a request, as an instance's client gets it for one attempt.
///
/// It is either whole, and knows its length, or comes in over time. Its errors are those of the body that
/// the caller gave.
pub struct RequestBody {
    kind: Kind,
    progress: Arc<Progress>,
}

enum Kind {
    Whole(Option<Bytes>),
    Loan(Loan),
}

impl RequestBody {
    fn new(kind: Kind) -> Self {
        Self { kind, progress: Arc::default() }
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
        Self::new(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
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
        match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Loan(loan) => loan.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        // One that must not be sent ends in an error.
        self.progress.asked()
            && match &self.kind {
                Kind::Whole(bytes) => bytes.is_none(),
                Kind::Loan(loan) => loan.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        if !self.progress.asked() {
            return SizeHint::default();
        }
        match &self.kind {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Loan(loan) => loan.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = matches!(self.kind, Kind::Whole(_));
        f.debug_struct("RequestBody").field("whole", &whole).finish_non_exhaustive()
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
