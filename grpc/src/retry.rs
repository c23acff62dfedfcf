//! What a channel tries again.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::Backoff;
use tonic::Code;

/// When a call that failed is sent again, on another instance.
///
/// Apart from any policy, a channel sends a request again that no server can have acted on: the
/// connection was down before it left, or the server refused it unseen.
///
/// The defaults are three attempts, the first one included, after `UNAVAILABLE` only, which is safe
/// for methods that may run twice. What is retried is a status in the response's head; once a
/// response has begun it is delivered as it comes.
///
/// A request is kept for another attempt if its whole body is there at once (every unary call) and
/// is no larger than [the limit](crate::ChannelBuilder::replay_limit). A body that comes in over
/// time is sent once.
///
/// ```
/// use std::time::Duration;
/// use fleetward_grpc::RetryPolicy;
/// use tonic::Code;
/// let policy = RetryPolicy::default()
///     .with_max_attempts(4)
///     .with_codes([Code::Unavailable, Code::ResourceExhausted])
///     .with_per_attempt_timeout(Duration::from_millis(250));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    max_attempts: u32,
    codes: Arc<[Code]>,
    per_attempt_timeout: Option<Duration>,
    backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
        Self {
            max_attempts: 3,
            codes: Arc::new([Code::Unavailable]),
            per_attempt_timeout: None,
            backoff: backoff.unwrap_or_default(),
        }
    }
}

impl RetryPolicy {
    /// The most attempts a call makes, whatever was asked for.
    pub const MAX_ATTEMPTS: u32 = 5;

    /// Sets how many attempts there are at most, the first one included (default 3): at least 1, at
    /// most [`MAX_ATTEMPTS`](Self::MAX_ATTEMPTS).
    #[must_use]
    pub fn with_max_attempts(mut self, max: u32) -> Self {
        self.max_attempts = max.clamp(1, Self::MAX_ATTEMPTS);
        self
    }

    /// Sets the codes after which a call is tried again (default: `UNAVAILABLE` only). `OK` among
    /// them has no effect.
    #[must_use]
    pub fn with_codes(mut self, codes: impl IntoIterator<Item = Code>) -> Self {
        self.codes = codes.into_iter().collect();
        self
    }

    /// Sets the deadline of each attempt (default: none but the call's). One that passes it is
    /// cancelled and tried again, and the last one is `DEADLINE_EXCEEDED`. It covers the wait for an
    /// endpoint and for the response's head, not the body.
    #[must_use]
    pub fn with_per_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.per_attempt_timeout = Some(timeout);
        self
    }

    /// Sets the waits between attempts (default: full jitter, from 25 ms to 1 s).
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    pub(crate) fn retries(&self, code: Code) -> bool {
        self.codes.contains(&code)
    }

    pub(crate) fn per_attempt_timeout(&self) -> Option<Duration> {
        self.per_attempt_timeout
    }

    pub(crate) fn backoff(&self) -> &Backoff {
        &self.backoff
    }
}
