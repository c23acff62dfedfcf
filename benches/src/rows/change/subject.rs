//! What changes, ours or another's.

use std::time::Duration;

use crate::cpu;
use crate::error::Result;

/// What happens to the instance in the middle of the list, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Reweighted,
    Removed,
    Added,
}

impl Change {
    pub(crate) const ALL: [Self; 3] = [Self::Reweighted, Self::Removed, Self::Added];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reweighted => "re-weighted",
            Self::Removed => "removed",
            Self::Added => "added",
        }
    }
}

/// What one change cost.
pub(crate) struct Sample {
    /// Until a pick knows it.
    pub(crate) visible: Duration,
    pub(crate) cpu: Duration,
    /// Allocated, whether given back or not.
    pub(crate) bytes: u64,
}

/// A client of a registry in which one instance changes.
pub(crate) trait Subject {
    fn name(&self) -> &'static str;

    /// The name of what of ours does the same, if this is a peer.
    fn beside(&self) -> Option<&'static str> {
        None
    }

    /// Nothing, if it knows no such change.
    fn change(&mut self, change: Change, round: u32) -> Result<Option<Sample>>;
}

/// What a change costs this process, if all of it happens on this thread. `change` says how long it
/// took to be seen.
pub(crate) fn measured(change: impl FnOnce() -> Result<Duration>) -> Result<Option<Sample>> {
    let mut visible = Ok(Duration::ZERO);
    let before = cpu::used();
    let allocated = allocation_counter::measure(|| visible = change());
    let cpu = cpu::used() - before;
    Ok(Some(Sample { visible: visible?, cpu, bytes: allocated.bytes_total }))
}
