//! An endpoint as a balancer sees it.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::{EndpointState, InFlight, Surroundings, Way};
use crate::Instance;
use crate::endpoints::{Connectivity, FeedbackConfig, Operation};

/// A callable instance, as a balancer sees it: what the registry says of it, and what the calls of
/// this process have found out.
#[derive(Clone)]
pub struct Member {
    instance: Arc<Instance>,
    state: Arc<EndpointState>,
}

impl Member {
    pub(crate) fn new(instance: Arc<Instance>, state: Arc<EndpointState>) -> Self {
        Self { instance, state }
    }

    /// A member that no endpointer made: to test, to measure and to simulate balancers.
    pub fn detached(instance: Instance) -> Self {
        Self::detached_with(instance, FeedbackConfig::default())
    }

    /// As [`detached`](Self::detached), with other than the default settings.
    pub fn detached_with(instance: Instance, feedback: FeedbackConfig) -> Self {
        let around = Surroundings { feedback, ..Surroundings::default() };
        let state = EndpointState::new(Arc::new(around), &instance);
        Self { instance: Arc::new(instance), state: Arc::new(state) }
    }

    /// As [`detached`](Self::detached), of the same service as this one and with its settings: what the
    /// endpoints of a service know of each other they share.
    pub fn detached_beside(&self, instance: Instance) -> Self {
        let state = EndpointState::new(self.state.around().clone(), &instance);
        Self { instance: Arc::new(instance), state: Arc::new(state) }
    }

    /// The instance: address, weight, zone, metadata.
    #[inline]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// How many calls through this process are under way to it, up to the response's end.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.state.in_flight()
    }

    /// The peak-sensitive moving average of its latency in seconds, as it has decayed until `now`;
    /// nothing before the first answer. See [`FeedbackConfig`].
    #[inline]
    pub fn latency(&self, now: Instant) -> Option<f32> {
        self.state.latency(now)
    }

    /// Whether neither an active health check nor outlier detection speaks against it. One that is
    /// not healthy is in a ready set only where too few are.
    #[inline]
    pub fn is_healthy(&self) -> bool {
        self.state.is_healthy()
    }

    /// Whether its connection stands.
    pub fn is_connected(&self) -> bool {
        self.state.connectivity() == Connectivity::Ready
    }

    /// Whether it lets one more call in: an endpoint that comes back from an ejection has to answer
    /// a single call first.
    #[inline]
    pub fn lets_in(&self) -> bool {
        self.state.lets_in()
    }

    /// When it last began to take calls: after it was first connected, and after it was ejected or
    /// found unhealthy.
    pub fn available_since(&self) -> Instant {
        self.state.available_since()
    }

    /// Counts a call as under way until the guard is finished or dropped.
    pub fn begin(&self) -> InFlight {
        self.begin_at(Instant::now())
    }

    /// As [`begin`](Self::begin), at a time that the caller knows already.
    #[inline]
    pub fn begin_at(&self, now: Instant) -> InFlight {
        self.begin_by(Operation::default(), Way::Straight, now)
    }

    #[inline]
    pub(crate) fn begin_by(
        &self,
        operation: Operation,
        way: Way<Arc<EndpointState>>,
        now: Instant,
    ) -> InFlight {
        InFlight::new(self.state.clone(), operation, way, now)
    }

    pub(crate) fn state(&self) -> &Arc<EndpointState> {
        &self.state
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("instance", &self.instance)
            .field("connectivity", &self.state.connectivity())
            .field("healthy", &self.is_healthy())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
