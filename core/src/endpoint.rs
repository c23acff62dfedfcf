//! One callable instance: its service, and the state that outlives every update of the set.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Error, Instance, telemetry};

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
        self.state.set(Connectivity::Ready, None);
    }

    /// A connection is being made: no call until it stands.
    pub fn set_connecting(&self) {
        self.state.set(Connectivity::Connecting, None);
    }

    /// Connecting failed: no call until it stands. The error is named where a call finds no
    /// endpoint.
    pub fn set_failed(&self, error: Error) {
        self.state.set(Connectivity::TransientFailure, Some(error));
    }

    /// Completes when the instance has been removed: stop dialling, finish what is in flight.
    pub async fn removed(&self) {
        self.state.removed.cancelled().await;
    }

    /// Whether the instance has been removed.
    pub fn is_removed(&self) -> bool {
        self.state.removed.is_cancelled()
    }

    /// For a service that is used without an endpointer: ready, never removed, nobody listens.
    pub fn detached(instance: &Instance) -> Self {
        let state = EndpointState::new("".into(), instance, None);
        Self { state: Arc::new(state) }
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

/// What is known of an endpoint, keyed by the instance's id: it survives every change of weight
/// and metadata.
pub(crate) struct EndpointState {
    service: Arc<str>,
    instance: crate::InstanceId,
    connectivity: AtomicU8,
    in_flight: AtomicUsize,
    last_error: Mutex<Option<Error>>,
    removed: CancellationToken,
    /// Wakes the endpointer, if there is one, which then publishes a new ready set.
    changed: Option<Arc<Notify>>,
}

impl EndpointState {
    pub(crate) fn new(
        service: Arc<str>,
        instance: &Instance,
        changed: Option<Arc<Notify>>,
    ) -> Self {
        Self {
            service,
            instance: instance.id().clone(),
            connectivity: AtomicU8::new(Connectivity::Ready as u8),
            in_flight: AtomicUsize::new(0),
            last_error: Mutex::new(None),
            removed: CancellationToken::new(),
            changed,
        }
    }

    pub(crate) fn connectivity(&self) -> Connectivity {
        // Acquire pairs with the swap in `set`: who sees "ready" sees the connection too.
        match self.connectivity.load(Ordering::Acquire) {
            0 => Connectivity::Ready,
            1 => Connectivity::Connecting,
            _ => Connectivity::TransientFailure,
        }
    }

    pub(crate) fn last_error(&self) -> Option<Error> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remove(&self) {
        self.removed.cancel();
    }

    fn set(&self, to: Connectivity, error: Option<Error>) {
        // The reason of the last failure stays while the next try is under way.
        if to != Connectivity::Connecting {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.clone();
        }
        let same = self.connectivity.swap(to as u8, Ordering::AcqRel) == to as u8;
        if let Some(changed) = self.changed.as_ref().filter(|_| !same) {
            telemetry::connectivity(&self.service, &self.instance, to, error.as_ref());
            changed.notify_one();
        }
    }
}

/// A callable instance, as a balancer sees it.
#[derive(Clone)]
pub struct Member {
    instance: Arc<Instance>,
    state: Arc<EndpointState>,
}

impl Member {
    pub(crate) fn new(instance: Arc<Instance>, state: Arc<EndpointState>) -> Self {
        Self { instance, state }
    }

    /// A member that no endpointer made: to test and to measure balancers.
    pub fn detached(instance: Instance) -> Self {
        let state = Readiness::detached(&instance).state;
        Self { instance: Arc::new(instance), state }
    }

    /// The instance: address, weight, zone, metadata.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// How many calls through this process are under way to it, up to the response's head.
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call as under way until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { state: self.state.clone() }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("instance", &self.instance)
            .field("connectivity", &self.state.connectivity())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// A call under way; dropping it, however the call ended, counts it out.
pub struct InFlight {
    state: Arc<EndpointState>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}
