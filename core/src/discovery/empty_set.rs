//! What to do when a list is suddenly empty.
//!
//! A registry that was wiped, restored from an old backup or hidden behind a changed ACL answers
//! with an empty list and no error. Following it at once would take a healthy service down; never
//! following it would call instances that are gone for good. So entries that vanish in bulk are
//! held for a while, and entries whose deletes were seen one by one never are.

use std::time::Duration;

use tokio::time::Instant;

/// What the [`Reflector`](crate::discovery::Reflector) does with entries that vanish in bulk.
///
/// A drop is *in bulk* when a new list comes back empty, or lacks more than half of the entries
/// known before. It makes no difference whether the reflector asked for the list or a watch sent
/// it, except that a watched full set that lacks exactly one entry tells of one delete and is
/// followed at once. Deletes that a watch saw key by key are always followed at once, down to an
/// empty set; so is everything the first list says.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::discovery::{EmptySetPolicy, ReflectorConfig};
/// let config = ReflectorConfig::default()
///     .with_empty_set(EmptySetPolicy::HoldFor(Duration::from_secs(300)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmptySetPolicy {
    /// Keep the entries until they are seen again, or a watch sees them deleted.
    Hold,
    /// Follow the registry at once.
    Honour,
    /// Keep the entries for this long after the list that lacked them, then follow the registry.
    HoldFor(Duration),
}

impl Default for EmptySetPolicy {
    /// Holds for 60 seconds.
    fn default() -> Self {
        Self::HoldFor(Duration::from_secs(60))
    }
}

/// Until when an entry is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Forever,
    Until(Instant),
}

impl Hold {
    pub(crate) fn is_over(self, now: Instant) -> bool {
        matches!(self, Self::Until(deadline) if deadline <= now)
    }
}

impl EmptySetPolicy {
    /// How long to hold entries that vanish in bulk now, if at all.
    pub(crate) fn hold(self, now: Instant) -> Option<Hold> {
        match self {
            Self::Honour => None,
            Self::Hold => Some(Hold::Forever),
            // A sum beyond the clock's range is for ever.
            Self::HoldFor(time) => Some(now.checked_add(time).map_or(Hold::Forever, Hold::Until)),
        }
    }
}

/// Whether a list that lacks `missing` of `known` entries, and has `listed`, drops them in bulk.
pub(crate) fn is_bulk_drop(known: usize, missing: usize, listed: usize) -> bool {
    missing > 0 && (listed == 0 || missing * 2 > known)
}
