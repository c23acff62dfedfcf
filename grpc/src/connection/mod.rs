//! One HTTP/2 connection to one instance.
//!
//! A [`Connector`] makes a [`Connection`] for an instance and a task that keeps it connected: it
//! dials, reports readiness to the endpointer, and dials again with backoff, whether or not there
//! are calls. It stops when the instance is removed; calls under way then finish, within a limit.

mod body;
mod config;
mod connector;
mod dial;
mod driver;
mod error;
mod keeper;
mod link;
mod ping;
mod preface;
mod slots;
mod stream;
mod upload;
mod withdrawn;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_core::InstanceId;
use fleetward_core::endpoints::Readiness;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri, header};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::body::Body;
use tower_service::Service;

pub use self::body::ResponseBody;
pub use self::config::ConnectionConfig;
pub use self::connector::Connector;
#[cfg(feature = "tls")]
pub(crate) use self::dial::unavailable;
pub use self::error::ConnectionError;
pub(crate) use self::error::Fate;
use self::link::Link;
pub(crate) use self::stream::Patient;
pub use self::stream::ResponseFuture;
use crate::deadline::Deadline;

/// A client of one instance, as a [`Connector`] makes it: a tower service over its connection.
///
/// It is always ready and never waits for a connection: a call that finds none gets its request back
/// in the [`ConnectionError`], for another instance. Whether a connection stands is said to the
/// endpointer, which offers an instance to calls only while it does. The response's extensions hold
/// the [`InstanceId`].
///
/// The connection is kept until the instance is removed or the last clone is dropped.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    instance: InstanceId,
    scheme: Scheme,
    authority: Authority,
    authority_is_forced: bool,
    user_agent: HeaderValue,
    link: Arc<Link>,
    /// Says when nobody should wait here any more.
    readiness: Readiness,
    /// Where the rest of long requests is sent.
    runtime: Handle,
    /// Tells the keeper, by being dropped, that nobody can call any more.
    _handle: oneshot::Sender<Infallible>,
}

impl Connection {
    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.inner.instance
    }
}

impl Inner {
    /// A request with everything that HTTP/2 asks for; gRPC's own headers are tonic's matter.
    fn complete(&self, request: &mut http::Request<Body>) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        if self.authority_is_forced || parts.authority.is_none() {
            parts.authority = Some(self.authority.clone());
        }
        if parts.path_and_query.is_none() {
            parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        }
        // All three parts are there, so this cannot fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = http::Version::HTTP_2;
        let ours = self.user_agent.clone();
        if let Some(given) = request.headers_mut().insert(header::USER_AGENT, ours) {
            let both = [given.as_bytes(), b" ", self.user_agent.as_bytes()].concat();
            if let Ok(both) = HeaderValue::from_bytes(&both) {
                request.headers_mut().insert(header::USER_AGENT, both);
            }
        }
        if let Some(deadline) = request.extensions().get::<Deadline>().copied() {
            deadline.write(request.headers_mut());
        }
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<ResponseBody>;
    type Error = ConnectionError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> ResponseFuture {
        ResponseFuture::new(self.inner.clone(), request)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("instance", &self.inner.instance)
            .field("connected", &self.inner.link.sender().is_some())
            .finish_non_exhaustive()
    }
}
