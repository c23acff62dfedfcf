//! What the attempts of one call know of each other.
//!
//! A retry must leave out the instances tried already, and say which instance an error came from.
//! The retry layer and the balancer do not know each other's types, and the caller may have put
//! other layers between them, so the two meet in a place of the thread's in which an attempt lies
//! while its future is polled. A layer that moves the call to another task (tower's `Buffer`) cuts
//! the line; then only the exclusion is lost. The line ends at the endpoint: what an instance's
//! service calls in turn is no attempt of this call, so it runs while the place is
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
}

/// How many attempts went before, and where to.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) number: u32,
    pub(crate) tried: Vec<InstanceId>,
}

impl Attempt {
    /// One that is polled for the first time at `now`.
    pub(crate) fn new(earlier: Option<Box<Earlier>>, now: Instant) -> Self {
        Self { earlier, picked: None, now: Some(now) }
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

    /// The time, read for this attempt already or now.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        let known = self.0.as_mut().and_then(|attempt| attempt.now.take());
        known.unwrap_or_else(Instant::now)
    }

    /// Notes where the attempt goes, or that it found no endpoint.
    #[inline]
    pub(crate) fn goes_to(&mut self, endpoint: Option<&Arc<EndpointState>>) {
        // Outside any retry there is nobody to tell.
        if let Some(attempt) = &mut self.0 {
            attempt.picked = endpoint.cloned();
        }
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

pin_project! {
    /// An attempt's future, with the attempt in its place while it is polled.
    pub(crate) struct Scoped<F> {
        // While it is polled: the one around it, if there is one.
        attempt: Option<Attempt>,
        #[pin]
        future: F,
    }
}

impl<F> Scoped<F> {
    pub(crate) fn new(attempt: Attempt, future: F) -> Self {
        Self { attempt: Some(attempt), future }
    }

    /// Where the attempt went, if it has picked.
    pub(crate) fn picked(&self) -> Option<&InstanceId> {
        Some(self.attempt.as_ref()?.picked.as_ref()?.instance())
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let inside = Exchanged::new(this.attempt);
        let polled = this.future.poll(cx);
        drop(inside);
        if let Some(attempt) = this.attempt {
            attempt.now = None;
        }
        polled
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
        let earlier = Earlier { number, tried: Vec::new() };
        Scoped::new(Attempt::new(Some(Box::new(earlier)), Instant::now()), future)
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
