//! Telling an agent that holds a query back from one that hangs.
//!
//! A blocking query is answered after minutes, and HTTP/1 has no ping. So after some seconds
//! without a word from an agent one of those who wait for it knocks; the answer counts for all.
//! (A connection that is cut is noticed by TCP's own keepalive, see `connector`.)

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::failure::Failure;

/// When an agent was last heard of.
#[derive(Default)]
pub(super) struct Pulse {
    signs: Mutex<Signs>,
    knocking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default)]
struct Signs {
    /// An answer or a hang-up.
    heard: Option<Instant>,
    /// An answer.
    answered: Option<Instant>,
    /// When nobody answered a knock.
    silent: Option<Instant>,
}

impl Pulse {
    /// There was a sign of life, even if it was that a connection was turned away.
    pub(super) fn heard(&self) {
        self.lock().heard = Some(Instant::now());
    }

    /// The agent has answered.
    pub(super) fn answered(&self) {
        let now = Some(Instant::now());
        let mut signs = self.lock();
        (signs.heard, signs.answered) = (now, now);
    }

    /// Whether the agent has answered since then.
    pub(super) fn has_answered_since(&self, then: Instant) -> bool {
        self.lock().answered.is_some_and(|answered| answered >= then)
    }

    /// Ends when the agent is silent, even when somebody knocks. It is to be dropped when that
    /// does not matter any more.
    pub(super) async fn lost<K, F>(&self, silence: Duration, knock: K) -> Failure
    where
        K: Fn() -> F,
        F: Future<Output = Result<(), Failure>>,
    {
        let start = Instant::now();
        loop {
            sleep_until(self.last(start) + silence).await;
            let _turn = self.knocking.lock().await;
            let last = self.last(start);
            if last.elapsed() < silence {
                continue;
            }
            // While this one waited for its turn, another one may have knocked in vain.
            if self.lock().silent.is_some_and(|silent| silent > last) {
                return Failure::silent();
            }
            match knock().await {
                Ok(()) => self.heard(),
                Err(failure) => {
                    self.lock().silent = Some(Instant::now());
                    return failure;
                }
            }
        }
    }

    fn last(&self, start: Instant) -> Instant {
        let heard = self.lock().heard;
        heard.map_or(start, |heard| heard.max(start))
    }

    fn lock(&self) -> MutexGuard<'_, Signs> {
        // Nothing in here panics half way.
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn one_knock_counts_for_all_who_wait() {
        let (pulse, knocks) = (Pulse::default(), Cell::new(0));
        let knock = || async {
            knocks.set(knocks.get() + 1);
            Ok(())
        };
        let wait = || timeout(Duration::from_secs(52), pulse.lost(SILENCE, knock));
        let (a, b, c) = futures::join!(wait(), wait(), wait());
        assert!(a.is_err() && b.is_err() && c.is_err(), "the agent is alive");
        assert_eq!(knocks.get(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_and_an_answer_ends_it() {
        let (pulse, knocks) = (Pulse::default(), Cell::new(0));
        let begun = Instant::now();
        let knock = || async {
            knocks.set(knocks.get() + 1);
            tokio::time::sleep(SILENCE / 5).await;
            Err(Failure::silent())
        };
        let wait = || pulse.lost(SILENCE, knock);
        futures::join!(wait(), wait(), wait());
        assert_eq!((begun.elapsed(), knocks.get()), (SILENCE * 6 / 5, 1));
        pulse.heard();
        assert!(timeout(SILENCE / 2, pulse.lost(SILENCE, || async { Ok(()) })).await.is_err());
    }
}
