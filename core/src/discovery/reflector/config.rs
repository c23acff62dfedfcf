//! The settings of a reflector.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::discovery::EmptySetPolicy;

/// The settings of a [`Reflector`](crate::discovery::Reflector). The defaults suit a production service.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::discovery::{EmptySetPolicy, ReflectorConfig};
/// let config = ReflectorConfig::default()
///     .with_list_timeout(Duration::from_secs(3))
///     .with_empty_set(EmptySetPolicy::Honour);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReflectorConfig {
    /// What to do with entries that vanish in bulk. Default: hold them for 60 s.
    pub empty_set: EmptySetPolicy,
    /// How long to wait after a failure. Default: [`Backoff::default`].
    pub backoff: Backoff,
    /// The longest a list may take. Default: 10 s.
    pub list_timeout: Duration,
    /// The shortest time between two snapshots; what changes in between is published together.
    /// A change after a quiet time is published at once. Default: 50 ms (20 snapshots a second).
    pub min_publish_interval: Duration,
    /// The shortest time between two lists that a reader asked for because connections fail
    /// ([`Subscription::refresh`](crate::Subscription::refresh)). Default: 5 s.
    pub min_refresh_interval: Duration,
    /// The most entries a service may have. Beyond it the last known good set is kept and marked
    /// stale; nothing is ever cut off in silence. Default: 100,000.
    pub max_instances: usize,
    /// The seed of the jitter, for tests that must repeat. Default: none, random.
    pub seed: Option<u64>,
}

impl Default for ReflectorConfig {
    fn default() -> Self {
        Self {
            empty_set: EmptySetPolicy::default(),
            backoff: Backoff::default(),
            list_timeout: Duration::from_secs(10),
            min_publish_interval: Duration::from_millis(50),
            min_refresh_interval: Duration::from_secs(5),
            max_instances: 100_000,
            seed: None,
        }
    }
}

impl ReflectorConfig {
    /// Sets what to do with entries that vanish in bulk.
    #[must_use]
    pub fn with_empty_set(mut self, empty_set: EmptySetPolicy) -> Self {
        self.empty_set = empty_set;
        self
    }

    /// Sets how long to wait after a failure.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest a list may take.
    #[must_use]
    pub fn with_list_timeout(mut self, list_timeout: Duration) -> Self {
        self.list_timeout = list_timeout;
        self
    }

    /// Sets the shortest time between two snapshots.
    #[must_use]
    pub fn with_min_publish_interval(mut self, min_publish_interval: Duration) -> Self {
        self.min_publish_interval = min_publish_interval;
        self
    }

    /// Sets the shortest time between two lists that a reader asked for.
    #[must_use]
    pub fn with_min_refresh_interval(mut self, min_refresh_interval: Duration) -> Self {
        self.min_refresh_interval = min_refresh_interval;
        self
    }

    /// Sets the most entries a service may have.
    #[must_use]
    pub fn with_max_instances(mut self, max_instances: usize) -> Self {
        self.max_instances = max_instances;
        self
    }

    /// Sets the seed of the jitter.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(super) fn rng(&self) -> fastrand::Rng {
        self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
    }
}
