//! The connections to an instance.
//!
//! Each instance has a client of its own, so that its idle connections go with it. There is no connection until there
//! is a call, and HTTP/1.1 has none that all calls share; so unlike gRPC's, an instance counts as ready until calls say
//! otherwise.

mod body;
mod call;
mod dial;
mod link;
mod pooled;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetward_core::endpoints::Readiness;
use fleetward_core::{BoxError, Error, ErrorKind, Factory, Instance};
use fleetward_http2::Config;
use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

pub use self::body::PooledBody;
use self::dial::Dialer;
use self::pooled::Version;
pub use self::pooled::{Pooled, PooledFuture};
use crate::Origin;
use crate::origin::{Kind, target};

/// Makes a client with pooled connections for each instance; a [`Factory`] for an
/// [`Endpointer`](fleetward_core::Endpointer). A [`Client`](crate::Client) has one inside unless told
/// otherwise.
///
/// Plaintext HTTP/1.1 by default. For TLS give it a connector, such as one of `hyper-rustls`: it is called
/// with the instance's address, `https://host:port`. An instance that asks for `https` is never talked to
/// in plaintext.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
/// use fleetward_http::{Client, Pool};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("shop", [Instance::new("10.0.0.1:80")?]);
/// let pool = Pool::new().with_connect_timeout(Duration::from_millis(500)).with_max_idle(32);
/// let client = Client::builder(list).build_on(pool);
/// # Ok::<(), fleetward_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Pool<C = HttpConnector> {
    connector: C,
    tls: bool,
    http2: bool,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_idle: usize,
    keep_alive_interval: Option<Duration>,
}

impl Pool {
    /// Connects in plaintext.
    ///
    /// A host that went dark is noticed within about ten seconds, by TCP keepalive probes after five
    /// seconds of silence and, on Linux, `TCP_USER_TIMEOUT`. A connector of yours has settings of its
    /// own.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
        Self::with(connector, false)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Pool<C> {
    /// Connects by `connector`, which must know TLS if an instance asks for `https`. One for plaintext
    /// alone must refuse `https`, as [`HttpConnector`] does.
    pub fn with_connector(connector: C) -> Self {
        Self::with(connector, true)
    }

    fn with(connector: C, tls: bool) -> Self {
        Self {
            connector,
            tls,
            http2: false,
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(30),
            max_idle: 64,
            keep_alive_interval: None,
        }
    }

    /// Talks HTTP/2 to every instance by prior knowledge, without asking (default: HTTP/1.1, or what TLS
    /// agrees on by ALPN). All calls to an instance share one connection.
    pub fn with_http2_only(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Pings an HTTP/2 connection each `interval` while there are calls, so that one whose other end
    /// silently went away is noticed (default: none; at least 1 s). No answer within 20 s closes it.
    pub fn with_http2_keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keep_alive_interval = Some(interval.max(Duration::from_secs(1)));
        self
    }

    /// Sets how long a connection may take to stand: name lookup, TCP, TLS and the server's HTTP/2 preface
    /// together (default 3 s).
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long an idle connection is kept (default 30 s). Longer than the server keeps it, and a
    /// call may meet a connection that is just being closed, which is an error to a POST.
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how many idle connections are kept to each instance (default 64; 0: none).
    pub fn with_max_idle(mut self, max: usize) -> Self {
        self.max_idle = max;
        self
    }
}

/// After so long a silence the other host's kernel is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long it may leave what was sent unconfirmed; then the connection is lost.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

#[async_trait]
impl<C> Factory<Origin<Pooled<C>>> for Pool<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    /// Returns at once; connections are made as calls need them.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for an instance that asks for `https` while there is no
    /// connector for it.
    async fn make(
        &self,
        instance: &Arc<Instance>,
        readiness: Readiness,
    ) -> Result<Origin<Pooled<C>>, Error> {
        let (scheme, authority) = target(instance)?;
        if !self.tls && scheme != Scheme::HTTP {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the instance asks for another scheme than http, and this pool has no connector for it",
            )
            .with_context("address", instance.address()));
        }
        let mut parts = http::uri::Parts::default();
        (parts.scheme, parts.authority) = (Some(scheme), Some(authority));
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(parts)
            .map_err(|error| Error::invalid_data("the address makes no URI").with_source(error))?;
        let mut http2 = Config::default();
        if let Some(interval) = self.keep_alive_interval {
            http2 = http2.with_keep_alive_interval(interval);
        }
        let known = match (self.http2, self.tls) {
            (true, _) => Version::Http2,
            (false, true) => Version::Unknown,
            // Nothing agrees on a version in plaintext.
            (false, false) => Version::Http1,
        };
        let dialer = Dialer {
            connector: self.connector.clone(),
            target: uri,
            http2_only: self.http2,
            timeout: self.connect_timeout,
            http2,
        };
        let mut http1 = legacy::Client::builder(TokioExecutor::new());
        http1
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.idle_timeout)
            .pool_max_idle_per_host(self.max_idle);
        let client = Pooled::new(dialer, known, readiness, self.idle_timeout, &http1);
        Origin::with(instance, Kind::Pooled, client)
    }
}

impl<C> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("http2", &self.http2)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_idle", &self.max_idle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_host_that_went_dark_is_noticed_and_small_writes_are_not_held_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut connector = Pool::new().connector;
        std::future::poll_fn(|cx| connector.poll_ready(cx)).await.unwrap();
        let stream = Service::<Uri>::call(&mut connector, target).await.unwrap().into_inner();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }
}
