//! One HTTP/2 connection to one instance.
//!
//! A [`Connector`] makes a [`Connection`] for an instance and a task that keeps it connected: it
//! dials, reports readiness to the endpointer, and dials again with backoff, whether or not there
//! are calls. It stops when the instance is removed; calls under way then finish, within a limit.

mod body;
mod call;
mod config;
mod connector;
mod dial;
mod error;
mod keeper;
mod link;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_core::InstanceId;
use tokio::sync::oneshot;
use tonic::body::Body;
use tower_service::Service;

pub use self::body::ResponseBody;
pub(crate) use self::call::Patient;
use self::call::Peer;
pub use self::call::ResponseFuture;
pub use self::config::ConnectionConfig;
pub use self::connector::Connector;
pub use self::error::ConnectionError;
pub(crate) use self::error::WasSent;
#[cfg(feature = "tls")]
pub(crate) use self::error::unavailable;
use self::link::Link;

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
    peer: Arc<Peer>,
    link: Arc<Link>,
    /// Tells the keeper, by being dropped, that nobody can call any more.
    _handle: oneshot::Sender<Infallible>,
}

impl Connection {
    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.inner.peer.instance
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
        let Inner { peer, link, .. } = &*self.inner;
        ResponseFuture::new(peer.clone(), link.sender(), request)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("instance", &self.inner.peer.instance)
            .field("connected", &self.inner.link.sender().is_some())
            .finish_non_exhaustive()
    }
}
