//! The attempts of one call that are under way: mostly one, several while it is hedged.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::attempt::{Attempt, Earlier, Scoped};
use crate::{InstanceId, expiring};

pin_project! {
    pub(super) struct Running<F> {
        #[pin]
        attempt: Scoped<F>,
        started: Instant,
        ends: Option<Instant>,
    }
}

/// Where an attempt went that is over, and since when it had run.
pub(super) struct Ended {
    pub(super) instance: Option<InstanceId>,
    pub(super) started: Instant,
}

impl<F> Running<F> {
    pub(super) fn new(
        earlier: Option<Box<Earlier>>,
        attempt: F,
        started: Instant,
        ends: Option<Instant>,
    ) -> Self {
        let attempt = Scoped::new(Attempt::new(earlier, started), attempt);
        Self { attempt, started, ends }
    }

    fn ended(&self) -> Ended {
        Ended { instance: self.attempt.picked().cloned(), started: self.started }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }
}

/// The first one stands in its place on the stack of the call, so that a call that needs no second
/// one allocates nothing for it.
pub(super) struct Attempts<'a, F> {
    first: Pin<&'a mut Option<Running<F>>>,
    others: Vec<Pin<Box<Running<F>>>>,
}

impl<'a, F: Future> Attempts<'a, F> {
    pub(super) fn new(first: Pin<&'a mut Option<Running<F>>>) -> Self {
        Self { first, others: Vec::new() }
    }

    pub(super) fn push(&mut self, running: Running<F>) {
        if self.first.is_none() {
            self.first.set(Some(running));
        } else {
            self.others.push(Box::pin(running));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Running<F>> {
        self.first.as_ref().get_ref().iter().chain(self.others.iter().map(|other| &**other))
    }

    /// The instances that those under way went to.
    pub(super) fn picked(&self) -> impl Iterator<Item = &InstanceId> {
        self.iter().filter_map(|running| running.attempt.picked())
    }

    /// When the first of them has had its time.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.iter().filter_map(|running| running.ends).min()
    }

    /// The first that is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Ended, F::Output)> {
        if let Some(running) = self.first.as_mut().as_pin_mut()
            && let Poll::Ready(outcome) = running.project().attempt.poll(cx)
        {
            let ended = self.first.as_ref().get_ref().as_ref().map(Running::ended);
            self.first.set(None);
            // It was there a moment ago.
            let Some(ended) = ended else { return Poll::Pending };
            return Poll::Ready((ended, outcome));
        }
        for at in 0..self.others.len() {
            if let Poll::Ready(outcome) = self.others[at].as_mut().project().attempt.poll(cx) {
                let ended = self.others.swap_remove(at).ended();
                return Poll::Ready((ended, outcome));
            }
        }
        Poll::Pending
    }

    /// Drops those that have had their time. Their instances hear that they took too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ended> {
        self.cut_off(|running| running.is_over(now))
    }

    /// Drops all of them, for the call has had its time.
    pub(super) fn expire_all(&mut self) -> Vec<Ended> {
        self.cut_off(|_| true)
    }

    fn cut_off(&mut self, is_over: impl Fn(&Running<F>) -> bool) -> Vec<Ended> {
        let cut: Vec<_> =
            self.iter().filter(|running| is_over(running)).map(Running::ended).collect();
        expiring(|| {
            if self.first.as_ref().get_ref().as_ref().is_some_and(&is_over) {
                self.first.set(None);
            }
            self.others.retain(|other| !is_over(other));
        });
        cut
    }
}
