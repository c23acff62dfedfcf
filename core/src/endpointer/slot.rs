//! What the endpointer holds for one instance id.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::time::delay_queue::Key;

use super::set::Endpoint;
use crate::endpoint::EndpointState;
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
    error: Option<Error>,
}

impl<S: Clone> Slot<S> {
    pub(super) fn new(
        service: Arc<str>,
        instance: Arc<Instance>,
        generation: u64,
        changed: Arc<Notify>,
        backoff: Backoff,
        rng: fastrand::Rng,
    ) -> Self {
        let state = Arc::new(EndpointState::new(service, &instance, Some(changed)));
        let backoff = BackoffState::new(backoff, rng);
        Self { instance, state, service: None, generation, later: None, backoff, error: None }
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

    /// The endpoint, if it can take a call now.
    pub(super) fn ready(&self) -> Option<Endpoint<S>> {
        let service = self.service.as_ref()?;
        let ready = self.state.connectivity() == Connectivity::Ready;
        (ready && !self.instance.is_draining()).then(|| {
            Endpoint::new(Member::new(self.instance.clone(), self.state.clone()), service.clone())
        })
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
