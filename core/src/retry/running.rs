//! The attempts of one call that are under way: mostly one, several while it is hedged.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::sending::Sending;
use crate::context::{Again, CallContext};
use crate::{BoxError, InstanceId};

pin_project! {
    pub(super) struct Running<F> {
        #[pin]
        future: F,
        context: CallContext,
        started: Instant,
        ends: Option<Instant>,
    }
}

/// What is known of an attempt that is over.
pub(super) struct Ended {
    /// Where it went.
    pub(super) instance: Option<InstanceId>,
    pub(super) started: Instant,
    /// Whether the request certainly never left this process.
    pub(super) unsent: bool,
    /// Whether it ended because no instance takes the call; what they said is in the errors before.
    pub(super) gave_up: bool,
    pub(super) again: Option<Again>,
    /// Whether a layer below has told the budget how it went.
    pub(super) counted_below: bool,
}

/// What an attempt has brought.
pub(super) struct Answer<R> {
    pub(super) response: R,
    /// Whether a layer below has told the budget how it went.
    pub(super) counted_below: bool,
}

type Failure = (Ended, BoxError);

impl<F> Running<F> {
    pub(super) fn new(
        context: CallContext,
        future: F,
        started: Instant,
        ends: Option<Instant>,
    ) -> Self {
        Self { future, context, started, ends }
    }

    fn ended(&self, unsent: bool) -> Ended {
        let attempt = self.context.attempt();
        Ended {
            instance: attempt.picked(),
            started: self.started,
            unsent,
            gave_up: attempt.gave_up(),
            again: attempt.again(),
            counted_below: attempt.is_counted_below(),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// The time that an attempt waits for an endpoint is none of its own.
    fn postpone(self: Pin<&mut Self>, now: Instant, most: Duration) {
        let this = self.project();
        let attempt = this.context.attempt();
        if attempt.is_waiting() {
            *this.ends = now.checked_add(most);
        } else if let Some(picked_at) = attempt.picked_at() {
            *this.ends = picked_at.checked_add(most);
        }
    }
}

impl<F: Future<Output = Result<R, BoxError>>, R> Running<F> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Answer<R>, Failure>> {
        let polled = self.as_mut().project().future.poll(cx);
        let attempt = self.context.attempt();
        attempt.time_passes();
        polled.map(|answer| match answer {
            Ok(response) => Ok(Answer { response, counted_below: attempt.is_counted_below() }),
            Err(error) => Err((self.ended(false), error)),
        })
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
    pub(super) fn picked(&self) -> impl Iterator<Item = InstanceId> {
        self.iter().filter_map(|running| running.context.attempt().picked())
    }

    /// When the first of them has had its time.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.iter().filter_map(|running| running.ends).min()
    }
}

impl<S: Service<Req>, Req> Attempts<Sending<S, Req>> {
    /// Drops those that have had their time, `most` since they had an endpoint. Their instances hear
    /// that they took too long.
    pub(super) fn expire(mut self: Pin<&mut Self>, now: Instant, most: Duration) -> Vec<Ended> {
        let mut this = self.as_mut().project();
        let first = this.first.as_mut().as_pin_mut();
        for running in first.into_iter().chain(this.others.iter_mut().map(Pin::as_mut)) {
            if running.is_over(now) {
                running.postpone(now, most);
            }
        }
        self.cut_off(|running| running.is_over(now))
    }

    /// Drops all of them, for the call has had its time.
    pub(super) fn expire_all(self: Pin<&mut Self>) -> Vec<Ended> {
        self.cut_off(|_| true)
    }

    fn cut_off(
        self: Pin<&mut Self>,
        is_over: impl Fn(&Running<Sending<S, Req>>) -> bool,
    ) -> Vec<Ended> {
        let mut cut = Vec::new();
        let mut end = |running: Pin<&mut Running<Sending<S, Req>>>| {
            let over = is_over(&running);
            if over {
                cut.push(running.ended(running.take_back()));
                running.context.expire_picked();
            }
            over
        };
        let mut this = self.project();
        if this.first.as_mut().as_pin_mut().is_some_and(&mut end) {
            this.first.set(None);
        }
        this.others.retain_mut(|other| !end(other.as_mut()));
        cut
    }
}

impl<S: Service<Req>, Req> Running<Sending<S, Req>> {
    /// Whether the request is still in our hands, this layer's or the balancer's under it, and so
    /// never leaves.
    fn take_back(&self) -> bool {
        self.future.is_driving() || self.context.attempt().take_back()
    }
}

impl<F: Future<Output = Result<R, BoxError>>, R> Attempts<F> {
    /// The first that is over.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer<R>, Failure>> {
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
