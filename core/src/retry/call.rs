//! How far a call has come, and what follows an attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::running::Ended;
use super::{Attempt, RetryError, Settings, Verdict};
use crate::attempt::Earlier;
use crate::{BoxError, Error, InstanceId, telemetry};

/// How often a request that never left is tried again without being counted. Such a failure costs
/// nothing elsewhere, but a set of dead connections must not make the loop spin.
const MAX_TRANSPARENT: u32 = 5;

pub(super) struct Call<'a> {
    settings: &'a Settings,
    deadline: Option<Instant>,
    /// Attempts sent that count, and those that do not, for nothing had left this process.
    counted: u32,
    transparent: u32,
    /// When the first attempt was sent.
    began: Option<Instant>,
    /// The step of the backoff.
    step: u32,
    /// Whether and when the next attempt is sent; at once without a time.
    next: Option<Option<Instant>>,
    /// Whether that one counts.
    counts: bool,
    /// Whether the budget has allowed that one already.
    paid: bool,
    /// There is to be no further attempt: only those under way can still succeed.
    stopped: bool,
    failed: Vec<Attempt>,
    tried: Vec<InstanceId>,
    rng: Option<fastrand::Rng>,
}

impl<'a> Call<'a> {
    pub(super) fn new(settings: &'a Settings, deadline: Option<Instant>) -> Self {
        Self {
            settings,
            deadline,
            counted: 0,
            transparent: 0,
            began: None,
            step: 0,
            next: Some(None),
            counts: true,
            paid: false,
            stopped: false,
            failed: Vec::new(),
            tried: Vec::new(),
            rng: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How many attempts were sent that count.
    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    /// How many were sent before the one that is due. One that takes the place of an attempt that
    /// never left follows as many as that one.
    pub(super) fn before(&self) -> u32 {
        if self.counts { self.counted } else { self.counted.saturating_sub(1) }
    }

    /// Whether an attempt is to be sent now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next.is_none_or(|at| at <= now))
    }

    /// When the next attempt is sent, if it is not at once.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next.flatten()
    }

    pub(super) fn send_nothing(&mut self) {
        self.next = None;
    }

    /// Whether the attempt that is due may be sent. A retry was paid for when it was decided on, so
    /// that nobody waits for a refusal; a hedge is when it is sent, for it may not be needed: unless
    /// no other attempt is under way, which makes a retry of it.
    pub(super) fn may_send(&mut self, none_under_way: bool) -> Result<bool, RetryError> {
        let is_first = self.counted == 0;
        if !is_first && self.counts && !self.paid && !self.budget_allows() {
            self.stop(none_under_way)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn budget_allows(&self) -> bool {
        let allowed = self.settings.budget.as_ref().is_none_or(|budget| budget.allows());
        if !allowed {
            telemetry::retry_refused();
        }
        allowed
    }

    /// What the next attempt is told: it leaves out the instances of all others.
    pub(super) fn earlier<'i>(
        &'i self,
        under_way: impl Iterator<Item = &'i InstanceId>,
    ) -> Option<Box<Earlier>> {
        // The one that is due may have been taken off already.
        let number = self.before() + self.transparent;
        if number == 0 {
            return None;
        }
        let tried = self.tried.iter().chain(under_way).cloned().collect();
        Some(Box::new(Earlier { number, tried }))
    }

    pub(super) fn attempt_ends(&self, now: Instant) -> Option<Instant> {
        self.settings.per_attempt.and_then(|most| now.checked_add(most))
    }

    /// An attempt is under way; `again` says whether the request can be sent another time.
    pub(super) fn sent(&mut self, now: Instant, again: bool) {
        self.paid = false;
        self.began.get_or_insert(now);
        if std::mem::replace(&mut self.counts, true) {
            self.counted += 1;
        }
        if self.counted + self.transparent > 1 {
            telemetry::retried(self.counted);
        }
        self.stopped |= !again;
        self.next = match &self.settings.hedge {
            Some(hedge) if !self.is_last() => now.checked_add(hedge.delay()).map(Some),
            _ => None,
        };
    }

    fn is_last(&self) -> bool {
        self.stopped || self.counted >= self.settings.max_attempts
    }

    pub(super) fn succeeded(&self) {
        if let Some(budget) = &self.settings.budget {
            budget.succeeded();
        }
        // Not the time of the attempt that won: a hedge's would hide how slow the call was, and so make
        // the next hedges come ever sooner.
        if let (Some(hedge), Some(began)) = (&self.settings.hedge, self.began) {
            hedge.took(began.elapsed());
        }
    }

    /// Decides what follows; an error ends the call.
    pub(super) fn failed(
        &mut self,
        ended: Ended,
        error: BoxError,
        verdict: Verdict,
        none_under_way: bool,
    ) -> Result<(), RetryError> {
        let error = Arc::<dyn std::error::Error + Send + Sync>::from(error);
        // What was discarded before it went anywhere is no attempt.
        let counts = !matches!(verdict, Verdict::Discard) || ended.instance.is_some();
        if counts || none_under_way {
            self.note(ended, error.clone());
        }
        let wait = match verdict {
            Verdict::Return => return Err(self.error(error)),
            Verdict::ReturnError(other) => return Err(self.error(other.into())),
            Verdict::Transparent if self.transparent < MAX_TRANSPARENT && !self.stopped => {
                self.transparent += 1;
                self.counts = false;
                self.next = Some(None);
                return Ok(());
            }
            Verdict::Stop => {
                self.retryable();
                return self.stop(none_under_way);
            }
            Verdict::Transparent if self.stopped => return self.stop(none_under_way),
            Verdict::Discard => return self.stop(none_under_way),
            Verdict::RetryAfter(wait) => {
                self.step = 0;
                Some(wait)
            }
            Verdict::Retry | Verdict::Transparent => None,
        };
        self.retryable();
        if self.is_last() {
            // One under way may turn out never to have left: then it is replaced.
            self.next = None;
            return if none_under_way { self.stop(true) } else { Ok(()) };
        }
        let hedged = self.settings.hedge.is_some();
        // A hedge follows a failure at once, for it would have followed anyway.
        let wait = wait.unwrap_or_else(|| if hedged { Duration::ZERO } else { self.backoff() });
        let again = Instant::now().checked_add(wait);
        // A wait without end, or that the deadline would cut short, ends the call now, with an error that
        // says more.
        let again = again.filter(|again| self.deadline.is_none_or(|end| *again < end));
        let Some(again) = again else { return self.stop(none_under_way) };
        // Last, for what is paid is sent.
        if (!hedged || none_under_way) && !self.paid {
            self.paid = self.budget_allows();
            if !self.paid {
                return self.stop(none_under_way);
            }
        }
        self.next = Some(Some(again).filter(|_| !wait.is_zero()));
        Ok(())
    }

    fn retryable(&self) {
        if let Some(budget) = &self.settings.budget {
            budget.failed();
        }
    }

    fn backoff(&mut self) -> Duration {
        let seed = self.settings.seed;
        let rng = self
            .rng
            .get_or_insert_with(|| seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed));
        let wait = self.settings.backoff.jittered(self.step, rng);
        self.step += 1;
        wait
    }

    /// No further attempt: the call ends now, or with those that are under way.
    fn stop(&mut self, none_under_way: bool) -> Result<(), RetryError> {
        self.stopped = true;
        self.next = None;
        match self.failed.last().map(|last| last.error.clone()) {
            Some(error) if none_under_way => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn deadline_passed(&mut self, cut_off: Vec<Ended>) -> RetryError {
        let error: Arc<dyn std::error::Error + Send + Sync> =
            Arc::new(Error::timeout("the call's deadline passed"));
        for ended in cut_off {
            self.note(ended, error.clone());
        }
        self.error(error)
    }

    fn note(&mut self, ended: Ended, error: Arc<dyn std::error::Error + Send + Sync>) {
        let Ended { instance, started } = ended;
        self.tried.extend(instance.clone().filter(|id| !self.tried.contains(id)));
        self.failed.push(Attempt::new(instance, error, started.elapsed()));
    }

    fn error(&mut self, cause: Arc<dyn std::error::Error + Send + Sync>) -> RetryError {
        RetryError::new(std::mem::take(&mut self.failed), cause)
    }
}
