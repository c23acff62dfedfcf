//! How far a call has come, and what follows an attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Event, Kind, Plan};
use super::running::Ended;
use super::settings::Settings;
use super::{Attempt, RetryError, Verdict};
use crate::context::{Again, CallContext, Earlier};
use crate::{BoxError, Error, ErrorKind, InstanceId, telemetry};

/// How often a request that never left is tried again without being counted, where each attempt goes to an
/// instance. Such a failure costs nothing elsewhere; to instances that were tried before it goes at the
/// balancer's pace.
const MAX_UNSENT: u32 = 1000;
/// The same where nobody says to which instance, so that nobody sets a pace.
const MAX_UNSENT_NOWHERE: u32 = 5;

pub(super) struct Call {
    deadline: Option<Instant>,
    began: Option<Instant>,
    /// Attempts sent that count, and those that do not, for nothing had left this process.
    counted: u32,
    transparent: u32,
    plan: Plan,
    /// Nothing until an attempt has failed.
    past: Option<Box<Past>>,
}

/// What the failures of a call leave behind.
#[derive(Default)]
struct Past {
    failed: Vec<Attempt>,
    /// In order, for there may be many.
    tried: Vec<InstanceId>,
    /// How many never left, and no instance is known that they went to.
    nowhere: u32,
    /// How the attempts go on that take the place of those that never left.
    again: Option<Again>,
    /// The step of the backoff.
    step: u32,
    rng: Option<fastrand::Rng>,
}

impl Call {
    /// Ends by `deadline`, if that is sooner than the timeout.
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            began: None,
            counted: 0,
            transparent: 0,
            plan: Plan::Due(Kind::First),
            past: None,
        }
    }

    /// Says when the call began, if it did so just now.
    pub(super) fn begin(
        &mut self,
        settings: &Settings,
        within: Option<&CallContext>,
    ) -> Option<Instant> {
        if self.began.is_some() {
            return None;
        }
        let now = Instant::now();
        self.began = Some(now);
        let timeout = settings.timeout.and_then(|timeout| now.checked_add(timeout));
        self.deadline = [timeout, self.deadline].into_iter().flatten().min();
        if let Some(budget) = &settings.budget
            && !within.is_some_and(|within| within.attempt().counts(budget.identity()))
        {
            budget.call();
        }
        Some(now)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How many attempts were sent that count.
    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    /// The attempt that is to be sent now.
    #[inline]
    pub(super) fn due(&self, now: Instant) -> Option<Kind> {
        self.plan.due(now)
    }

    /// When the next attempt is sent, if it is not at once.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.plan.at()
    }

    /// Whether the attempt that is due may be sent. A retry was paid for when it was decided on, so
    /// that nobody waits for a refusal; a hedge is when it is sent, for it may not be needed: unless
    /// no other attempt is under way, which makes a retry of it.
    #[inline]
    pub(super) fn may_send(
        &mut self,
        settings: &Settings,
        kind: Kind,
        none_under_way: bool,
    ) -> Result<bool, RetryError> {
        if kind == Kind::Hedge && !budget_allows(settings) {
            self.stop(none_under_way)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// What an attempt of this kind is told: it leaves out the instances of all others.
    pub(super) fn earlier(
        &self,
        kind: Kind,
        under_way: impl Iterator<Item = InstanceId>,
    ) -> Option<Box<Earlier>> {
        let replaces = kind == Kind::Replacement;
        // One that takes the place of an attempt that never left follows as many as that one.
        let previous = self.counted.saturating_sub(u32::from(replaces));
        let number = previous + self.transparent;
        if number == 0 {
            return None;
        }
        let past = self.past.as_deref();
        let mut tried = past.map(|past| past.tried.clone()).unwrap_or_default();
        let all_over = tried.len();
        tried.extend(under_way);
        if tried.len() > all_over {
            tried.sort_unstable();
        }
        let again = past.filter(|_| replaces).and_then(|past| past.again);
        Some(Box::new(Earlier { number, previous, tried, again }))
    }

    /// An attempt is under way; `again` says whether the request can be sent another time.
    pub(super) fn sent(&mut self, settings: &Settings, kind: Kind, now: Instant, again: bool) {
        if kind != Kind::Replacement {
            self.counted += 1;
        }
        if self.counted + self.transparent > 1 {
            telemetry::retried(self.counted);
        }
        let hedge = settings.hedge.as_ref().filter(|_| again && !self.is_last(settings));
        let hedge = hedge.and_then(|hedge| now.checked_add(hedge.delay()));
        self.follows(if again { Event::Sent { hedge } } else { Event::SentOnce });
    }

    fn follows(&mut self, event: Event) {
        self.plan = self.plan.after(event);
    }

    fn is_last(&self, settings: &Settings) -> bool {
        self.plan.is_closed() || self.counted >= settings.max_attempts
    }

    pub(super) fn succeeded(&self, settings: &Settings, counted_below: bool) {
        if let Some(budget) = settings.budget.as_ref().filter(|_| !counted_below) {
            budget.succeeded();
        }
        // Not the time of the attempt that won: a hedge's would hide how slow the call was, and so make
        // the next hedges come ever sooner.
        if let (Some(hedge), Some(began)) = (&settings.hedge, self.began) {
            hedge.took(began);
        }
    }

    /// Decides what follows; an error ends the call.
    pub(super) fn failed(
        &mut self,
        settings: &Settings,
        ended: Ended,
        error: BoxError,
        verdict: Verdict,
        none_under_way: bool,
    ) -> Result<(), RetryError> {
        let again = self.again(&ended, &error, &verdict);
        let error = Arc::<dyn std::error::Error + Send + Sync>::from(error);
        // What was discarded before it went anywhere is no attempt.
        let counted_below = ended.counted_below;
        let counts = !matches!(verdict, Verdict::Discard) || ended.instance.is_some();
        if counts || none_under_way {
            self.note(ended, error.clone());
        }
        let wait = match verdict {
            Verdict::Return => return Err(self.error(error)),
            Verdict::ReturnError(other) => return Err(self.error(other.into())),
            Verdict::Transparent if again.is_some() && !self.plan.is_closed() => {
                self.past().again = again;
                self.transparent += 1;
                self.follows(Event::Unsent);
                return Ok(());
            }
            Verdict::Stop => {
                retryable(settings, counted_below);
                return self.stop(none_under_way);
            }
            Verdict::Transparent if self.plan.is_closed() => return self.stop(none_under_way),
            Verdict::Discard => return self.stop(none_under_way),
            Verdict::RetryAfter(wait) => {
                self.past().step = 0;
                Some(wait)
            }
            Verdict::Retry | Verdict::Transparent => None,
        };
        retryable(settings, counted_below);
        if self.is_last(settings) {
            // One under way may turn out never to have left: then it is replaced.
            self.follows(Event::Exhausted);
            return if none_under_way { self.stop(true) } else { Ok(()) };
        }
        let hedged = settings.hedge.is_some();
        // A hedge follows a failure at once, for it would have followed anyway.
        let wait =
            wait.unwrap_or_else(|| if hedged { Duration::ZERO } else { self.backoff(settings) });
        let again = Instant::now().checked_add(wait);
        // A wait without end, or that the deadline would cut short, ends the call now, with an error that
        // says more.
        let again = again.filter(|again| self.deadline.is_none_or(|end| *again < end));
        let Some(again) = again else { return self.stop(none_under_way) };
        // Last, for what is paid is sent.
        let mut kind = if self.plan.is_paid() { Kind::Retry } else { Kind::Hedge };
        if kind == Kind::Hedge && (!hedged || none_under_way) {
            if !budget_allows(settings) {
                return self.stop(none_under_way);
            }
            kind = Kind::Retry;
        }
        self.follows(Event::Failed { at: (!wait.is_zero()).then_some(again), kind });
        Ok(())
    }

    /// How a call goes on whose attempt never left; nothing if it is to count as any other. To an instance
    /// that has not been tried it goes at once, to others as the balancer lets it.
    fn again(&mut self, ended: &Ended, error: &BoxError, verdict: &Verdict) -> Option<Again> {
        let transparent = self.transparent;
        let past = self.past();
        let again = ended.again.or(past.again.take()).unwrap_or_default();
        if !matches!(verdict, Verdict::Transparent) || transparent >= MAX_UNSENT {
            return None;
        }
        match &ended.instance {
            Some(instance) if past.tried.binary_search(instance).is_err() => {}
            // Full: its own queue is where calls wait, and beyond that they are to fail.
            Some(_) if is_overload(&**error) => return None,
            Some(_) => {}
            None if past.nowhere >= MAX_UNSENT_NOWHERE => return None,
            None => past.nowhere += 1,
        }
        Some(again)
    }

    /// No instance takes the call: it ends with those that are under way.
    pub(super) fn gave_up(&mut self, none_under_way: bool) -> Result<(), RetryError> {
        if none_under_way { self.stop(true) } else { Ok(()) }
    }

    fn backoff(&mut self, settings: &Settings) -> Duration {
        let Past { step, rng, .. } = self.past();
        let rng = rng.get_or_insert_with(|| {
            settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
        });
        let wait = settings.backoff.jittered(*step, rng);
        *step += 1;
        wait
    }

    /// No further attempt: the call ends now, or with those that are under way.
    fn stop(&mut self, none_under_way: bool) -> Result<(), RetryError> {
        self.follows(Event::Stopped);
        match self.past().failed.last().map(|last| last.error.clone()) {
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
        let Ended { instance, started, .. } = ended;
        let Past { failed, tried, .. } = self.past();
        if let Some(instance) = &instance
            && let Err(at) = tried.binary_search(instance)
        {
            tried.insert(at, instance.clone());
        }
        failed.push(Attempt::new(instance, error, started.elapsed()));
    }

    fn error(&mut self, cause: Arc<dyn std::error::Error + Send + Sync>) -> RetryError {
        RetryError::new(std::mem::take(&mut self.past().failed), cause)
    }

    fn past(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }
}

fn budget_allows(settings: &Settings) -> bool {
    let allowed = settings.budget.as_ref().is_none_or(|budget| budget.allows());
    if !allowed {
        telemetry::retry_refused();
    }
    allowed
}

/// Of layers with one budget the lowest tells it how attempts went: it has made them.
fn retryable(settings: &Settings, counted_below: bool) {
    if let Some(budget) = settings.budget.as_ref().filter(|_| !counted_below) {
        budget.failed();
    }
}

/// Whether an instance's limit turned the call away, as the error says or one of its causes.
fn is_overload(error: &(dyn std::error::Error + 'static)) -> bool {
    const DEPTH: usize = 8;
    std::iter::successors(Some(error), |error| error.source())
        .take(DEPTH)
        .filter_map(|cause| cause.downcast_ref::<Error>())
        .any(|cause| cause.kind() == ErrorKind::Overloaded)
}
