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

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::InstanceId;
use crate::endpoints::endpoint::EndpointState;

thread_local! {
    static PLACE: Place = const { Place { attempt: RefCell::new(None), hidden: Cell::new(false) } };
}

/// Where the current attempt lies. It is borrowed for moments only, in which nobody else's code runs.
struct Place {
    attempt: RefCell<Option<Attempt>>,
    /// Whether it is for nobody to see.
    hidden: Cell<bool>,
}

/// An attempt, as the retry and the balancer under it see it.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Nothing for the first attempt of a call.
    earlier: Option<Box<Earlier>>,
    picked: Option<Arc<EndpointState>>,
    /// The time as of the first poll, until a pick has used it. Later, if it had to wait for an
    /// endpoint, when it got it.
    at: Option<Instant>,
    is_first_poll: bool,
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
    /// Of the layer that makes the attempt; 0 for none.
    own: usize,
    /// Of the layers above it. Nothing for most calls, which have one layer.
    above: Option<Arc<Vec<usize>>>,
}

impl Budgets {
    fn all(&self) -> impl Iterator<Item = usize> {
        let above = self.above.iter().flat_map(|above| above.iter().copied());
        above.chain(Some(self.own).filter(|own| *own != 0))
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
            at: now,
            is_first_poll: true,
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
    // Looked at first: to move nothing costs as much as to move an attempt.
    let take = |place: &Place| match place.hidden.get() || place.attempt.borrow().is_none() {
        true => None,
        false => place.attempt.take(),
    };
    // Without a place, as a thread ends, this is outside any retry.
    Current(PLACE.try_with(take).ok().flatten())
}

/// Hides the current attempt from whatever runs until this is dropped.
#[inline]
pub(crate) fn hide() -> Hidden {
    Hidden { before: PLACE.try_with(|place| place.hidden.replace(true)).unwrap_or(true) }
}

/// Looks at the current attempt where it lies.
#[inline]
fn look<T>(at: impl FnOnce(&mut Attempt) -> T) -> Option<T> {
    let look = |place: &Place| match place.hidden.get() {
        true => None,
        false => place.attempt.borrow_mut().as_mut().map(at),
    };
    PLACE.try_with(look).ok().flatten()
}

/// Whether a call that is dropped now was cut off because this endpoint took too long. An attempt
/// blames one call.
pub(crate) fn blames(endpoint: &Arc<EndpointState>) -> bool {
    let blames = look(|attempt| match attempt.expired {
        Expired::No => false,
        Expired::All => true,
        Expired::Picked => {
            let picked = attempt.picked.as_ref();
            let is_picked = picked.is_some_and(|picked| Arc::ptr_eq(picked, endpoint));
            if is_picked {
                attempt.expired = Expired::No;
            }
            is_picked
        }
    });
    blames == Some(true)
}

/// A layer with this budget, or none, begins a call. Says whether a layer above has counted the call for
/// the same budget, and what the attempts of the new call are told.
#[inline]
pub(crate) fn counts(budget: Option<usize>) -> (bool, Budgets) {
    let own = budget.unwrap_or(0);
    let within = look(|attempt| {
        let counted = own != 0 && attempt.budgets.all().any(|above| above == own);
        attempt.counted_below |= counted && attempt.budgets.own == own;
        let above: Vec<_> = attempt.budgets.all().collect();
        let above = (!above.is_empty()).then(|| Arc::new(above));
        (counted, Budgets { own, above })
    });
    within.unwrap_or((false, Budgets { own, above: None }))
}

/// The current attempt is hidden until this is dropped.
#[must_use]
pub(crate) struct Hidden {
    before: bool,
}

impl Hidden {
    /// Notes that the endpoint's service is called: from now on the request may leave.
    #[inline]
    pub(crate) fn calls(&self) {
        if !self.before {
            let note = |place: &Place| {
                if let Some(attempt) = &mut *place.attempt.borrow_mut() {
                    attempt.reached = Reached::Called;
                }
            };
            let _ = PLACE.try_with(note);
        }
    }
}

impl Drop for Hidden {
    #[inline]
    fn drop(&mut self) {
        let _ = PLACE.try_with(|place| place.hidden.set(self.before));
    }
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
        let first = self.0.as_mut().filter(|attempt| attempt.is_first_poll);
        let known = first.and_then(|attempt| attempt.at.take());
        known.unwrap_or_else(Instant::now)
    }

    /// Notes where the attempt goes, or that it found no endpoint.
    #[inline]
    pub(crate) fn goes_to(&mut self, endpoint: Option<&Arc<EndpointState>>, now: Instant) {
        // Outside any retry there is nobody to tell.
        if let Some(attempt) = &mut self.0 {
            attempt.picked = endpoint.cloned();
            if attempt.reached == Reached::Waiting && endpoint.is_some() {
                attempt.at = Some(now);
                attempt.is_first_poll = false;
            }
            if attempt.reached != Reached::Called {
                attempt.reached =
                    if endpoint.is_some() { Reached::Picked } else { Reached::Waiting };
            }
        }
    }

    /// Notes that the attempt ends because no endpoint takes the call: the errors before say more.
    pub(crate) fn gives_up(&mut self) {
        if let Some(attempt) = &mut self.0 {
            attempt.gave_up = true;
        }
    }
}

impl Drop for Current {
    #[inline]
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take() {
            let _ = PLACE.try_with(|place| place.attempt.replace(Some(attempt)));
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
        self.attempt.as_ref().filter(|attempt| !attempt.is_first_poll)?.at
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
        let blames_all = look(|around| around.expired == Expired::All) == Some(true);
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
        if let Some(attempt) = this.attempt.as_mut().filter(|attempt| attempt.is_first_poll) {
            attempt.is_first_poll = false;
            attempt.at = None;
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
            let _hidden = hide();
            self.0 = None;
        }
    }
}

/// Swaps an attempt with what lies in the place, and back when dropped: also when a poll panics.
struct Exchanged<'a> {
    attempt: &'a mut Option<Attempt>,
    /// Of the attempt around it.
    hidden: bool,
}

impl<'a> Exchanged<'a> {
    #[inline]
    fn new(attempt: &'a mut Option<Attempt>) -> Self {
        let mut exchanged = Self { attempt, hidden: false };
        exchanged.exchange();
        exchanged
    }

    #[inline]
    fn exchange(&mut self) {
        let _ = PLACE.try_with(|place| {
            std::mem::swap(&mut *place.attempt.borrow_mut(), self.attempt);
            self.hidden = place.hidden.replace(self.hidden);
        });
    }
}

impl Drop for Exchanged<'_> {
    #[inline]
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
