//! Where a call goes.

use crate::endpoints::InFlight;

/// All that a call needs of the endpoint picked.
pub(super) type ToCall<S> = (S, InFlight);

/// Where a call goes.
pub(super) enum Choice<T> {
    Picked(T),
    /// No endpoint is ready, or the balancer chose none.
    Nothing,
    /// To one that was tried before. The attempt before this one came back unsent, so it is not worth
    /// trying again at once.
    Tried,
}

/// Whether a call may go where it was refused before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    No,
    Yes,
}
