//! A call under way, and how it went.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::EndpointState;
use super::doubt::Heard;
use super::way::Way;
use crate::InstanceId;
use crate::context::CallContext;
use crate::endpoints::Operation;

/// How a call went, as far as the instance is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance answered well.
    Success,
    /// The instance answered at once with an error that may be the caller's fault or its own: the
    /// request is not allowed, not known, not in order.
    ///
    /// It never lowers the instance's latency. If the instance goes on to refuse an
    /// [operation](crate::endpoints::Operation) that others do, its calls of it go to the others.
    Refused,
    /// What answered is no instance of the service: it speaks another protocol. A failure, and a
    /// refusal.
    Foreign,
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
/// If a call is dropped because a deadline of [`Retry`](crate::Retry) passed, or after
/// [`expire`](crate::context::CallContext::expire), [`Balanced`](crate::Balanced) makes a failure of
/// the instance of it.
#[must_use]
pub struct InFlight {
    state: Arc<EndpointState>,
    started: Instant,
    operation: Operation,
    way: Way<Arc<EndpointState>>,
    /// The head is here: how long the rest takes is no latency.
    has_head: bool,
    answered: bool,
    probe: bool,
    judged: bool,
}

impl InFlight {
    pub(super) fn new(
        state: Arc<EndpointState>,
        operation: Operation,
        way: Way<Arc<EndpointState>>,
        now: Instant,
    ) -> Self {
        let probe = state.enter();
        Self {
            state,
            started: now,
            operation,
            way,
            has_head: false,
            answered: false,
            probe,
            judged: false,
        }
    }

    /// A head is here that tells nothing but that the instance is alive: whether the answer is good
    /// shows later, and then the latency may be measured to here ([`answered_at`](Self::answered_at)).
    pub fn heard_at(&mut self, now: Instant) {
        self.has_head = true;
        self.state.heard(now.saturating_duration_since(self.started), now);
    }

    /// The head of a good answer is here: the latency is measured now and not at the end, which may
    /// be a stream's.
    pub fn answered(&mut self) {
        self.answered_at(Instant::now());
    }

    /// As [`answered`](Self::answered), at a time that the caller knows already.
    pub fn answered_at(&mut self, now: Instant) {
        self.has_head = true;
        if !std::mem::replace(&mut self.answered, true) {
            // It says what it has to say here. Its end, hours later perhaps, is no word of another one.
            self.state.answered(self.operation, self.started, &mut self.probe, now);
            self.tell(Heard::Good, now);
        }
    }

    /// The call is dropped. It was cut off if `context` blames this endpoint for that.
    pub(crate) fn drop_within(self, context: &CallContext) {
        if context.attempt().blames(&self.state) {
            self.finish(Outcome::FAILURE);
        }
    }

    /// Completes when the endpoint has left the set of those that take calls.
    pub(crate) fn withdrawn(&self) -> BoxFuture<'static, ()> {
        let state = self.state.clone();
        Box::pin(async move { state.withdrawn().await })
    }

    /// The instance that was called.
    pub fn instance(&self) -> &InstanceId {
        self.state.instance()
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
        if !self.has_head {
            self.state.took_at_least(now.saturating_duration_since(self.started), now);
        }
        self.judged = true;
    }

    fn judge(&mut self, outcome: Outcome, now: Instant) {
        self.judged = true;
        match outcome {
            // What it has answered already was good.
            Outcome::Refused if !self.answered => {
                let (operation, elapsed) = (self.operation, self.elapsed(now));
                let heard = self.state.refused(operation, elapsed, &self.way, &mut self.probe, now);
                self.tell(heard, now);
            }
            Outcome::Foreign => {
                self.state.failed(self.elapsed(now), &mut self.probe, now);
                if !self.answered {
                    let heard = self.state.refused_foreign(self.operation, &self.way, now);
                    self.tell(heard, now);
                }
            }
            Outcome::Success | Outcome::Refused => self.state.succeeded(),
            Outcome::Failure { pushback } => {
                let least = self.elapsed(now).max(pushback.unwrap_or_default());
                self.state.failed(least, &mut self.probe, now);
            }
            Outcome::Ignored => {}
        }
    }

    /// How long the answer took so far; nothing once its head is here.
    fn elapsed(&self, now: Instant) -> Duration {
        let started = if self.has_head { now } else { self.started };
        now.saturating_duration_since(started)
    }

    /// Tells the endpoint in whose place the call came here how it went.
    fn tell(&self, heard: Heard, now: Instant) {
        if let Way::Instead(doubted) = &self.way {
            doubted.elsewhere(self.operation, heard, now);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.judged {
            let now = Instant::now();
            self.given_up(now);
        }
        self.state.leave(&mut self.probe);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}
