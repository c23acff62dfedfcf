//! The settings of a connection.

use std::time::Duration;

/// Thirty years. The end of anything longer may be no moment that a clock can show.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// In bytes.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 5 * 1024 * 1024;

/// What every connection begins with (RFC 9113, 6.9.2).
pub(crate) const SPEC_WINDOW: u32 = 65_535;

/// HTTP/2's own settings of a connection.
///
/// ```
/// use std::time::Duration;
/// use fleetward_http2::Config;
/// let config = Config::default().with_keep_alive_interval(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug)]
#[must_use]
#[non_exhaustive]
pub struct Config {
    pub(crate) keep_alive_interval: Option<Duration>,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) keep_alive_while_idle: bool,
    stream_window: u32,
    connection_window: u32,
    pub(crate) adaptive_window: bool,
    pub(crate) max_frame_size: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_alive_interval: None,
            keep_alive_timeout: Duration::from_secs(20),
            keep_alive_while_idle: false,
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            adaptive_window: false,
            max_frame_size: 16 * 1024,
        }
    }
}

impl Config {
    /// Pings the server if nothing came in for `interval` while there are streams (default: no pings; at least 1 s).
    pub fn with_keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keep_alive_interval = Some(interval.clamp(Duration::from_secs(1), FOREVER));
        self
    }

    /// Sets how long a ping's answer may take before the connection counts as lost (default 20 s).
    pub fn with_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keep_alive_timeout = timeout.min(FOREVER);
        self
    }

    /// Sets whether to ping while there are no streams (default false).
    pub fn with_keep_alive_while_idle(mut self, while_idle: bool) -> Self {
        self.keep_alive_while_idle = while_idle;
        self
    }

    /// Sets the flow-control windows in bytes, of each stream and of the connection (default 2 MiB and 5 MiB; at
    /// most 2^31 - 1).
    pub fn with_initial_windows(mut self, stream: u32, connection: u32) -> Self {
        self.stream_window = stream.min(i32::MAX as u32);
        self.connection_window = connection.min(i32::MAX as u32);
        self
    }

    /// Sets whether the windows follow the measured bandwidth (default false). If they do, the initial windows have
    /// no effect.
    pub fn with_adaptive_window(mut self, adaptive: bool) -> Self {
        self.adaptive_window = adaptive;
        self
    }

    /// Sets the largest frame that the server may send, in bytes (default 16 KiB; from 2^14 to 2^24 - 1).
    pub fn with_max_frame_size(mut self, bytes: u32) -> Self {
        self.max_frame_size = bytes.clamp(1 << 14, (1 << 24) - 1);
        self
    }

    /// Of a stream, and of the connection.
    pub(crate) fn windows(&self) -> (u32, u32) {
        match self.adaptive_window {
            true => (SPEC_WINDOW, SPEC_WINDOW),
            false => (self.stream_window, self.connection_window),
        }
    }
}
