//! What is learned from calls.

use std::time::Duration;

/// Settings of what an endpoint learns from its calls.
///
/// Its latency is a Peak EWMA, the moving average of Twitter's Finagle: a sample above the average
/// replaces it at once, one below pulls it down by `1 - e^(-dt/decay)`, where `dt` is the time since
/// the last sample; without samples it fades towards zero, so that an endpoint that was slow once
/// is tried again.
///
/// A failed call counts as a sample of `failure_penalty`, for failures are often quick. A lone one is
/// averaged in, without jumping up: at 1 % errors the average rises by 1 % of the penalty, and an
/// endpoint that fails now and then keeps its calls. The third in a row is believed at once, and each
/// one more doubles the average, up to a minute. The time that a failed call took, and the time for
/// which the server asks to be left alone, are believed at once in any case.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::endpoints::FeedbackConfig;
/// let feedback = FeedbackConfig::default().with_latency_decay(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedbackConfig {
    decay_seconds: f32,
    failure_penalty: Duration,
}

impl Default for FeedbackConfig {
    fn default() -> Self {
        Self { decay_seconds: 10.0, failure_penalty: Duration::from_secs(5) }
    }
}

impl FeedbackConfig {
    /// Sets after what time an old sample counts 1/e (default 10 s, between 1 ms and a day).
    #[must_use]
    pub fn with_latency_decay(mut self, decay: Duration) -> Self {
        self.decay_seconds = decay.as_secs_f32().clamp(0.001, 86_400.0);
        self
    }

    /// Sets the latency that a failed call counts as (default 5 s, at most an hour; with zero, failures
    /// count only as the time that they took).
    #[must_use]
    pub fn with_failure_penalty(mut self, penalty: Duration) -> Self {
        self.failure_penalty = penalty.min(Duration::from_secs(3600));
        self
    }

    pub(crate) fn decay_seconds(&self) -> f32 {
        self.decay_seconds
    }

    pub(crate) fn failure_penalty(&self) -> Duration {
        self.failure_penalty
    }
}
