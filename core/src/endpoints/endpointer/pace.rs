//! How often sets are published.

use std::time::Duration;

use tokio::time::Instant;

/// How many times the time that a piece of work took the next one waits: a hundred thousand endpoints that come up
/// one after the other, or whose ejections end one after the other, do not keep a core busy.
pub(super) const PAUSE: u32 = 4;

/// How much of that waiting is left out after a quiet time: an instance that joins means two sets, the second one
/// when its service stands, and nobody waits for it.
const BURST: Duration = Duration::from_millis(20);

/// Lets the work take a fifth of a core.
pub(super) struct Pace {
    /// Until when the time that was spent is paid back.
    busy_until: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { busy_until: Instant::now() }
    }

    /// When to publish next; nothing if that is now.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        self.busy_until.checked_sub(BURST).filter(|at| *at > now)
    }

    /// Notes the work that began then and has just ended.
    pub(super) fn spent_since(&mut self, begin: Instant) {
        self.busy_until = self.busy_until.max(begin) + begin.elapsed() * (1 + PAUSE);
    }
}
