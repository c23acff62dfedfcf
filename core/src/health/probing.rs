//! A check made of single probes.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::verdict::Verdict;
use super::{HealthCheck, HealthReporter};
use crate::{Error, Instance};

/// Asks an instance once how it is. [`Probing`] asks again and again.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot probe an endpoint whose service is `{S}`"
)]
pub trait Probe<S>: Send + Sync + 'static {
    /// Asks. Dropped when it takes longer than [`Probing`]'s timeout, which counts as a failure.
    ///
    /// # Errors
    /// The instance is not well; the error should name what was asked and what was answered.
    async fn probe(&self, instance: &Instance, service: &S) -> Result<(), Error>;

    /// Whether it asks through the endpoint's service. Then it asks only while that is connected,
    /// and each new connection is judged anew. One that brings its own connection (the default) asks
    /// always, and its verdict outlives the loss of the endpoint's connection.
    fn needs_connection(&self) -> bool {
        false
    }
}

/// A [`HealthCheck`] that probes each endpoint time and again.
///
/// The first probe comes after a random part of the initial spread and decides at once. The second
/// one follows after a random part of the interval, the others after the interval, give or take the
/// jitter: so the probes of many endpoints, and of many clients, spread over the interval. After the
/// first one it takes so many contrary probes in a row to change the verdict (Envoy's
/// `healthy_threshold` and `unhealthy_threshold`).
///
/// However many endpoints there are, at most [`max_concurrent`](Self::with_max_concurrent) probes
/// run at once; the others wait their turn, and their endpoints keep their verdict. When most
/// instances hang, a round over n of them takes `n / max_concurrent` timeouts. At the start, as long
/// as no instance at all has answered, one whose first turn does not come within the timeout counts
/// as unhealthy: where everything hangs, calls wait for about one timeout, however many there are.
///
/// ```
/// use std::time::Duration;
/// # use fleetward_core::{Error, Instance};
/// # use fleetward_core::health::Probe;
/// # struct MyProbe;
/// # #[async_trait::async_trait]
/// # impl<S: Send + Sync> Probe<S> for MyProbe {
/// #     async fn probe(&self, _: &Instance, _: &S) -> Result<(), Error> { Ok(()) }
/// # }
/// use fleetward_core::health::Probing;
/// let check = Probing::new(MyProbe)
///     .with_interval(Duration::from_secs(5))
///     .with_timeout(Duration::from_millis(300))
///     .with_unhealthy_threshold(2);
/// ```
#[must_use]
pub struct Probing<P> {
    probe: P,
    interval: Duration,
    timeout: Duration,
    initial_spread: Duration,
    jitter: f64,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
    turns: Semaphore,
    /// Whether any probe has been good.
    answered: AtomicBool,
    /// Each endpoint draws from a fork of its own.
    rng: Mutex<fastrand::Rng>,
}

impl<P> Probing<P> {
    /// With the default settings.
    pub fn new(probe: P) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            initial_spread: Duration::from_millis(250),
            jitter: 0.15,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            turns: Semaphore::new(64),
            answered: AtomicBool::new(false),
            rng: Mutex::new(fastrand::Rng::new()),
        }
    }

    /// Sets the time from the end of a probe to the next one (default 10 s, between 10 ms and a day).
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(Duration::from_millis(10), DAY);
        self
    }

    /// Sets how long a probe may take (default 1 s, between 1 ms and a day). One that takes longer
    /// has failed.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// Sets the time over which the first probes are spread (default 250 ms, at most a day). A new
    /// client's first call waits for it.
    pub fn with_initial_spread(mut self, spread: Duration) -> Self {
        self.initial_spread = spread.min(DAY);
        self
    }

    /// Sets by what share of the interval each wait is longer or shorter, at random (default 0.15,
    /// between 0 and 1; what is no number is 0).
    pub fn with_jitter(mut self, share: f64) -> Self {
        self.jitter = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Sets how many good probes in a row make an unhealthy endpoint healthy (default 2, at least 1).
    pub fn with_healthy_threshold(mut self, probes: u32) -> Self {
        self.healthy_threshold = probes.max(1);
        self
    }

    /// Sets how many failed probes in a row make a healthy endpoint unhealthy (default 3, at least 1).
    pub fn with_unhealthy_threshold(mut self, probes: u32) -> Self {
        self.unhealthy_threshold = probes.max(1);
        self
    }

    /// Sets how many probes run at once, over all endpoints of this check (default 64, between 1
    /// and 65,536).
    pub fn with_max_concurrent(mut self, max: usize) -> Self {
        self.turns = Semaphore::new(max.clamp(1, 1 << 16));
        self
    }

    /// Makes the random waits repeatable.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.rng = Mutex::new(fastrand::Rng::with_seed(seed));
        self
    }

    fn fork(&self) -> fastrand::Rng {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    fn jittered(&self, rng: &mut fastrand::Rng) -> Duration {
        self.interval.mul_f64(1.0 + self.jitter * (2.0 * rng.f64() - 1.0))
    }

    /// Waits until one more probe may run. The semaphore is never closed.
    ///
    /// Waiting is no fault of the instance, so its verdict stands. But where nothing has answered yet
    /// and everything hangs, most of many endpoints would be pending for a long time, and calls would
    /// wait for them: then one that waits longer than a probe takes counts as unhealthy.
    async fn turn(&self, health: &HealthReporter) -> Option<SemaphorePermit<'_>> {
        let mut turn = pin!(self.turns.acquire());
        if health.is_pending() && !self.answered.load(Ordering::Relaxed) {
            if let Ok(turn) = timeout(self.timeout, &mut turn).await {
                return turn.ok();
            }
            if !self.answered.load(Ordering::Relaxed) {
                health.unhealthy(named(Error::timeout("no instance has answered a probe yet")));
            }
        }
        turn.await.ok()
    }

    async fn once<S>(
        &self,
        instance: &Instance,
        service: &S,
        health: &HealthReporter,
    ) -> Result<(), Error>
    where
        P: Probe<S>,
    {
        let _turn = self.turn(health).await;
        let probed = match timeout(self.timeout, self.probe.probe(instance, service)).await {
            Ok(probed) => probed,
            Err(_) => Err(Error::timeout(format!("no answer within {:?}", self.timeout))),
        };
        if probed.is_ok() && !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
        probed.map_err(named)
    }

    /// Judges an endpoint from its first probe on; never ends.
    async fn judge<S>(
        &self,
        instance: &Instance,
        service: &S,
        health: &HealthReporter,
        mut rng: fastrand::Rng,
    ) where
        P: Probe<S>,
    {
        let mut verdict = Verdict::new(self.healthy_threshold, self.unhealthy_threshold);
        sleep(self.initial_spread.mul_f64(rng.f64())).await;
        let mut wait = self.interval.mul_f64(rng.f64());
        loop {
            let probed = self.once(instance, service, health).await;
            match (verdict.after(probed.is_ok()), probed) {
                (true, _) => health.healthy(),
                (false, Err(error)) => health.unhealthy(error),
                // A good one, but not yet enough of them: the last reason stands.
                (false, Ok(())) => {}
            }
            sleep(wait).await;
            wait = self.jittered(&mut rng);
        }
    }
}

#[async_trait]
impl<S, P> HealthCheck<S> for Probing<P>
where
    S: Send + Sync + 'static,
    P: Probe<S>,
{
    async fn run(&self, instance: &Instance, service: S, health: HealthReporter) {
        let mut rng = self.fork();
        if self.probe.needs_connection() {
            let judge = || self.judge(instance, &service, &health, rng.fork());
            health.while_connected(judge).await;
        } else {
            self.judge(instance, &service, &health, rng).await;
        }
    }
}

impl<P> fmt::Debug for Probing<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probing")
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("initial_spread", &self.initial_spread)
            .field("jitter", &self.jitter)
            .field("healthy_threshold", &self.healthy_threshold)
            .field("unhealthy_threshold", &self.unhealthy_threshold)
            .finish_non_exhaustive()
    }
}

fn named(error: Error) -> Error {
    error.with_operation("health check")
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
