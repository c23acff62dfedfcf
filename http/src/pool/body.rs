//! The body of a pool's response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::BoxError;
use http_body::{Body, Frame, SizeHint};

use super::link::InUse;

/// What comes in for a response over a [`Pooled`](super::Pooled) client's connection.
pub struct PooledBody(Version);

enum Version {
    Http1(hyper::body::Incoming),
    Http2(fleetward_http2::Incoming, Option<InUse>),
}

impl PooledBody {
    pub(super) fn http1(body: hyper::body::Incoming) -> Self {
        Self(Version::Http1(body))
    }

    pub(super) fn http2(body: fleetward_http2::Incoming, connection: InUse) -> Self {
        let connection = Some(connection).filter(|_| !body.is_end_stream());
        Self(Version::Http2(body, connection))
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Version::Http1(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Version::Http2(body, connection) => {
                let polled = Pin::new(body).poll_frame(cx);
                if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    *connection = None;
                }
                polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Version::Http1(body) => body.is_end_stream(),
            Version::Http2(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Version::Http1(body) => body.size_hint(),
            Version::Http2(body, _) => body.size_hint(),
        }
    }
}

impl fmt::Debug for PooledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBody").field("ended", &self.is_end_stream()).finish_non_exhaustive()
    }
}
