//! How a connection to an instance is made and kept.

use std::time::Duration;

use fleetward_core::Error;
use fleetward_core::backoff::Backoff;
use http::HeaderValue;
use http::uri::Authority;

/// Thirty years: any longer, and the moment at which it ends may be none that a clock can show.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// What this crate calls itself to a server.
const USER_AGENT: &str = concat!("fleetward-grpc/", env!("CARGO_PKG_VERSION"));

/// Settings of the connections to instances: one HTTP/2 connection each.
///
/// ```
/// use std::time::Duration;
/// use fleetward_grpc::ConnectionConfig;
/// let config = ConnectionConfig::default()
///     .with_connect_timeout(Duration::from_millis(500))
///     .with_http2_keep_alive_interval(Duration::from_secs(30))
///     .with_user_agent("shop/1.4")?;
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionConfig {
    pub(super) connect_timeout: Duration,
    pub(super) max_dials: usize,
    pub(super) backoff: Backoff,
    pub(super) drain_timeout: Duration,
    pub(super) tcp_nodelay: bool,
    pub(super) tcp_keepalive: Option<Duration>,
    pub(super) tcp_user_timeout: Option<Duration>,
    pub(super) http2: fleetward_http2::Config,
    pub(super) user_agent: HeaderValue,
    pub(super) authority: Option<Authority>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            max_dials: 64,
            backoff: Backoff::default(),
            drain_timeout: Duration::from_secs(30),
            tcp_nodelay: true,
            tcp_keepalive: Some(Duration::from_secs(5)),
            tcp_user_timeout: Some(Duration::from_secs(10)),
            http2: fleetward_http2::Config::default(),
            user_agent: HeaderValue::from_static(USER_AGENT),
            authority: None,
        }
    }
}

impl ConnectionConfig {
    /// Sets how long a connection may take to stand: name lookup, TCP, TLS and the server's HTTP/2
    /// preface together (default 3 s).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(FOREVER);
        self
    }

    /// Sets how many connections of one [`Connector`](crate::Connector) are made at once (default
    /// 64, at least 1). The others wait their turn.
    #[must_use]
    pub fn with_max_dials(mut self, max: usize) -> Self {
        self.max_dials = max.max(1);
        self
    }

    /// Sets the waits between failed tries to connect (default: full jitter, from 100 ms to 10 s).
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long calls under way may go on after their instance was removed (default 30 s);
    /// then they are cut off.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets `TCP_NODELAY` (default true).
    #[must_use]
    pub fn with_tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.tcp_nodelay = nodelay;
        self
    }

    /// Sends a TCP keepalive probe on a connection that was silent for `idle`, and again each `idle`
    /// (default 5 s; `None`: no probes).
    ///
    /// The kernel of the other host answers, so no server's rule on pings applies. It shows that the
    /// host is gone, not that a process hangs; see
    /// [`with_http2_keep_alive_interval`](Self::with_http2_keep_alive_interval) for that.
    #[must_use]
    pub fn with_tcp_keepalive(mut self, idle: impl Into<Option<Duration>>) -> Self {
        let bounded = |idle: Duration| idle.clamp(Duration::from_secs(1), FOREVER);
        self.tcp_keepalive = idle.into().map(bounded);
        self
    }

    /// Sets how long a host may leave what was sent unconfirmed before the connection counts as lost
    /// (`TCP_USER_TIMEOUT`, as in gRFC A18; default 10 s; `None`: what the system does, mostly 15
    /// minutes). On Linux only; elsewhere it has no effect.
    ///
    /// With the keepalive probes, this ends the calls at a host that went dark within about so long,
    /// as `UNAVAILABLE`. They may have been carried out, so nothing is repeated by that alone: the
    /// retry policy decides. A server that is slow or hangs is not affected, for its kernel goes on
    /// confirming. Shorter than a few seconds, and an interruption of the network that calls would
    /// have survived ends them.
    #[must_use]
    pub fn with_tcp_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        let bounded = |timeout: Duration| timeout.clamp(Duration::from_millis(1), FOREVER);
        self.tcp_user_timeout = timeout.into().map(bounded);
        self
    }

    /// Pings the server each `interval` while there are calls, so that a process that hangs is noticed
    /// (default: none; at least 1 s). A host that is gone is noticed without it:
    /// [`with_tcp_user_timeout`](Self::with_tcp_user_timeout).
    ///
    /// gRPC servers answer pings that come too often with GOAWAY `too_many_pings`: grpc-go and
    /// grpc-core allow one in five minutes unless configured otherwise, which is too few to be of use
    /// here, and is why there are none by default. Agree on more with who runs the server.
    #[must_use]
    pub fn with_http2_keep_alive_interval(mut self, interval: Duration) -> Self {
        self.http2 = self.http2.with_keep_alive_interval(interval);
        self
    }

    /// Sets how long a ping's answer may take before the connection counts as lost (default 20 s).
    #[must_use]
    pub fn with_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.http2 = self.http2.with_keep_alive_timeout(timeout);
        self
    }

    /// Sets whether to ping while there are no calls (default false).
    #[must_use]
    pub fn with_keep_alive_while_idle(mut self, while_idle: bool) -> Self {
        self.http2 = self.http2.with_keep_alive_while_idle(while_idle);
        self
    }

    /// Sets the initial flow-control windows in bytes, of each stream and of the connection
    /// (default 2 MiB and 5 MiB).
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for one above 2^31 - 1.
    pub fn with_initial_windows(mut self, stream: u32, connection: u32) -> Result<Self, Error> {
        if stream.max(connection) > i32::MAX as u32 {
            return Err(Error::invalid_input("an HTTP/2 window has at most 2^31 - 1 bytes"));
        }
        self.http2 = self.http2.with_initial_windows(stream, connection);
        Ok(self)
    }

    /// Sets whether the windows follow the measured bandwidth; then
    /// [`with_initial_windows`](Self::with_initial_windows) has no effect (default false).
    #[must_use]
    pub fn with_http2_adaptive_window(mut self, adaptive: bool) -> Self {
        self.http2 = self.http2.with_adaptive_window(adaptive);
        self
    }

    /// Sets the largest HTTP/2 frame that a server may send, in bytes (default 16 KiB).
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) outside 2^14 to 2^24 - 1.
    pub fn with_max_frame_size(mut self, bytes: u32) -> Result<Self, Error> {
        if !(1 << 14..1 << 24).contains(&bytes) {
            return Err(Error::invalid_input(
                "an HTTP/2 frame has between 2^14 and 2^24 - 1 bytes",
            ));
        }
        self.http2 = self.http2.with_max_frame_size(bytes);
        Ok(self)
    }

    /// Puts `product` in front of this crate's own name in the `user-agent` header, behind what a
    /// request has there itself.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) if it cannot stand in a header.
    pub fn with_user_agent(mut self, product: &str) -> Result<Self, Error> {
        self.user_agent = HeaderValue::try_from(format!("{product} {USER_AGENT}"))
            .map_err(|_| Error::invalid_input("a user agent is printable text"))?;
        Ok(self)
    }

    /// Sets the `:authority` of every request (default: the request's own, or else the instance's
    /// address).
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) if it is no `host` or `host:port`.
    pub fn with_authority(mut self, authority: &str) -> Result<Self, Error> {
        let parsed = authority.parse::<Authority>().ok().filter(|a| !a.as_str().contains('@'));
        self.authority =
            Some(parsed.ok_or_else(|| Error::invalid_input("an authority is host or host:port"))?);
        Ok(self)
    }
}
