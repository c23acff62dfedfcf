//! Attempts to register whose outcome is not known.
//!
//! What such an attempt wrote may land at any time, also after a later attempt has succeeded. So
//! the later attempt writes the very same: the same value under the same lease. Then it does not
//! matter which of them lands last, and what stands there is ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The open attempts of one registry, by key.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    open: Mutex<HashMap<String, Open>>,
}

#[derive(Debug)]
struct Open {
    lease: i64,
    value: Vec<u8>,
    /// Later than this neither the lease nor anything on its way to it can live.
    until: Instant,
}

impl Attempts {
    /// Begins an attempt to write `value`. Another one for this key that runs meanwhile is told
    /// nothing of it, and gets a lease of its own.
    pub(super) fn begin(self: &Arc<Self>, key: &str, value: Vec<u8>, ttl: Duration) -> Attempt {
        let now = Instant::now();
        let mut open = self.open();
        open.retain(|_, open| open.until > now);
        let earlier = open.remove(key);
        drop(open);
        let until = now.checked_add(ttl + ON_ITS_WAY).unwrap_or(now);
        let (lease, stale) = match earlier {
            Some(earlier) if earlier.value == value => (earlier.lease, None),
            Some(earlier) => (new_lease(), Some(earlier.lease)),
            None => (new_lease(), None),
        };
        let own = Some(Open { lease, value, until });
        Attempt { attempts: self.clone(), key: key.to_owned(), lease, stale, own }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt. It stays open unless it is [concluded](Self::conclude), also if it is dropped.
#[derive(Debug)]
pub(super) struct Attempt {
    attempts: Arc<Attempts>,
    key: String,
    lease: i64,
    stale: Option<i64>,
    own: Option<Open>,
}

impl Attempt {
    /// The id of the lease to write under.
    pub(super) fn lease(&self) -> i64 {
        self.lease
    }

    pub(super) fn value(&self) -> &[u8] {
        self.own.as_ref().map_or(&[], |own| &own.value)
    }

    /// The lease of an open attempt that wrote something else: it must end before anything is
    /// written, for then it can write no more.
    pub(super) fn stale(&self) -> Option<i64> {
        self.stale
    }

    /// The stale lease has ended.
    pub(super) fn stale_ended(&mut self) {
        self.stale = None;
    }

    /// Nothing is on its way any more, or it is what stands there now.
    pub(super) fn conclude(mut self) {
        self.own = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(mut own) = self.own.take() else { return };
        if let Some(stale) = self.stale {
            // Nothing was written yet, and the other one is still to be ended.
            own = Open { lease: stale, value: Vec::new(), until: own.until };
        }
        self.attempts.open().insert(std::mem::take(&mut self.key), own);
    }
}

/// Chosen here and not by etcd, so that a grant can be tried again. Nobody else has it: of 2^63
/// ids a cluster uses a few.
fn new_lease() -> i64 {
    fastrand::i64(1..=i64::MAX)
}

/// How long a request may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn lease_of(attempts: &Arc<Attempts>, value: &str) -> Attempt {
        attempts.begin("a/1", value.into(), TTL)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_attempt_is_made_again_under_its_lease_and_a_concluded_one_is_not() {
        let attempts = Arc::default();
        let first = lease_of(&attempts, "x").lease();
        let second = lease_of(&attempts, "x");
        assert_eq!(second.lease(), first);
        second.conclude();
        assert_ne!(lease_of(&attempts, "x").lease(), first);
        tokio::time::advance(TTL + 2 * ON_ITS_WAY).await;
        attempts.begin("a/2", vec![], TTL).conclude();
        assert!(attempts.open().is_empty(), "nothing is kept for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_run_at_once_do_not_share_a_lease() {
        let attempts = Arc::default();
        let (one, two) = (lease_of(&attempts, "x"), lease_of(&attempts, "x"));
        assert_ne!(one.lease(), two.lease());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_attempt_with_another_value_is_to_be_ended_first() {
        let attempts = Arc::default();
        let first = lease_of(&attempts, "x").lease();
        for _ in 0..2 {
            let other = lease_of(&attempts, "y");
            assert_ne!(other.lease(), first);
            assert_eq!(other.stale(), Some(first), "until it has ended");
        }
        let mut other = lease_of(&attempts, "y");
        other.stale_ended();
        let lease = other.lease();
        drop(other);
        let again = lease_of(&attempts, "y");
        assert_eq!((again.lease(), again.stale()), (lease, None));
    }
}
