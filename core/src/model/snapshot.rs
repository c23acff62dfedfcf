//! The live set of a service at one moment, complete and immutable.

use std::sync::Arc;

use tokio::time::Instant;

use super::ServiceSettings;
use crate::{Error, Instance, InstanceId};

/// How far a [`Snapshot`] can be trusted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Freshness {
    /// Nothing has been heard from the registry yet: there is no last known good set.
    Pending {
        /// Why the last attempt failed, once one did.
        error: Option<Error>,
    },
    /// The registry said so and is being watched.
    Fresh,
    /// The last known good set: the registry cannot be asked, or said something implausible.
    Stale {
        /// Since when.
        since: Instant,
        /// Why.
        error: Error,
    },
}

impl Freshness {
    /// Whether nothing has been heard yet.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }

    /// What keeps the set from being fresh, if anything failed.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Pending { error } => error.as_ref(),
            Self::Fresh => None,
            Self::Stale { error, .. } => Some(error),
        }
    }

    /// Whether a subscriber need not be woken for the difference.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.error().map(Error::kind) == other.error().map(Error::kind)
    }

    /// Whether this is the last known good set rather than the current one.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

/// The live set of a service at one moment. Never a delta, never changed after it was published;
/// cloning copies a few words.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Counts the snapshots published for this service in this process, from 0 (pending). It is
    /// not the registry's own revision. A [view](crate::discovery::InstancerExt::view) leaves numbers out: its
    /// snapshot bears the number of the one that last changed what it shows.
    pub revision: u64,
    /// The instances, sorted by id, then by address; no two have both the same.
    pub instances: Arc<Vec<Arc<Instance>>>,
    /// How far the set can be trusted.
    pub freshness: Freshness,
    /// How many entries of the registry could not be read and were left out.
    pub skipped: usize,
    /// Why one of these could not be read: the newest reason when this was published.
    pub fault: Option<Error>,
    /// What the registry says of the service as a whole, if it says anything.
    pub settings: Option<Arc<ServiceSettings>>,
    /// How many instances the registry has that a [view](crate::discovery::InstancerExt::view) does not show.
    pub hidden: usize,
}

impl Snapshot {
    /// The snapshot before anything is known.
    pub fn pending() -> Self {
        let freshness = Freshness::Pending { error: None };
        Self {
            revision: 0,
            instances: Arc::default(),
            freshness,
            skipped: 0,
            fault: None,
            settings: None,
            hidden: 0,
        }
    }

    /// The instance of that id.
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        let found = self.instances.binary_search_by(|instance| instance.id().cmp(id));
        found.ok().map(|at| &self.instances[at])
    }
}

/// Sorts by id and address and keeps the first of each, so that a duplicate registration is one endpoint.
pub(crate) fn sorted_unique(
    instances: impl IntoIterator<Item = Arc<Instance>>,
) -> Arc<Vec<Arc<Instance>>> {
    let mut all: Vec<_> = instances.into_iter().collect();
    sort_unique(&mut all);
    Arc::new(all)
}

pub(crate) fn sort_unique(instances: &mut Vec<Arc<Instance>>) {
    instances.sort_by(|a, b| a.id().cmp(b.id()));
    instances.dedup_by(|later, earlier| later.id() == earlier.id());
}
