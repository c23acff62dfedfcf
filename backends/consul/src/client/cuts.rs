//! Proxies that end a quiet request sooner than Consul does.
//!
//! nginx, for one, gives up after 60 s. A query that is cut off at about the same age as the one
//! before it was cut by such a clock; from then on Consul is told to answer before it strikes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is known of the cuts on the way to one agent.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The age of a query that was cut off, and when.
    last: Option<(Duration, Instant)>,
    /// No query may be held back for longer, since when.
    bound: Option<(Duration, Instant)>,
}

impl Cuts {
    /// How long a query may be held back that was to be held back for `wait`.
    pub(super) fn bound(&self, wait: Duration) -> Duration {
        let mut seen = self.lock();
        // The proxy may have been changed.
        seen.bound = seen.bound.filter(|(_, since)| since.elapsed() < REMEMBERED);
        seen.bound.map_or(wait, |(bound, _)| bound.min(wait))
    }

    /// A query that began at `begun` was cut off at `now`, and the agent is well.
    pub(super) fn cut(&self, begun: Instant, now: Instant) {
        let mut seen = self.lock();
        let age = now - begun;
        if age < SHORTEST {
            return;
        }
        // Many queries are cut at one moment when an agent ends: that tells nothing of their age.
        let again = seen.last.filter(|(_, at)| begun >= *at);
        if let Some((before, _)) = again {
            let (short, long) = (age.min(before), age.max(before));
            if long <= short + short / 8 + Duration::from_millis(500) {
                // Consul itself adds a sixteenth.
                let bound = short.mul_f64(0.8);
                let bound = seen.bound.map_or(bound, |(known, _)| known.min(bound));
                seen.bound = Some((bound.max(SHORTEST), now));
            }
        }
        if again.is_some() || seen.last.is_none() {
            seen.last = Some((age, now));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Nothing in here panics half way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is cut sooner is not cut for being quiet.
const SHORTEST: Duration = Duration::from_millis(500);
const REMEMBERED: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    async fn cut_after(cuts: &Cuts, seconds: u64, count: usize) {
        let begun = Instant::now();
        advance(Duration::from_secs(seconds)).await;
        (0..count).for_each(|_| cuts.cut(begun, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn two_cuts_at_one_age_bound_the_wait_until_they_are_forgotten() {
        let cuts = Cuts::default();
        cut_after(&cuts, 30, 1).await;
        assert_eq!(cuts.bound(WAIT), WAIT);
        cut_after(&cuts, 31, 1).await;
        assert_eq!(cuts.bound(WAIT), Duration::from_secs(24));
        assert_eq!(cuts.bound(Duration::from_secs(5)), Duration::from_secs(5));
        cut_after(&cuts, 10, 1).await;
        cut_after(&cuts, 10, 1).await;
        assert_eq!(cuts.bound(WAIT), Duration::from_secs(8));
        advance(REMEMBERED).await;
        assert_eq!(cuts.bound(WAIT), WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_ends_is_no_clock() {
        let cuts = Cuts::default();
        cut_after(&cuts, 20, 60).await;
        cut_after(&cuts, 35, 60).await;
        cut_after(&cuts, 0, 60).await;
        assert_eq!(cuts.bound(WAIT), WAIT);
    }
}
