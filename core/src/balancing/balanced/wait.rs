//! How long a call waits for an endpoint.

use std::time::Duration;

/// What a call does that finds no endpoint ready, or none that takes it: where a
/// [`Retry`](crate::Retry) is above, all attempts together that were not sent wait so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitForReady {
    /// Fail at once.
    FailFast,
    /// Wait for the first one, at most this long. The caller's own deadline may end it sooner:
    /// dropping the call's future is all it takes.
    AtMost(Duration),
}

impl Default for WaitForReady {
    fn default() -> Self {
        Self::AtMost(Duration::from_secs(3))
    }
}
