//! From the live set of instances to a set of callable services.
//!
//! The endpointer compares each snapshot with what it holds, by instance id: survivors keep their
//! service (and so their connection and statistics), new ones are made by the factory, removed ones
//! take no new call, finish those under way and are dropped. The factory runs beside, never under a
//! lock, at most [`max_concurrent`](EndpointerBuilder::max_concurrent) at a time; what fails is tried
//! again with backoff, whether or not the registry says anything new.
//!
//! What calls see is an immutable [`EndpointSet`], swapped whole. Reading it takes no lock.

mod held;
mod lists;
mod publication;
mod set;
mod slot;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use tokio::task::AbortHandle;

use self::publication::Publication;
pub(crate) use self::set::BalancerId;
pub use self::set::EndpointSet;
use self::worker::Worker;
use crate::backoff::Backoff;
use crate::endpoints::FeedbackConfig;
use crate::endpoints::endpoint::Surroundings;
use crate::outlier::OutlierDetection;
use crate::task::current_runtime;
use crate::task::supervised::supervise;
use crate::{Balancer, Factory, Instancer};

/// The callable endpoints of one service, kept up to date by a task of its own.
///
/// Cloning it gives another handle to the same endpoints; the task ends, and the endpoints are
/// removed, when the last handle is dropped.
///
/// One that is made outside of a tokio runtime stays empty: see [`EndpointerBuilder::build`].
pub struct Endpointer<S> {
    shared: Arc<Shared<S>>,
    /// Nothing outside of a tokio runtime.
    _task: Option<Arc<AbortOnDrop>>,
}

impl<S: Clone + Send + Sync + 'static> Endpointer<S> {
    /// Follows `instancer` and makes each of its instances callable by `factory`.
    ///
    /// Returns at once: the set is empty until the first endpoint stands.
    pub fn new(instancer: impl Instancer, factory: impl Factory<S>) -> Self {
        EndpointerBuilder::default().build(instancer, factory)
    }
}

/// On one type only, so that `Endpointer::builder()` needs no type annotation.
impl Endpointer<()> {
    /// With other than the default settings.
    pub fn builder() -> EndpointerBuilder {
        EndpointerBuilder::default()
    }
}

impl<S> Endpointer<S> {
    /// The service's name.
    pub fn service(&self) -> &Arc<str> {
        &self.shared.around.service
    }

    /// The set as it is now. Lock-free, allocates nothing; hold the guard only briefly.
    pub fn load(&self) -> Guard<Arc<EndpointSet<S>>> {
        self.shared.published.load()
    }

    /// Has every set from now on prepared for `balancer`, for as long as it lives.
    pub(crate) fn attach(&self, balancer: &Arc<dyn Balancer>) -> BalancerId {
        self.shared.published.attach(Arc::downgrade(balancer))
    }

    /// Tells of each set that is published from now on.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.published.subscribe()
    }

    /// Waits until the set fulfils the condition, as it is now included. Cancel safe; without a
    /// deadline of its own.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&EndpointSet<S>) -> bool,
    ) -> Arc<EndpointSet<S>> {
        // Subscribing before looking: a set published in between is not missed.
        let mut changed = self.shared.published.subscribe();
        loop {
            let set = self.shared.published.load_full();
            if condition(&set) {
                return set;
            }
            // Drop the set before waiting.
            drop(set);
            if changed.changed().await.is_err() {
                // Not reachable: `self` keeps the sender alive.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl<S> Clone for Endpointer<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _task: self._task.clone() }
    }
}

impl<S> fmt::Debug for Endpointer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpointer")
            .field("service", self.service())
            .field("set", &*self.load())
            .finish_non_exhaustive()
    }
}

/// Settings of an [`Endpointer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EndpointerBuilder {
    invalidate_on_error: Option<Duration>,
    max_concurrent: usize,
    make_timeout: Duration,
    backoff: Backoff,
    feedback: FeedbackConfig,
    panic_threshold: f64,
    outliers: Option<OutlierDetection>,
    seed: Option<u64>,
}

impl Default for EndpointerBuilder {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        Self {
            invalidate_on_error: None,
            max_concurrent: 64,
            make_timeout: Duration::from_secs(10),
            backoff: backoff.unwrap_or_default(),
            feedback: FeedbackConfig::default(),
            panic_threshold: 0.5,
            outliers: None,
            seed: None,
        }
    }
}

impl EndpointerBuilder {
    /// Gives the endpoints up when the registry has been in error for `timeout`: they are removed,
    /// and calls fail with the first error. By default the last known endpoints serve for ever.
    ///
    /// A set that the [empty-set policy](crate::discovery::EmptySetPolicy) holds is no error, for the registry
    /// answers. Later errors move neither the deadline nor the error; a good snapshot clears both.
    pub fn invalidate_on_error(mut self, timeout: Duration) -> Self {
        self.invalidate_on_error = Some(timeout);
        self
    }

    /// Sets how many factories run at once (default 64, at least 1).
    pub fn max_concurrent(mut self, max: usize) -> Self {
        self.max_concurrent = max.max(1);
        self
    }

    /// Sets the deadline of one run of the factory (default 10 s).
    pub fn make_timeout(mut self, timeout: Duration) -> Self {
        self.make_timeout = timeout;
        self
    }

    /// Sets the waits between runs of a failing factory (default 1 s growing to 60 s).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets what endpoints learn from their calls.
    pub fn feedback(mut self, feedback: FeedbackConfig) -> Self {
        self.feedback = feedback;
        self
    }

    /// Leaves instances out for a time that fail more than the others (default: off).
    pub fn outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.outliers = Some(detection);
        self
    }

    /// Sets the share of healthy endpoints below which those that are not healthy are used as well
    /// (default 0.5, as in Envoy; 0: never). What is outside 0 to 1 is brought inside, what is not a
    /// number counts as the default.
    ///
    /// When a health check calls most of a fleet unhealthy, the check may be what is wrong, and the
    /// few that are left would not carry the load of all. Endpoints that are draining or not
    /// connected are never used, nor are those whose check has not spoken yet; these count as healthy
    /// until it has, so that a client that starts waits for it.
    pub fn panic_threshold(mut self, share: f64) -> Self {
        self.panic_threshold = if share.is_nan() { 0.5 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Makes the jitter repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts following.
    ///
    /// Outside of a tokio runtime nothing can follow: the set stays empty, and
    /// [`EndpointSet::no_endpoints`], which is what calls end with, says so.
    pub fn build<S, I, F>(self, instancer: I, factory: F) -> Endpointer<S>
    where
        S: Clone + Send + Sync + 'static,
        I: Instancer,
        F: Factory<S>,
    {
        let subscription = instancer.subscribe();
        let around = Surroundings {
            service: subscription.service().clone(),
            source: subscription.source().clone(),
            is_attached: true,
            feedback: self.feedback.clone(),
            suspect_after: self.outliers.as_ref().map_or(0, OutlierDetection::suspect_after),
            ..Surroundings::default()
        };
        let shared = Arc::new(Shared::new(around));
        let task = match current_runtime("build") {
            Ok(runtime) => {
                let mut worker = Worker::new(self, subscription, Arc::new(factory), shared.clone());
                let task = runtime.spawn(async move { supervise(&mut worker).await });
                Some(Arc::new(AbortOnDrop(task.abort_handle())))
            }
            Err(error) => {
                let source = shared.around.source.clone();
                shared.published.publish(EndpointSet::never(error, source));
                None
            }
        };
        Endpointer { shared, _task: task }
    }
}

/// What the worker writes and the handles read.
struct Shared<S> {
    around: Arc<Surroundings>,
    published: Publication<S>,
}

impl<S> Shared<S> {
    fn new(around: Surroundings) -> Self {
        let around = Arc::new(around);
        Self { published: Publication::new(around.clone()), around }
    }
}

/// The task ends with the last handle.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
