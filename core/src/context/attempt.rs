//! What a context knows of its attempt.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::progress::{Progress, Reached};
use crate::InstanceId;
use crate::endpoints::endpoint::EndpointState;

/// An attempt, as the retry and the balancer under it see it. Small, for each call makes one.
#[derive(Debug, Default)]
pub(crate) struct AttemptContext {
    /// Around a layer that makes attempts of its own.
    parent: Option<Arc<AttemptContext>>,
    /// Nothing for the first attempt of a call.
    earlier: Option<Box<Earlier>>,
    /// Identifies the budget of the layer that makes the attempt; 0 for none.
    budget: usize,
    /// When it was sent.
    at: Option<Instant>,
    /// Whether that is now: until a pick has used it, or the attempt has waited.
    at_is_now: AtomicBool,
    progress: Progress,
    expired: AtomicU8,
    gave_up: AtomicBool,
    /// Whether a layer below counts this attempt for the same budget.
    counted_below: AtomicBool,
    /// Nobody else's code runs under its lock.
    pick: Mutex<Pick>,
}

/// How many attempts went before, and where to.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// With those that never left.
    pub(crate) number: u32,
    /// Without them.
    pub(crate) previous: u32,
    /// In order.
    pub(crate) tried: Vec<InstanceId>,
    /// Set if this attempt takes the place of one that never left.
    pub(crate) again: Option<Again>,
}

/// How far a call has come whose attempts come back unsent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Again {
    /// How often it has gone where it had been before.
    pub(crate) rounds: u32,
    /// Since when it waits for an endpoint that takes it.
    pub(crate) since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Pick {
    picked: Option<Arc<EndpointState>>,
    more: Option<Box<More>>,
}

/// What most attempts have nothing of.
#[derive(Debug, Default)]
struct More {
    /// When it got an endpoint, if it had to wait for one.
    picked_at: Option<Instant>,
    again: Option<Again>,
    /// The last pick of an attempt below.
    below: Option<Arc<EndpointState>>,
}

/// Whom the drop that is under way blames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Expired {
    No,
    /// The instance that the attempt went to.
    Picked,
    /// The instance of every call that is dropped.
    All,
}

impl AttemptContext {
    /// One that is sent at `now`.
    #[inline]
    pub(crate) fn new(
        parent: Option<Arc<Self>>,
        earlier: Option<Box<Earlier>>,
        budget: usize,
        now: Instant,
    ) -> Self {
        let mut attempt =
            Self { parent, budget, at: Some(now), at_is_now: true.into(), ..Self::default() };
        if let Some(earlier) = earlier {
            attempt.follows(earlier);
        }
        attempt
    }

    #[cold]
    fn follows(&mut self, earlier: Box<Earlier>) {
        let more = More { again: earlier.again, ..More::default() };
        self.pick = Mutex::new(Pick { picked: None, more: Some(Box::new(more)) });
        self.earlier = Some(earlier);
    }

    pub(crate) fn earlier(&self) -> Option<&Earlier> {
        self.earlier.as_deref()
    }

    /// The time, read for this attempt already or now.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        let known = self.at.filter(|_| self.at_is_now.load(Ordering::Relaxed));
        self.time_passes();
        known.unwrap_or_else(Instant::now)
    }

    /// The time at which it was sent is over.
    #[inline]
    pub(crate) fn time_passes(&self) {
        self.at_is_now.store(false, Ordering::Relaxed);
    }

    /// Notes where the attempt goes.
    #[inline]
    pub(crate) fn goes_to(&self, endpoint: &Arc<EndpointState>, now: Instant) {
        let waited = self.progress.goes_on(Reached::Picked) == Reached::Waiting;
        let last = self.pick().picked.replace(endpoint.clone());
        drop(last);
        if waited {
            self.more(|more| more.picked_at = Some(now));
        }
        if let Some(parent) = &self.parent {
            parent.goes_below(endpoint);
        }
    }

    #[cold]
    fn goes_below(&self, endpoint: &Arc<EndpointState>) {
        let last = self.more(|more| more.below.replace(endpoint.clone()));
        drop(last);
        if let Some(parent) = &self.parent {
            parent.goes_below(endpoint);
        }
    }

    /// Notes that the attempt has found no endpoint.
    pub(crate) fn waits(&self) {
        self.progress.goes_on(Reached::Waiting);
    }

    /// Notes that the endpoint's service is called: from now on the request may leave. False if it
    /// must not, for the attempt was given up.
    #[inline]
    pub(crate) fn leaves(&self) -> bool {
        self.progress.goes_on(Reached::Called) != Reached::TakenBack
    }

    /// Gives the attempt up. Whether the balancer under it still had the request, which never leaves
    /// then.
    pub(crate) fn take_back(&self) -> bool {
        self.progress.take_back()
    }

    /// Whether it waits for an endpoint.
    pub(crate) fn is_waiting(&self) -> bool {
        self.progress.reached() == Reached::Waiting
    }

    /// When it got its endpoint, if it had to wait for one.
    pub(crate) fn picked_at(&self) -> Option<Instant> {
        self.pick().more.as_ref()?.picked_at
    }

    /// Where it went, if a balancer has picked for it.
    pub(crate) fn picked(&self) -> Option<InstanceId> {
        self.pick().picked.as_ref().map(|picked| picked.instance().clone())
    }

    pub(super) fn last_picked(&self) -> Option<InstanceId> {
        let pick = self.pick();
        let below = pick.more.as_ref().and_then(|more| more.below.as_ref());
        below.or(pick.picked.as_ref()).map(|picked| picked.instance().clone())
    }

    /// Notes that the attempt ends because no endpoint takes the call: the errors before say more.
    pub(crate) fn gives_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// If it takes the place of an attempt that never left: how that goes on.
    pub(crate) fn again(&self) -> Option<Again> {
        self.pick().more.as_ref()?.again
    }

    pub(crate) fn set_again(&self, again: Again) {
        self.more(|more| more.again = Some(again));
    }

    /// A layer with this budget begins a call within this attempt. Whether the call is counted for
    /// the budget already, by the layer that made this attempt or one above.
    pub(crate) fn counts(&self, budget: usize) -> bool {
        if self.budget == budget {
            self.counted_below.store(true, Ordering::Relaxed);
            return true;
        }
        self.parent.as_ref().is_some_and(|parent| parent.counts(budget))
    }

    /// Whether a layer below counts this attempt for the same budget.
    #[inline]
    pub(crate) fn is_counted_below(&self) -> bool {
        self.counted_below.load(Ordering::Relaxed)
    }

    pub(super) fn expire(&self, expired: Expired) {
        self.expired.store(expired as u8, Ordering::Relaxed);
    }

    /// Whether a call that is dropped now was cut off because this endpoint took too long. A deadline
    /// of an attempt blames one call.
    pub(crate) fn blames(&self, endpoint: &Arc<EndpointState>) -> bool {
        let is_picked =
            || self.pick().picked.as_ref().is_some_and(|picked| Arc::ptr_eq(picked, endpoint));
        if self.expired.load(Ordering::Relaxed) == Expired::Picked as u8 && is_picked() {
            self.expire(Expired::No);
            return true;
        }
        self.all_expired()
    }

    fn all_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed) == Expired::All as u8
            || self.parent.as_ref().is_some_and(|parent| parent.all_expired())
    }

    #[inline]
    fn pick(&self) -> MutexGuard<'_, Pick> {
        self.pick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn more<T>(&self, change: impl FnOnce(&mut More) -> T) -> T {
        change(self.pick().more.get_or_insert_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_is_that_of_sending_for_one_pick_at_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let attempt = || AttemptContext::new(None, None, 0, start);
        let (at_once, later) = (attempt(), attempt());
        // The first poll is over: a layer in between has kept the call.
        later.time_passes();
        tokio::time::advance(second).await;
        assert_eq!((at_once.now(), at_once.now()), (start, start + second));
        assert_eq!(later.now(), start + second);
    }
}
