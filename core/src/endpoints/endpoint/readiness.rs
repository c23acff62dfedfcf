//! What a factory says of its service, and hears of its instance.

use std::fmt;
use std::sync::Arc;

use super::{Connectivity, EndpointState};
use crate::health::HealthReporter;
use crate::{Error, Instance};

/// The line between an endpoint's service and the [`Endpointer`](crate::Endpointer) that holds it.
///
/// A [`Factory`](crate::Factory) whose services connect by themselves says here when they can take
/// calls, and hears here when the instance is gone. One that does not care may drop it: its
/// services count as ready.
#[derive(Clone)]
pub struct Readiness {
    state: Arc<EndpointState>,
}

impl Readiness {
    /// Calls go through from now on.
    pub fn set_ready(&self) {
        self.state.set_connectivity(Connectivity::Ready, None);
    }

    /// A connection is being made: no call until it stands.
    pub fn set_connecting(&self) {
        self.state.set_connectivity(Connectivity::Connecting, None);
    }

    /// Connecting failed: no call until it stands. The error is named where a call finds no
    /// endpoint.
    pub fn set_failed(&self, error: Error) {
        self.state.set_connectivity(Connectivity::TransientFailure, Some(error));
    }

    /// Completes when the instance has been removed: stop dialling, finish what is in flight.
    pub async fn removed(&self) {
        self.state.removed().await;
    }

    /// Whether the instance has been removed.
    pub fn is_removed(&self) -> bool {
        self.state.is_removed()
    }

    /// The service that the instance is one of; empty for a [detached](Self::detached) one.
    pub fn service(&self) -> &str {
        self.state.service()
    }

    /// Completes when the endpoint has left the set of those that calls are sent to: it is removed,
    /// draining, ejected, unhealthy or not connected. At once if that is so already.
    ///
    /// What waits here with its request unsent gives it back then: another endpoint may have room.
    /// While an endpoint serves because too few others do, it is in the set.
    pub async fn withdrawn(&self) {
        self.state.withdrawn().await;
    }

    /// Whether the endpoint has left the set of those that calls are sent to.
    pub fn is_withdrawn(&self) -> bool {
        self.state.is_withdrawn()
    }

    /// Where a health check of this endpoint says what it finds out.
    ///
    /// The endpoint takes no call from now on until it has said so for the first time:
    /// [`HealthChecked`](crate::health::HealthChecked) is what mostly calls this.
    pub fn health(&self) -> HealthReporter {
        HealthReporter::new(self.state.clone())
    }

    /// For a service that is used without an endpointer: ready, never removed, nobody listens.
    pub fn detached(instance: &Instance) -> Self {
        Self { state: Arc::new(EndpointState::new(Arc::default(), instance)) }
    }

    /// Whether there is an endpointer that listens.
    pub(crate) fn is_attached(&self) -> bool {
        self.state.is_attached()
    }

    pub(crate) fn new(state: Arc<EndpointState>) -> Self {
        Self { state }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("connectivity", &self.state.connectivity())
            .field("removed", &self.is_removed())
            .finish_non_exhaustive()
    }
}
