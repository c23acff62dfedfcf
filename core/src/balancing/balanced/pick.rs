//! The endpoint picked for one call.

use std::sync::Arc;

use crate::Instance;
use crate::endpoints::InFlight;

/// The endpoint chosen for one call.
#[derive(Debug)]
#[non_exhaustive]
pub struct Picked<S> {
    /// Its service.
    pub service: S,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Counts the call as under way.
    pub in_flight: InFlight,
}
