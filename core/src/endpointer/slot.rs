//! What the endpointer holds for one instance id.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::time::delay_queue::Key;

use super::set::Endpoint;
use crate::endpoint::{Checked, EndpointState, Surroundings};
use crate::{Backoff, BackoffState, Connectivity, Error, Instance, Member, Readiness};

/// One instance on its way to an endpoint. Dropping it removes the endpoint: it takes no new call,
/// stops dialling, and its service goes when the calls under way have ended.
pub(super) struct Slot<S> {
    instance: Arc<Instance>,
    state: Arc<EndpointState>,
    service: Option<S>,
    /// Tells the results of this slot's factory from those of an earlier one of the same id.
    pub(super) generation: u64,
    /// Its place among the factories that wait for their next try.
    pub(super) later: Option<Key>,
    backoff: BackoffState,
    was_available: bool,
    error: Option<Error>,
}

impl<S: Clone> Slot<S> {
    pub(super) fn new(
        around: Arc<Surroundings>,
        instance: Arc<Instance>,
        generation: u64,
        backoff: Backoff,
        rng: fastrand::Rng,
    ) -> Self {
        Self {
            state: Arc::new(EndpointState::new(around, &instance)),
            instance,
            service: None,
            generation,
            later: None,
            backoff: BackoffState::new(backoff, rng),
            was_available: false,
            error: None,
        }
    }

    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(super) fn readiness(&self) -> Readiness {
        Readiness::new(self.state.clone())
    }

    /// Takes the newest weight and metadata. `false` if the address is another one: then the
    /// connection is worth nothing and the slot must be made anew.
    pub(super) fn update(&mut self, instance: &Arc<Instance>) -> bool {
        let same = self.instance.address() == instance.address();
        if same {
            self.instance = instance.clone();
        }
        same
    }

    pub(super) fn made(&mut self, service: S) {
        self.service = Some(service);
        self.error = None;
    }

    /// Notes a failure of the factory and says how long to wait.
    pub(super) fn failed(&mut self, error: Error) -> std::time::Duration {
        self.error = Some(error);
        self.backoff.next_delay()
    }

    pub(super) fn member(&self) -> Member {
        Member::new(self.instance.clone(), self.state.clone())
    }

    /// Whether calls would go through: made, connected, not draining, and its health known if
    /// somebody checks it; healthy or not.
    pub(super) fn is_usable(&self) -> bool {
        self.is_reachable() && self.state.checked() != Checked::Pending
    }

    /// Whether nothing but the first word of its health check is missing.
    pub(super) fn is_pending(&self) -> bool {
        self.is_reachable() && self.state.checked() == Checked::Pending
    }

    fn is_reachable(&self) -> bool {
        self.service.is_some()
            && self.state.connectivity() == Connectivity::Ready
            && !self.instance.is_draining()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.state.is_healthy()
    }

    /// Notes whether it stands in the set that is published `now`.
    pub(super) fn set_available(&mut self, available: bool, now: Instant) {
        if available && !std::mem::replace(&mut self.was_available, available) {
            self.state.set_available_since(now);
        }
        self.was_available = available;
    }

    pub(super) fn endpoint(&self) -> Option<Endpoint<S>> {
        Some(Endpoint::new(self.member(), self.service.clone()?))
    }

    /// Why it is not ready, if something failed.
    pub(super) fn error(&self) -> Option<Error> {
        let error = self.error.clone().or_else(|| self.state.last_error())?;
        Some(error.with_context("instance", self.instance.id()))
    }
}

impl<S> Drop for Slot<S> {
    fn drop(&mut self) {
        self.state.remove();
    }
}
