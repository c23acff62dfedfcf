//! What a channel sends more than once at a time.

use std::time::Duration;

use tonic::Code;

use crate::RetryPolicy;
use crate::codes::Codes;

/// When a call that is still unanswered is sent to further instances, without giving up the first.
///
/// Choose it for methods that may run several times, at once and to the end, and whose slowest calls
/// matter more than the load: reads with a tail of latencies. A delay near the 95th percentile sends
/// about one call in twenty twice. A [`RetryPolicy`] sends a call again only when it has failed.
///
/// The first attempt goes out at once, the next one each time the delay has passed, up to the most
/// attempts; each goes to an instance that has none of the others, as long as there is one. The first
/// success is the call's answer and cancels the rest. A failure with a code that is *not fatal* sends
/// the next attempt at once; any other is the call's answer. When all have failed, so has the call.
///
/// This is the hedging of [gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md);
/// the idea is that of "The Tail at Scale", CACM 2013.
///
/// ```
/// use std::time::Duration;
/// use fleetward_grpc::HedgingPolicy;
/// use tonic::Code;
/// let policy = HedgingPolicy::new(Duration::from_millis(50))
///     .with_max_attempts(3)
///     .with_non_fatal_codes([Code::Unavailable, Code::ResourceExhausted]);
/// assert!(policy.is_non_fatal(Code::Unavailable));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HedgingPolicy {
    max_attempts: u32,
    delay: Duration,
    non_fatal: Codes,
}

impl HedgingPolicy {
    /// The most attempts a call makes, whatever was asked for.
    pub const MAX_ATTEMPTS: u32 = RetryPolicy::MAX_ATTEMPTS;

    /// Two attempts, the second after `delay`, or at once if the first is `UNAVAILABLE`. A delay of
    /// zero sends all attempts at once.
    pub fn new(delay: Duration) -> Self {
        Self { max_attempts: 2, delay, non_fatal: [Code::Unavailable].into_iter().collect() }
    }

    /// For methods that may run more than once and should not wait for an instance that went dark:
    /// three attempts, half a second apart, or at once after `UNAVAILABLE`. Nothing is cut off, so a
    /// method may take longer. [`ChannelBuilder::idempotent`](crate::ChannelBuilder::idempotent)
    /// uses it.
    pub fn idempotent() -> Self {
        Self::new(Duration::from_millis(500)).with_max_attempts(3)
    }

    /// Sets how many attempts there are at most, the first one included (default 2): at least 1, at
    /// most [`MAX_ATTEMPTS`](Self::MAX_ATTEMPTS).
    #[must_use]
    pub fn with_max_attempts(mut self, max: u32) -> Self {
        self.max_attempts = max.clamp(1, Self::MAX_ATTEMPTS);
        self
    }

    /// Sets the codes after which the other attempts go on, and the next one is sent at once
    /// (default: `UNAVAILABLE` only). `OK` among them has no effect.
    #[must_use]
    pub fn with_non_fatal_codes(mut self, codes: impl IntoIterator<Item = Code>) -> Self {
        self.non_fatal = codes.into_iter().collect();
        self
    }

    /// How many attempts there are at most, the first one included.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// How long after one attempt the next one is sent.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Whether the other attempts go on after one has failed so.
    pub fn is_non_fatal(&self, code: Code) -> bool {
        code != Code::Ok && self.non_fatal.contains(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_brought_inside_the_limits() {
        let policy = HedgingPolicy::new(Duration::ZERO);
        assert_eq!(policy.clone().with_max_attempts(0).max_attempts(), 1);
        assert_eq!(policy.with_max_attempts(u32::MAX).max_attempts(), 5);
    }

    #[test]
    fn a_success_is_never_a_failure_that_others_may_mend() {
        let policy = HedgingPolicy::new(Duration::ZERO).with_non_fatal_codes([Code::Ok]);
        assert!(!policy.is_non_fatal(Code::Ok));
    }
}
