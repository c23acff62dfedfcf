//! What may be said of an endpoint.

/// Whether an endpoint can take a call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connectivity {
    /// Calls go through.
    Ready,
    /// A connection is being made.
    Connecting,
    /// The last try to connect failed; another one follows.
    TransientFailure,
}

/// What active health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Checked {
    /// Nobody checks.
    Never,
    /// Checks have begun; none has spoken.
    Pending,
    Healthy,
    Unhealthy,
}
