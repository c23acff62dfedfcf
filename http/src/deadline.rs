//! The one deadline of a call: everything up to the end of the response's body.

use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

/// The deadline of one call, put into its request's extensions: it takes the place of
/// [`ClientBuilder::timeout`](crate::ClientBuilder::timeout).
///
/// ```
/// use std::time::Duration;
/// use fleetward_http::Timeout;
/// let request = http::Request::get("/users/7")
///     .extension(Timeout(Duration::from_millis(250)))
///     .body(String::new())?;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Duration);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
}

impl Deadline {
    /// Of a call that begins now. Nothing if it lies beyond the clock's range.
    pub(crate) fn of(extensions: &Extensions, default: Option<Duration>) -> Option<Self> {
        let timeout = extensions.get().map(|Timeout(own)| *own).or(default)?;
        Some(Self { at: Instant::now().checked_add(timeout)? })
    }

    /// This one, or so long from now if it has passed.
    pub(crate) fn or_in(self, grace: Duration) -> Self {
        let now = Instant::now();
        let at = if self.at <= now { now.checked_add(grace).unwrap_or(self.at) } else { self.at };
        Self { at }
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}
