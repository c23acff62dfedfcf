//! What a client tries again.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::backoff::Backoff;
use http::{Method, StatusCode};

/// When a call that failed is sent again, on another instance.
///
/// Apart from any policy, a client sends a request again that never left: no connection could be made, in
/// time or at all.
///
/// The defaults are three attempts, the first one included, of methods that are idempotent by
/// RFC 9110, section 9.2.2 (GET, HEAD, OPTIONS, TRACE, PUT, DELETE), after 429, 502, 503, 504, a
/// connection that broke, and an attempt that took too long. When no attempt is left, the caller gets the
/// last response as it came.
///
/// `Retry-After` is honoured. A 429 is about the caller, so that is waited out; other statuses are about
/// the instance that sent them, so another instance is tried without waiting for it, if there is one. What
/// is longer than [`with_longest_wait`](Self::with_longest_wait) or than what is left of the deadline
/// ends the call with that response.
///
/// A request's body is kept for another attempt as it comes in, up to
/// [the limit](crate::ClientBuilder::replay_limit). What is longer goes to the attempt that is under way, and no other
/// follows.
///
/// ```
/// use std::time::Duration;
/// use fleetward_http::RetryPolicy;
/// use http::{Method, StatusCode};
/// let policy = RetryPolicy::default()
///     .with_max_attempts(4)
///     .with_methods([Method::GET, Method::HEAD])
///     .with_statuses([StatusCode::SERVICE_UNAVAILABLE])
///     .with_per_attempt_timeout(Duration::from_millis(250));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    pub(crate) max_attempts: u32,
    methods: Arc<[Method]>,
    statuses: Arc<[StatusCode]>,
    pub(crate) per_attempt_timeout: Option<Duration>,
    pub(crate) longest_wait: Duration,
    pub(crate) backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
        Self {
            max_attempts: 3,
            methods: Arc::new([
                Method::GET,
                Method::HEAD,
                Method::OPTIONS,
                Method::TRACE,
                Method::PUT,
                Method::DELETE,
            ]),
            statuses: Arc::new([
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ]),
            per_attempt_timeout: None,
            longest_wait: Duration::from_secs(5),
            backoff: backoff.unwrap_or_default(),
        }
    }
}

impl RetryPolicy {
    /// Sets how many attempts there are at most, the first one included (default 3, at least 1).
    #[must_use]
    pub fn with_max_attempts(mut self, max: u32) -> Self {
        self.max_attempts = max.max(1);
        self
    }

    /// Sets the methods that may run twice (default: those that RFC 9110 calls idempotent). With POST
    /// among them, a server may act on one request as often as there are attempts.
    #[must_use]
    pub fn with_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Sets the statuses after which a call is tried again (default: 429, 502, 503 and 504).
    #[must_use]
    pub fn with_statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.statuses = statuses.into_iter().collect();
        self
    }

    /// Sets the deadline of each attempt (default: none but the call's). It begins when the attempt has an
    /// endpoint and covers the connection and the wait for the response's head, not the body. A request that has
    /// not left by then goes to another instance whatever its method; whether it has is known of a
    /// [`Pool`](crate::Pool)'s client only.
    #[must_use]
    pub fn with_per_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.per_attempt_timeout = Some(timeout);
        self
    }

    /// Sets the longest `Retry-After` that is waited for (default 5 s; 0: none is).
    #[must_use]
    pub fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// Sets the waits between attempts where the server names none (default: full jitter, from 25 ms
    /// to 1 s).
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    pub(crate) fn covers(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    pub(crate) fn retries(&self, status: StatusCode) -> bool {
        self.statuses.contains(&status)
    }
}
