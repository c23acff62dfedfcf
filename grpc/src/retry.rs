//! What a channel tries again.

use std::time::Duration;

use fleetward_core::backoff::{Backoff, Jitter};
use tonic::Code;

use crate::codes::Codes;

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
/// time is kept as it comes, for as long as it is within the limit and no response has begun.
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
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    max_attempts: u32,
    codes: Codes,
    per_attempt_timeout: Option<Duration>,
    backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
        Self {
            max_attempts: 3,
            codes: [Code::Unavailable].into_iter().collect(),
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
    /// cancelled and tried again, and the last one is `DEADLINE_EXCEEDED`. It begins when the attempt has
    /// an endpoint and covers the wait for the response's head, not the body. An attempt whose request has not left by
    /// then, because the server has no room for another stream, does not count.
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

    /// Sets the waits as gRPC's configuration gives them: `initial`, then `multiplier` times the one
    /// before, up to `max`, each of them drawn between 0.8 and 1.2 times that. Values are
    /// clamped to what a [`Backoff`] can be: `initial` is at most `max`, both lie between 1 ns and
    /// [a day](Backoff::LONGEST), the multiplier between 1 and 100 (NaN means 1).
    ///
    /// ```
    /// use std::time::Duration;
    /// use fleetward_grpc::RetryPolicy;
    /// let (initial, max) = (Duration::from_millis(100), Duration::from_secs(1));
    /// let policy = RetryPolicy::default().with_exponential_backoff(initial, max, 2.0);
    /// assert_eq!(policy.backoff().step(1), Duration::from_millis(200));
    /// ```
    #[must_use]
    pub fn with_exponential_backoff(
        self,
        initial: Duration,
        max: Duration,
        multiplier: f64,
    ) -> Self {
        self.with_backoff(exponential(initial, max, multiplier))
    }

    /// How many attempts there are at most, the first one included.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Whether a call that failed so is tried again.
    pub fn retries(&self, code: Code) -> bool {
        code != Code::Ok && self.codes.contains(code)
    }

    /// The deadline of each attempt.
    pub fn per_attempt_timeout(&self) -> Option<Duration> {
        self.per_attempt_timeout
    }

    /// The waits between attempts.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }
}

/// gRFC A6's numbers as the waits of this project: the one place that turns one into the other.
fn exponential(initial: Duration, max: Duration, multiplier: f64) -> Backoff {
    let least = Duration::from_nanos(1);
    let max = max.clamp(least, Backoff::LONGEST);
    let multiplier = if multiplier.is_nan() { 1.0 } else { multiplier.clamp(1.0, 100.0) };
    Backoff::new(initial.clamp(least, max), max)
        .and_then(|backoff| backoff.with_multiplier(multiplier))
        .and_then(|backoff| backoff.with_jitter(Jitter::Fraction(0.2)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_becomes_a_backoff_between_the_limits() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let steps = |initial, max, multiplier| {
            let backoff = exponential(initial, max, multiplier);
            [0, 1, 2].map(|failures| backoff.step(failures))
        };
        assert_eq!(steps(second, hour, 2.0), [1, 2, 4].map(Duration::from_secs));
        assert_eq!(steps(hour, second, 2.0), [second; 3]);
        assert_eq!(steps(second, hour, 0.5), [second; 3]);
        assert_eq!(steps(second, hour, f64::NAN), [second; 3]);
        assert_eq!(steps(second, hour, f64::INFINITY), [1, 100, 3600].map(Duration::from_secs));
        assert_eq!(steps(Duration::MAX, Duration::MAX, 1e300), [Backoff::LONGEST; 3]);
        assert_eq!(steps(Duration::ZERO, Duration::ZERO, 0.0), [Duration::from_nanos(1); 3]);
    }
}
