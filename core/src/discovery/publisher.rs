//! The writing side of a service's view, and a view that never changes.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::refresh::Refresh;
use super::{Instancer, Subscription};
use crate::model::snapshot::sorted_unique;
use crate::{Error, Freshness, Instance, Snapshot};

/// The writing side of a service's view: makes complete, sorted, revisioned snapshots.
///
/// It is an [`Instancer`] itself, so a list of one's own is three lines:
///
/// ```
/// use fleetward_core::{Instance, Instancer};
/// use fleetward_core::discovery::Publisher;
/// let list = Publisher::new("greeter");
/// list.publish([Instance::new("10.0.0.1:80")?, Instance::new("10.0.0.2:80")?]);
/// assert_eq!(list.subscribe().current().instances.len(), 2);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Publisher {
    service: Arc<str>,
    source: Arc<str>,
    sender: watch::Sender<Arc<Snapshot>>,
    refresh: Refresh,
}

impl Publisher {
    /// A view that is [`Pending`](Freshness::Pending) until something is published.
    pub fn new(service: impl Into<Arc<str>>) -> Self {
        let sender = watch::Sender::new(Arc::new(Snapshot::pending()));
        let refresh = Refresh::default();
        Self { service: service.into(), source: Arc::default(), sender, refresh }
    }

    /// Says where the instances come from, for messages.
    pub(crate) fn with_source(self, source: &str) -> Self {
        let source: String = source.chars().take(MAX_SOURCE).flat_map(char::escape_debug).collect();
        Self { source: source.into(), ..self }
    }

    /// The service's name.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// Publishes the complete set. Of instances with the same id and address the first one counts.
    pub fn publish(&self, instances: impl IntoIterator<Item = Instance>) {
        let instances = sorted_unique(instances.into_iter().map(Arc::new));
        let freshness = Freshness::Fresh;
        self.publish_sorted(Snapshot { instances, freshness, ..Snapshot::pending() });
    }

    /// Says that the registry cannot be asked: the set stays, marked stale. What was stale already
    /// keeps its first moment and takes the newest reason; what was pending stays pending with the
    /// reason, for there is no last known good set.
    ///
    /// Subscribers are woken when the view turns stale and when the reason becomes one of another
    /// kind; a reason of the same kind is only put in place.
    pub fn publish_stale(&self, error: Error) {
        let now = tokio::time::Instant::now();
        self.modify(|current| {
            let same_kind = current.freshness.error().is_some_and(|old| old.kind() == error.kind());
            let mut next = Snapshot::clone(current);
            next.freshness = match &current.freshness {
                Freshness::Pending { .. } => Freshness::Pending { error: Some(error) },
                Freshness::Fresh => Freshness::Stale { since: now, error },
                Freshness::Stale { since, .. } => Freshness::Stale { since: *since, error },
            };
            next.revision += u64::from(!same_kind);
            (next, !same_kind)
        });
    }

    /// Waits until a reader [says](Subscription::refresh) that the set may be out of date: for whoever finds the
    /// instances by asking now and then. Any number of hints that nobody waited for are one. Cancel safe.
    pub async fn refresh_requested(&self) {
        self.refresh.requested().await;
    }

    /// Puts another snapshot in place, and wakes the subscribers if the closure says so.
    fn modify(&self, next: impl FnOnce(&Snapshot) -> (Snapshot, bool)) {
        let mut replaced = None;
        self.sender.send_if_modified(|current| {
            let (next, wakes) = next(current);
            replaced = Some(std::mem::replace(current, Arc::new(next)));
            wakes
        });
        // Not under the channel's lock: an error in it may hold a source of the user's.
        drop(replaced);
    }

    /// The newest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.sender.borrow().clone()
    }

    /// Puts newer reasons in place, of the same kind of freshness; wakes nobody.
    pub(crate) fn replace_reasons(&self, freshness: Freshness, fault: Option<Error>) {
        self.modify(|current| (Snapshot { freshness, fault, ..Snapshot::clone(current) }, false));
    }

    /// Publishes a complete set that is sorted already, each id once. It gets the next revision.
    pub(crate) fn publish_sorted(&self, next: Snapshot) {
        debug_assert!(next.instances.is_sorted_by(|a, b| a.id() < b.id()));
        self.modify(|current| (Snapshot { revision: current.revision + 1, ..next }, true));
    }
}

/// The most characters that are kept of what a source says of itself.
const MAX_SOURCE: usize = 256;

impl Instancer for Publisher {
    fn subscribe(&self) -> Subscription {
        let Self { service, source, sender, refresh } = self.clone();
        Subscription::new(service, source, sender.subscribe(), refresh)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("service", &self.service)
            .field("subscribers", &self.sender.receiver_count())
            .finish_non_exhaustive()
    }
}

/// A constant set (go-kit's `FixedInstancer`): for tests, and where addresses are configuration.
///
/// ```
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
/// let fixed = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FixedInstancer(Publisher);

impl FixedInstancer {
    /// The set, for ever.
    pub fn new(
        service: impl Into<Arc<str>>,
        instances: impl IntoIterator<Item = Instance>,
    ) -> Self {
        let publisher = Publisher::new(service).with_source("a fixed list");
        publisher.publish(instances);
        Self(publisher)
    }
}

impl Instancer for FixedInstancer {
    fn subscribe(&self) -> Subscription {
        // The publisher lives as long as its readers: a fixed set never closes.
        let guard = Arc::new(self.0.clone());
        self.0.subscribe().guarded(guard)
    }
}
