//! The loop of a keeper: register, renew, and after any loss register again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backoff::{Backoff, BackoffState};
use crate::quota::Quota;
use crate::registration::registrar::Report;
use crate::registration::{KeptAlive, Leased, Registry};
use crate::task::shield::{panicked, shielded_future};
use crate::task::supervised::Supervised;
use crate::{Error, Instance, RegisterOptions, ServiceName, telemetry};

/// Keeps one instance registered. It ends when its registration is ended, and, without
/// `keep_trying`, when the first attempt fails.
pub(super) struct Task<R> {
    registry: Arc<R>,
    service: ServiceName,
    instance: Arc<Instance>,
    options: RegisterOptions,
    report: Report,
    /// Where the outcome of the first attempt goes.
    first: Option<oneshot::Sender<Result<(), Error>>>,
    backoff: BackoffState,
    /// The waits after a loss, or a hint of one.
    comeback: BackoffState,
    rng: fastrand::Rng,
    /// An attempt whose outcome is unknown: the registry may hold a key that no lease of ours can
    /// remove.
    doubt: Option<Error>,
    lines: Quota,
}

enum Obtained<L> {
    Lease(Leased<L>),
    /// The registration was ended; so did its end go.
    Stopped(Result<(), Error>),
    /// The first attempt failed, and the caller was told.
    Refused,
}

/// A registration that is gone.
struct Loss {
    reason: Error,
    /// Whether there was a wait before it was found out, so that none is needed after it.
    waited: bool,
}

impl<R: Registry> Task<R> {
    pub(super) fn new(
        registry: Arc<R>,
        service: ServiceName,
        instance: Arc<Instance>,
        options: RegisterOptions,
        report: Report,
        first: oneshot::Sender<Result<(), Error>>,
    ) -> Self {
        let mut rng = options.rng();
        let backoff = BackoffState::new(options.backoff.clone(), rng.fork());
        let comeback = BackoffState::new(comeback(), rng.fork());
        let (first, doubt, lines) = (Some(first), None, Quota::default());
        Self {
            registry,
            service,
            instance,
            options,
            report,
            first,
            backoff,
            comeback,
            rng,
            doubt,
            lines,
        }
    }

    /// Gives how deregistering went, or nothing if the first attempt was refused.
    async fn keep(&mut self) -> Option<Result<(), Error>> {
        loop {
            let mut leased = match self.obtain().await {
                Obtained::Lease(leased) => leased,
                Obtained::Stopped(outcome) => return Some(outcome),
                Obtained::Refused => return None,
            };
            let Some(Loss { reason, waited }) = self.renew(&mut leased).await else {
                return Some(self.release(leased.lease).await);
            };
            // The lost lease is dropped, never deregistered: a registry that tells registrations
            // apart by their key alone would remove the one that is written next.
            let reason = self.describe(reason, "keep_alive");
            telemetry::lease_lost(&self.lines, &self.service, self.instance.id(), &reason);
            self.report.retrying(reason);
            if !waited {
                let pause = self.comeback.next_delay();
                if self.report.unless_stopped(sleep(pause)).await.is_none() {
                    return Some(Ok(()));
                }
            }
        }
    }

    /// Registers, as often as it takes.
    async fn obtain(&mut self) -> Obtained<R::Lease> {
        let limit = self.options.register_timeout();
        let (registry, service, instance) =
            (self.registry.clone(), self.service.clone(), self.instance.clone());
        loop {
            if self.report.is_stopped() {
                return Obtained::Stopped(self.doubt.take().map_or(Ok(()), Err));
            }
            let ttl = self.options.ttl;
            let attempt = asked(async { registry.register(&service, &instance, ttl).await });
            let mut attempt = pin!(timeout(limit, attempt));
            let error = match self.report.unless_stopped(&mut attempt).await {
                Some(Ok(Ok(leased))) => {
                    self.stands();
                    return Obtained::Lease(leased);
                }
                Some(Ok(Err(error))) => error,
                Some(Err(_)) => {
                    // Not known whether the key was written. The next attempt writes over it, for
                    // the key follows from the instance's id.
                    let error = Error::timeout("the registry did not answer in time");
                    let error = error.with_context("after", format_args!("{limit:?}"));
                    self.doubt = Some(error.clone());
                    error
                }
                None => {
                    // Cutting the attempt short could leave a key that lives for its time to
                    // live: see it to its end, then take it back.
                    let take_back = async {
                        match attempt.await {
                            Ok(Ok(leased)) => {
                                asked(async { registry.deregister(leased.lease).await }).await
                            }
                            Ok(Err(_)) => self.doubt.take().map_or(Ok(()), Err),
                            Err(_) => Err(unanswered()),
                        }
                    };
                    let outcome = timeout(self.options.deregister_timeout, take_back).await;
                    return Obtained::Stopped(outcome.unwrap_or_else(|_| Err(unanswered())));
                }
            };
            let error = self.describe(error, "register");
            self.troubled(error.clone());
            if let Some(first) = self.first.take() {
                let give_up = !self.options.keep_trying || error.is_permanent();
                // Nobody listens if the caller's future was dropped: then the stop is set.
                let _ = first.send(if give_up { Err(error) } else { Ok(()) });
                if give_up {
                    return Obtained::Refused;
                }
            }
            // Being stopped is looked at when the loop starts over.
            let delay = self.backoff.next_delay();
            self.report.unless_stopped(sleep(delay)).await;
        }
    }

    /// Renews until the registration is lost, and gives the reason; nothing once it is to end.
    async fn renew(&mut self, leased: &mut Leased<R::Lease>) -> Option<Loss> {
        let limit = self.options.renewal_timeout();
        let registry = self.registry.clone();
        let mut interval = self.interval(leased.ttl);
        let mut well = true;
        let mut next = Instant::now() + self.early(interval);
        loop {
            // In the past after the process was stopped for a while: then it fires at once.
            let hinted = async {
                tokio::select! {
                    () = sleep_until(next) => false,
                    () = hint(&*registry, &leased.lease) => true,
                }
            };
            let hinted = self.report.unless_stopped(hinted).await?;
            if hinted {
                // Many may have lost theirs at the same moment; and hints without end are bounded.
                let pause = self.comeback.next_delay();
                self.report.unless_stopped(sleep(pause)).await?;
            }
            let started = Instant::now();
            let renewal = asked(async { registry.keep_alive(&mut leased.lease).await });
            let renewal = timeout(limit, renewal);
            let error = match self.report.unless_stopped(renewal).await? {
                Ok(Ok(KeptAlive::Alive { ttl })) => {
                    interval = self.interval(ttl);
                    next = started + self.early(interval);
                    if !std::mem::replace(&mut well, true) {
                        self.stands();
                    }
                    continue;
                }
                Ok(Ok(KeptAlive::Lost { reason })) => {
                    return Some(Loss { reason, waited: hinted });
                }
                Ok(Ok(KeptAlive::Superseded { reason })) => {
                    well = false;
                    let reason = self.describe(reason, "keep_alive");
                    self.troubled(reason);
                    next = started + self.early(interval);
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => Error::timeout("the registry did not answer in time")
                    .with_context("after", format_args!("{limit:?}")),
            };
            well = false;
            let error = self.describe(error, "keep_alive");
            self.troubled(error);
            next = Instant::now() + self.backoff.next_delay().min(interval);
        }
    }

    async fn release(&self, lease: R::Lease) -> Result<(), Error> {
        let deregister = asked(async { self.registry.deregister(lease).await });
        let outcome = timeout(self.options.deregister_timeout, deregister).await;
        outcome.unwrap_or_else(|_| Err(unanswered()))
    }

    /// A third of the shorter of the time to live granted and the one asked for; a registry that
    /// grants an absurd one neither makes the loop spin nor lets it sleep through a loss.
    fn interval(&self, granted: Duration) -> Duration {
        granted.clamp(RegisterOptions::MIN_TTL, self.options.ttl) / 3
    }

    /// Up to a tenth earlier, so that a fleet that started together does not renew together.
    fn early(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(1.0 - 0.1 * self.rng.f64())
    }

    fn stands(&mut self) {
        self.doubt = None;
        self.backoff.reset();
        self.report.registered();
        telemetry::registered(&self.lines, &self.service, self.instance.id());
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
    }

    fn troubled(&self, error: Error) {
        let first = self.report.retrying(error.clone());
        telemetry::registration_failed(
            &self.lines,
            &self.service,
            self.instance.id(),
            &error,
            first,
        );
    }

    fn describe(&self, error: Error, operation: &'static str) -> Error {
        error
            .with_operation(operation)
            .with_context("service", &self.service)
            .with_context("instance", self.instance.id())
    }
}

impl<R: Registry> Supervised for Task<R> {
    type Output = ();
    const NAME: &'static str = "the task that keeps a registration";

    fn service(&self) -> &str {
        self.service.as_str()
    }

    async fn run(&mut self) {
        if let Some(outcome) = self.keep().await {
            let outcome = outcome.map_err(|error| self.describe(error, "deregister"));
            telemetry::deregistered(&self.lines, &self.service, self.instance.id(), &outcome);
            self.report.ended(outcome);
        }
    }

    /// The lease is gone with what was under way; registering again writes over what stands there.
    fn panicked(&mut self, error: Error) {
        self.report.retrying(error);
    }
}

/// What the registry's client answers; a panic in it is an error like others.
async fn asked<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    shielded_future(answer).await.unwrap_or_else(|| Err(panicked("the registry's client")))
}

/// Waits until the registry says that there is reason to look. One whose client panics says nothing.
async fn hint<R: Registry>(registry: &R, lease: &R::Lease) {
    if shielded_future(async { registry.lost(lease).await }).await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Everybody who lost the same registry at the same moment comes back spread over 100 ms. Somebody
/// who loses it again and again, for another one deletes the key, say, takes longer.
fn comeback() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).unwrap_or_default()
}

fn unanswered() -> Error {
    Error::timeout("the registry did not answer; the entry, if any, ends with its time to live")
}
