//! One request over an instance's HTTP/2 connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fleetward_core::endpoints::Readiness;
use fleetward_core::{BoxError, Error, ErrorKind};
use fleetward_http2::{Call, CallError, Caller, Unsent};
use futures::future::BoxFuture;
use h2::Reason;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};

use super::body::PooledBody;
use super::link::InUse;
use crate::request_body::{CallerError, Progress, RequestBody};

/// What the calls of one instance have in common.
pub(super) struct Peer {
    /// Says when no call should wait here any more.
    pub(super) readiness: Readiness,
}

impl Caller for Peer {
    type Body = Outgoing;

    /// A body is asked for its length when its request leaves, and not before: until then it counts as not sent.
    fn complete(&self, request: &mut Request<Outgoing>) {
        if let Some(length) = request.body().size_hint().exact().filter(|length| *length > 0) {
            request.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
        }
    }

    fn withdrawn(&self, _: &Request<Outgoing>) -> Option<BoxFuture<'static, ()>> {
        let readiness = self.readiness.clone();
        Some(Box::pin(async move { readiness.withdrawn().await }))
    }

    fn reason(error: &Failed) -> Reason {
        match error {
            Failed::Caller => Reason::INTERNAL_ERROR,
            Failed::GivenUp => Reason::CANCEL,
        }
    }
}

/// A request's body on its way out. It leaves its error where the call finds it: the stream only ends with a reset.
pub(super) struct Outgoing(RequestBody);

/// Why a body is not sent to its end.
#[derive(Debug)]
pub(super) enum Failed {
    /// The caller's body has failed.
    Caller,
    /// The attempt was given up, or another one has the body.
    GivenUp,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let Some(frame) = ready!(Pin::new(&mut self.0).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(frame.map_err(|error| {
            let failed = if error.is::<CallerError>() { Failed::Caller } else { Failed::GivenUp };
            self.0.progress().fail(error);
            failed
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The response to a request.
pub(super) struct Http2Call {
    call: Call<Peer>,
    connection: Option<InUse>,
    progress: Arc<Progress>,
}

impl Http2Call {
    pub(super) fn new(peer: &Arc<Peer>, connection: InUse, request: Request<RequestBody>) -> Self {
        let progress = request.body().progress().clone();
        let request = request.map(Outgoing);
        let call = Call::new(peer.clone(), Some(connection.sender()), request);
        Self { call, connection: Some(connection), progress }
    }
}

impl Future for Http2Call {
    type Output = Result<Response<PooledBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.call).poll(cx));
        // It is there until the response is.
        let Some(connection) = self.connection.take() else { return Poll::Pending };
        Poll::Ready(match result {
            Ok((response, _)) => Ok(response.map(|body| PooledBody::http2(body, connection))),
            Err(CallError::Failed(lost)) => {
                Err(self.progress.take_failure().unwrap_or_else(|| lost.into()))
            }
            Err(CallError::Unsent { why, .. }) => Err(unsent(why).into()),
        })
    }
}

fn unsent(why: Unsent) -> Error {
    let error = |what| Error::new(ErrorKind::Unavailable, what).with_nothing_sent();
    match why {
        Unsent::Withdrawn => error("the instance takes no more calls; the request was not sent"),
        Unsent::Down(Some(lost)) => {
            error("the connection is down; the request was not sent").with_source(lost)
        }
        _ => error("the connection is down; the request was not sent"),
    }
}

impl fmt::Debug for Http2Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http2Call").field(&self.call).finish()
    }
}
