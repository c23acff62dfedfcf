//! What the attempts of one call know of each other.
//!
//! A retry must leave out the instances tried already, and say which instance an error came from. It
//! must know whether the request has left, and whose instance is to blame when its deadline passes.
//! The retry layer and the balancer do not know each other's types, and the caller may have put
//! other layers between them, so the two meet in a thread-local that holds the attempt while its
//! future is polled or dropped. A layer that moves the call to another task (tower's `Buffer`) cuts
//! the line; then only the exclusion is lost. The line ends at the endpoint: what an instance's
//! service calls in turn is no attempt of this call, so it is polled and dropped while the place is
//! [taken](current).

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::InstanceId;
use crate::endpoint::EndpointState;

thread_local! {
    static CURRENT: Cell<Option<Attempt>> = const { Cell::new(None) };
}

/// An attempt, as the retry and the balancer under it see it.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Nothing for the first attempt of a call.
    earlier: Option<Box<Earlier>>,
    picked: Option<Arc<EndpointState>>,
    /// The time as of the first poll, until a pick has used it.
    now: Option<Instant>,
    /// When it got its endpoint, if it had to wait for one.
    picked_at: Option<Instant>,
    reached: Reached,
    expired: Expired,
    gave_up: bool,
    budgets: Budgets,
    /// Whether a layer below counts this attempt for the same budget.
    counted_below: bool,
}

/// The budgets for which a call is counted already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    /// Of the layer that makes the attempt.
    own: Option<usize>,
    /// Of the layers above it. Nothing for most calls, which have one layer.
    above: Option<Arc<[usize]>>,
}

impl Budgets {
    fn all(&self) -> impl Iterator<Item = usize> {
        self.above.iter().flat_map(|above| above.iter().copied()).chain(self.own)
    }
}

/// How many attempts went before, and where to.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) number: u32,
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

/// How far an attempt has come, as far as the balancers under it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// No balancer has seen it.
    Nothing,
    /// It waits for an endpoint.
    Waiting,
    /// It has an endpoint, whose service is not yet ready for it.
    Picked,
    /// Some endpoint's service has been called. Layers in between may make more than one call.
    Called,
}

/// Whether the drop that is under way says that an instance took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expired {
    No,
    /// The instance that the attempt went to.
    Picked,
    /// The instance of every call that is dropped.
    All,
}

impl Attempt {
    /// One that is polled for the first time at `now`.
    pub(crate) fn new(
        earlier: Option<Box<Earlier>>,
        now: Option<Instant>,
        budgets: Budgets,
    ) -> Self {
        Self {
            budgets,
            counted_below: false,
            earlier,
            picked: None,
            now,
            picked_at: None,
            reached: Reached::Nothing,
            expired: Expired::No,
            gave_up: false,
        }
    }
}

/// The attempt that is being polled on this thread, if there is one. While this is held there is
/// none for anybody else.
#[inline]
pub(crate) fn current() -> Current {
    // Without a place, as a thread ends, this is outside any retry.
    Current(CURRENT.try_with(Cell::take).ok().flatten())
}

/// The current attempt, taken from its place until this is dropped.
#[must_use]
pub(crate) struct Current(Option<Attempt>);

impl Current {
    /// How many attempts went before, and where to.
    #[inline]
    pub(crate) fn earlier(&self) -> (u32, &[InstanceId]) {
        match &self.0 {
            Some(Attempt { earlier: Some(earlier), .. }) => (earlier.number, &earlier.tried),
            _ => (0, &[]),
        }
    }

    /// Set if the attempt takes the place of one that never left.
    #[inline]
    pub(crate) fn again(&mut self) -> Option<&mut Again> {
        self.0.as_mut()?.earlier.as_mut()?.again.as_mut()
    }

    /// The time, read for this attempt already or now.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        let known = self.0.as_mut().and_then(|attempt| attempt.now.take());
        known.unwrap_or_else(Instant::now)
    }

    /// Notes where the attempt goes, or that it found no endpoint.
    #[inline]
    pub(crate) fn goes_to(&mut self, endpoint: Option<&Arc<EndpointState>>, now: Instant) {
        // Outside any retry there is nobody to tell.
        if let Some(attempt) = &mut self.0 {
            attempt.picked = endpoint.cloned();
            if attempt.reached == Reached::Waiting && endpoint.is_some() {
                attempt.picked_at = Some(now);
            }
            if attempt.reached != Reached::Called {
                attempt.reached =
                    if endpoint.is_some() { Reached::Picked } else { Reached::Waiting };
            }
        }
    }

    /// Notes that the endpoint's service is called: from now on the request may leave.
    #[inline]
    pub(crate) fn calls(&mut self) {
        if let Some(attempt) = &mut self.0 {
            attempt.reached = Reached::Called;
        }
    }

    /// Notes that the attempt ends because no endpoint takes the call: the errors before say more.
    pub(crate) fn gives_up(&mut self) {
        if let Some(attempt) = &mut self.0 {
            attempt.gave_up = true;
        }
    }

    /// Whether a call that is dropped now was cut off because this endpoint took too long. An attempt
    /// blames one call.
    pub(crate) fn blames(&mut self, endpoint: &Arc<EndpointState>) -> bool {
        let Some(attempt) = &mut self.0 else { return false };
        match attempt.expired {
            Expired::No => false,
            Expired::All => true,
            Expired::Picked => {
                let is_picked =
                    attempt.picked.as_ref().is_some_and(|picked| Arc::ptr_eq(picked, endpoint));
                if is_picked {
                    attempt.expired = Expired::No;
                }
                is_picked
            }
        }
    }

    /// A layer with this budget, if it has one, makes a call within the attempt. Says whether a layer above
    /// has counted the call for the same budget, and what the attempts of the new call are told.
    pub(crate) fn counts(&mut self, budget: Option<usize>) -> (bool, Budgets) {
        let Some(attempt) = &mut self.0 else {
            return (false, Budgets { own: budget, above: None });
        };
        let counted = budget.is_some_and(|budget| attempt.budgets.all().any(|all| all == budget));
        attempt.counted_below |= counted && attempt.budgets.own == budget;
        let mut above = attempt.budgets.all().peekable();
        let above = above.peek().is_some().then(|| above.collect());
        (counted, Budgets { own: budget, above })
    }

    fn blames_all(&self) -> bool {
        self.0.as_ref().is_some_and(|attempt| attempt.expired == Expired::All)
    }
}

impl Drop for Current {
    #[inline]
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take() {
            let _ = CURRENT.try_with(|place| place.set(Some(attempt)));
        }
    }
}

/// Drops a call whose deadline has passed: `expiring(|| drop(call))`.
///
/// To an endpoint a dropped call is a caller that has gone away, which says nothing about the
/// instance. Who drops a call because the *instance* took too long says so by dropping it in here:
/// then it counts as a failure of the instance. It is for a timeout of one's own around
/// [`Balanced`](crate::Balanced); [`Retry`](crate::Retry) and the clients built on it do this for their own
/// deadlines. It reaches the calls of the endpoints that are dropped, and nothing that their services
/// called in turn.
pub fn expiring<T>(drop: impl FnOnce() -> T) -> T {
    let mut attempt =
        Some(Attempt { expired: Expired::All, ..Attempt::new(None, None, Budgets::default()) });
    let _inside = Exchanged::new(&mut attempt);
    drop()
}

pin_project! {
    /// An attempt's future, with the attempt in its place while it is polled or dropped.
    pub(crate) struct Scoped<F> {
        // While it is polled: the one around it, if there is one.
        attempt: Option<Attempt>,
        // Nothing when it is over.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scoped<F> {
        fn drop(this: Pin<&mut Self>) {
            this.end();
        }
    }
}

impl<F> Scoped<F> {
    pub(crate) fn new(attempt: Attempt, future: F) -> Self {
        Self { attempt: Some(attempt), future: Some(future) }
    }

    /// Where the attempt went, if it has picked.
    pub(crate) fn picked(&self) -> Option<&InstanceId> {
        Some(self.attempt.as_ref()?.picked.as_ref()?.instance())
    }

    /// Nothing when it is over.
    pub(crate) fn future(&self) -> Option<&F> {
        self.future.as_ref()
    }

    /// Whether it waits for an endpoint.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reached() == Some(Reached::Waiting)
    }

    /// When it got its endpoint, if it had to wait for one.
    pub(crate) fn picked_at(&self) -> Option<Instant> {
        self.attempt.as_ref()?.picked_at
    }

    /// Whether the balancer under it still has the request.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self.reached(), Some(Reached::Waiting | Reached::Picked))
    }

    /// Whether it ended because no endpoint takes the call.
    pub(crate) fn gave_up(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.gave_up)
    }

    /// Whether a layer below counts this attempt for the same budget.
    pub(crate) fn is_counted_below(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.counted_below)
    }

    pub(crate) fn again(&self) -> Option<Again> {
        self.attempt.as_ref()?.earlier.as_ref()?.again
    }

    fn reached(&self) -> Option<Reached> {
        Some(self.attempt.as_ref()?.reached)
    }

    /// Drops the future because the instance took too long, which the instance hears.
    pub(crate) fn expire(mut self: Pin<&mut Self>) {
        if let Some(attempt) = self.as_mut().project().attempt {
            attempt.expired = Expired::Picked;
        }
        self.end();
    }

    /// Drops the future with the attempt in its place: whatever is dropped around it says nothing of
    /// the calls in it.
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.future.is_none() {
            return;
        }
        let blames_all = current().blames_all();
        if let Some(attempt) = this.attempt.as_mut().filter(|_| blames_all) {
            attempt.expired = Expired::All;
        }
        let _inside = Exchanged::new(this.attempt);
        this.future.set(None);
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let inside = Exchanged::new(this.attempt);
        let polled = future.poll(cx);
        if polled.is_ready() {
            this.future.set(None);
        }
        drop(inside);
        if let Some(attempt) = this.attempt {
            attempt.now = None;
        }
        polled
    }
}

/// A request of the caller's, which may hold calls of its own: dropped while the attempt is hidden.
pub(crate) struct Aside<T>(Option<T>);

impl<T> Aside<T> {
    pub(crate) fn new(request: T) -> Self {
        Self(Some(request))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            let _hidden = current();
            self.0 = None;
        }
    }
}

/// Swaps an attempt with what lies in the place, and back when dropped: also when a poll panics.
struct Exchanged<'a>(&'a mut Option<Attempt>);

impl<'a> Exchanged<'a> {
    fn new(attempt: &'a mut Option<Attempt>) -> Self {
        let mut exchanged = Self(attempt);
        exchanged.exchange();
        exchanged
    }

    fn exchange(&mut self) {
        // In one expression, so that nothing is left out if there is no place.
        let _ = CURRENT.try_with(|place| *self.0 = place.replace(self.0.take()));
    }
}

impl Drop for Exchanged<'_> {
    fn drop(&mut self) {
        self.exchange();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use futures::FutureExt;

    use super::*;

    fn number() -> u32 {
        current().earlier().0
    }

    fn attempt<F: Future>(number: u32, future: F) -> Scoped<F> {
        let earlier = Earlier { number, tried: Vec::new(), again: None };
        Scoped::new(
            Attempt::new(Some(Box::new(earlier)), Some(Instant::now()), Budgets::default()),
            future,
        )
    }

    #[test]
    fn attempts_nest_and_whoever_holds_one_hides_it() {
        let inner = attempt(2, async { number() });
        let outer = attempt(1, async {
            let before = number();
            let inner = inner.await;
            let hidden = {
                let _held = current();
                (number(), attempt(3, async { number() }).await, number())
            };
            (before, inner, hidden, number())
        });
        assert_eq!(outer.now_or_never(), Some((1, 2, (0, 3, 0), 1)));
        assert_eq!(number(), 0);
    }

    #[test]
    fn an_attempt_that_panics_or_waits_leaves_its_place() {
        let mut outer = Box::pin(attempt(1, async {
            let panics = attempt(2, async { panic!("on purpose") });
            let inner = catch_unwind(AssertUnwindSafe(|| panics.now_or_never()));
            let held = catch_unwind(|| {
                let _held = current();
                panic!("on purpose")
            });
            assert!(inner.is_err() && held.is_err());
            let _ = attempt(3, pending::<()>()).now_or_never();
            assert_eq!(number(), 1);
            pending::<()>().await;
        }));
        assert_eq!(outer.as_mut().now_or_never(), None);
        assert_eq!(number(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_that_of_the_first_poll_and_of_one_pick() {
        let start = Instant::now();
        let times = attempt(0, poll_fn(|_| Poll::Ready((current().now(), current().now()))));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(times.now_or_never(), Some((start, Instant::now())));
        let mut polled = false;
        let mut later = Box::pin(attempt(
            0,
            poll_fn(|_| {
                if std::mem::replace(&mut polled, true) {
                    Poll::Ready(current().now())
                } else {
                    Poll::Pending
                }
            }),
        ));
        assert_eq!(later.as_mut().now_or_never(), None);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(later.now_or_never(), Some(Instant::now()));
    }
}
