//! The attempts of one call that are under way: mostly one, several while it is hedged.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::attempt::{Attempt, Earlier, Scoped};
use crate::{BoxError, InstanceId, expiring};

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

impl<F: Future<Output = Result<R, BoxError>>, R> Running<F> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, (Ended, BoxError)>> {
        let polled = self.as_mut().project().attempt.poll(cx);
        polled.map_err(|error| (self.ended(), error))
    }
}

pin_project! {
    /// The first one stands in its place in the call's future, so that a call that needs no second
    /// one allocates nothing for it.
    pub(super) struct Attempts<F> {
        #[pin]
        first: Option<Running<F>>,
        others: Vec<Pin<Box<Running<F>>>>,
    }
}

impl<F> Default for Attempts<F> {
    fn default() -> Self {
        Self { first: None, others: Vec::new() }
    }
}

impl<F> Attempts<F> {
    pub(super) fn push(self: Pin<&mut Self>, running: Running<F>) {
        let mut this = self.project();
        if this.first.is_none() {
            this.first.set(Some(running));
        } else {
            this.others.push(Box::pin(running));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Running<F>> {
        self.first.iter().chain(self.others.iter().map(|other| &**other))
    }

    /// The instances that those under way went to.
    pub(super) fn picked(&self) -> impl Iterator<Item = &InstanceId> {
        self.iter().filter_map(|running| running.attempt.picked())
    }

    /// When the first of them has had its time.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.iter().filter_map(|running| running.ends).min()
    }

    /// Drops those that have had their time. Their instances hear that they took too long.
    pub(super) fn expire(self: Pin<&mut Self>, now: Instant) -> Vec<Ended> {
        self.cut_off(|running| running.is_over(now))
    }

    /// Drops all of them, for the call has had its time.
    pub(super) fn expire_all(self: Pin<&mut Self>) -> Vec<Ended> {
        self.cut_off(|_| true)
    }

    fn cut_off(self: Pin<&mut Self>, is_over: impl Fn(&Running<F>) -> bool) -> Vec<Ended> {
        let cut: Vec<_> =
            self.iter().filter(|running| is_over(running)).map(Running::ended).collect();
        let mut this = self.project();
        expiring(|| {
            if this.first.as_ref().get_ref().as_ref().is_some_and(&is_over) {
                this.first.set(None);
            }
            this.others.retain(|other| !is_over(other));
        });
        cut
    }
}

impl<F: Future<Output = Result<R, BoxError>>, R> Attempts<F> {
    /// The first that is over.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R, (Ended, BoxError)>> {
        let mut this = self.project();
        if let Some(running) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(outcome) = running.poll(cx)
        {
            this.first.set(None);
            return Poll::Ready(outcome);
        }
        for at in 0..this.others.len() {
            if let Poll::Ready(outcome) = this.others[at].as_mut().poll(cx) {
                this.others.swap_remove(at);
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }
}
