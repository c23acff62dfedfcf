//! What an endpoint learns from its calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::EndpointState;
use crate::endpoints::Operation;
use crate::endpoints::endpoint::admission::Admission;
use crate::endpoints::endpoint::doubt::Heard;
use crate::endpoints::endpoint::refusals::{Blame, News, Refusal};
use crate::endpoints::endpoint::way::Way;
use crate::telemetry;

impl EndpointState {
    /// The head of a good answer is here. A probe need not wait for the end, which may be a stream's.
    pub(in crate::endpoints::endpoint) fn answered(
        &self,
        operation: Operation,
        began: Instant,
        probe: &mut bool,
        now: Instant,
    ) {
        let rtt = now.saturating_duration_since(began);
        self.took(rtt, now);
        self.around.usual.add(&self.pulse.latency, self.pulse.decay_seconds, now);
        if self.pulse.refused.keeps() {
            self.tell(self.refusals.good(&self.pulse.refused, operation, began, now));
        }
        self.admit(probe);
    }

    fn admit(&self, probe: &mut bool) {
        if self.pulse.admission.settle(probe, Admission::Open) {
            self.touch();
            self.around.changed.notify_one();
        }
    }

    /// It is alive; nothing else is known of the answer.
    pub(in crate::endpoints::endpoint) fn heard(&self, elapsed: Duration, now: Instant) {
        if !self.pulse.latency.is_known() {
            self.no_sample(elapsed, now);
        }
    }

    /// An answer took so long.
    fn took(&self, rtt: Duration, now: Instant) {
        let at = now.saturating_duration_since(self.pulse.created);
        self.pulse.latency.observe(rtt.as_secs_f32(), at, self.pulse.decay_seconds);
    }

    /// An answer takes at least so long: nobody waited for it.
    pub(in crate::endpoints::endpoint) fn took_at_least(&self, elapsed: Duration, now: Instant) {
        if self.latency(now).is_none_or(|estimate| elapsed.as_secs_f32() > estimate) {
            self.no_sample(elapsed, now);
        }
    }

    /// An answer that says nothing about how long a good one takes, but that it is not less.
    fn no_sample(&self, elapsed: Duration, now: Instant) {
        let at = now.saturating_duration_since(self.pulse.created);
        let usual = self.around.usual.get();
        self.pulse.latency.no_sample(elapsed.as_secs_f32(), usual, at, self.pulse.decay_seconds);
    }

    /// A failure, which took `least` or asks to be left alone for so long, and is the last of so many
    /// in a row.
    ///
    /// Failures are often quick, and an endpoint that fails must not attract calls. But a single one
    /// says little of an endpoint: it is averaged in, so that a share of failures shows as that share
    /// of the penalty. From the third in a row on it is believed at once, and each one more doubles
    /// what is known, for beside busy endpoints even the penalty may look quick.
    fn penalize(&self, least: Duration, in_a_row: u32, now: Instant) {
        const BELIEVED: u32 = 3;
        /// In seconds. Calls that fail together double it together; so it must not get out of hand.
        const MOST: f32 = 60.0;
        let penalty = self.around.feedback.failure_penalty();
        if penalty.is_zero() {
            return self.took_at_least(least, now);
        }
        let Some(known) = self.latency(now) else {
            return self.took(penalty.max(least), now);
        };
        if in_a_row < BELIEVED {
            let at = now.saturating_duration_since(self.pulse.created);
            let tau = self.pulse.decay_seconds;
            // In this order: what was seen just now leaves no time to weigh.
            self.pulse.latency.average(penalty.as_secs_f32(), at, tau);
            self.took_at_least(least, now);
        } else {
            let doubled = Duration::from_secs_f32((known * 2.0).min(MOST));
            self.took(penalty.max(least).max(doubled), now);
        }
    }

    pub(in crate::endpoints::endpoint) fn succeeded(&self) {
        self.outcomes.success();
    }

    /// A failure, which took `least` or asks to be left alone for so long.
    pub(in crate::endpoints::endpoint) fn failed(
        &self,
        least: Duration,
        probe: &mut bool,
        now: Instant,
    ) {
        let in_a_row = self.outcomes.failure();
        self.penalize(least, in_a_row, now);
        self.relapse(probe);
        if in_a_row == self.around.suspect_after {
            self.around.changed.notify_one();
        }
    }

    /// The call that tried it has failed.
    fn relapse(&self, probe: &mut bool) {
        if self.pulse.admission.settle(probe, Admission::Relapsed) {
            self.touch();
            self.around.changed.notify_one();
        }
    }

    /// An error that may be the caller's fault.
    pub(in crate::endpoints::endpoint) fn refused(
        &self,
        operation: Operation,
        elapsed: Duration,
        way: &Way<Arc<EndpointState>>,
        probe: &mut bool,
        now: Instant,
    ) -> Heard {
        self.no_sample(elapsed, now);
        let refusal = self.note_refusal(operation, way, now);
        match refusal.blame {
            Blame::Caller => {
                self.outcomes.success();
                self.admit(probe);
            }
            Blame::Operation => {}
            Blame::Endpoint => self.relapse(probe),
        }
        refusal.heard
    }

    /// An answer that is no instance's of the service; it counts as a failure besides.
    pub(in crate::endpoints::endpoint) fn refused_foreign(
        &self,
        operation: Operation,
        way: &Way<Arc<EndpointState>>,
        now: Instant,
    ) -> Heard {
        self.note_refusal(operation, way, now).heard
    }

    fn note_refusal(
        &self,
        operation: Operation,
        way: &Way<Arc<EndpointState>>,
        now: Instant,
    ) -> Refusal {
        let (refusal, news) = self.refusals.refused(&self.pulse.refused, operation, way, now);
        self.tell(news);
        refusal
    }

    /// A call that would have come here was answered elsewhere.
    pub(in crate::endpoints::endpoint) fn elsewhere(
        &self,
        operation: Operation,
        heard: Heard,
        now: Instant,
    ) {
        self.tell(self.refusals.elsewhere(&self.pulse.refused, operation, heard, now));
    }

    fn tell(&self, news: Option<News>) {
        if let Some(news) = news.filter(|_| self.around.is_attached) {
            telemetry::refuses(self.lines(), &self.around.service, &self.instance, news);
        }
    }

    /// Whether calls of some operation go elsewhere.
    #[inline]
    pub(crate) fn is_doubted(&self) -> bool {
        self.pulse.refused.avoided()
    }

    /// Whether a call of this operation that is not to go to another endpoint has no better place here.
    pub(crate) fn is_no_better(&self, operation: Operation) -> bool {
        self.pulse.refused.keeps() && self.refusals.is_no_better(operation)
    }

    /// Whether a call of this operation that would come here does.
    pub(crate) fn takes(&self, operation: Operation, now: Instant) -> bool {
        !self.is_doubted() || self.refusals.takes(operation, now)
    }

    /// Whether it refuses whatever it is asked, and others do not.
    pub(crate) fn refuses_all(&self, now: Instant) -> bool {
        self.is_doubted() && self.refusals.go_across(now)
    }
}
