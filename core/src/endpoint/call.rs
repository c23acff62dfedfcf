//! A call under way, and how it went.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::EndpointState;
use crate::attempt;

/// How a call went, as far as the instance is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance answered, and be it with an error that the caller caused.
    Success,
    /// The instance failed.
    Failure {
        /// How long it asks to be left alone.
        pushback: Option<Duration>,
    },
    /// It says nothing about the instance.
    Ignored,
}

impl Outcome {
    /// A failure that asks for nothing.
    pub const FAILURE: Self = Self::Failure { pushback: None };

    /// A failure after which the instance asks to be left alone for so long, if it does.
    pub fn failure(pushback: Option<Duration>) -> Self {
        Self::Failure { pushback }
    }
}

/// A call under way at one endpoint.
///
/// Whoever knows how the call went says so by [`finish`](Self::finish). Dropped before, it counts
/// as given up by the caller: that is no failure, but the time it took counts as latency if it is
/// longer than what was known, for the answer would have taken at least that long. Once
/// [`answered`](Self::answered) it is a success: what the caller does not read to its end was good.
/// A call that is dropped because a deadline of [`Retry`](crate::Retry) passed, or within
/// [`expiring`](crate::expiring()), is a failure of the instance.
#[must_use]
pub struct InFlight {
    state: Arc<EndpointState>,
    started: Instant,
    answered: bool,
    probe: bool,
    judged: bool,
}

impl InFlight {
    pub(super) fn new(state: Arc<EndpointState>, now: Instant) -> Self {
        let probe = state.enter();
        Self { state, started: now, answered: false, probe, judged: false }
    }

    /// The head of a good answer is here: the latency is measured now and not at the end, which may
    /// be a stream's.
    pub fn answered(&mut self) {
        self.answered_at(Instant::now());
    }

    /// As [`answered`](Self::answered), at a time that the caller knows already.
    pub fn answered_at(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.answered, true) {
            let rtt = now.saturating_duration_since(self.started);
            self.state.answered(rtt, self.probe, now);
            // It has said what it was to say. Its end, hours later perhaps, is no word of another one.
            self.probe = false;
        }
    }

    /// Completes when the endpoint has left the set of those that take calls.
    pub(crate) fn withdrawn(&self) -> BoxFuture<'static, ()> {
        let state = self.state.clone();
        Box::pin(async move { state.withdrawn().await })
    }

    /// The call is over.
    pub fn finish(self, outcome: Outcome) {
        self.finish_at(outcome, Instant::now());
    }

    /// As [`finish`](Self::finish), at a time that the caller knows already.
    pub fn finish_at(mut self, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Success {
            self.answered_at(now);
        }
        self.judge(outcome, now);
    }

    /// As if dropped at a time that the caller knows already.
    pub fn give_up_at(mut self, now: Instant) {
        self.given_up(now);
    }

    fn given_up(&mut self, now: Instant) {
        if self.answered {
            return self.judge(Outcome::Success, now);
        }
        self.state.took_at_least(now.saturating_duration_since(self.started), now);
        self.judged = true;
    }

    fn judge(&mut self, outcome: Outcome, now: Instant) {
        // The length of a stream that breaks is no latency.
        let started = if self.answered { now } else { self.started };
        self.state.judge(outcome, started, self.probe, now);
        self.judged = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.judged {
            let now = Instant::now();
            if attempt::current().blames(&self.state) {
                self.judge(Outcome::FAILURE, now);
            } else {
                self.given_up(now);
            }
        }
        self.state.leave(self.probe);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}
