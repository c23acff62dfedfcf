//! The endpointer that follows an instancer.
//!
//! It compares each snapshot with what it holds, by instance id: survivors keep their service (and so their
//! connection and statistics), new ones are made by the factory, removed ones take no new call, finish those under
//! way and are dropped. The factory runs beside, never under a lock, at most
//! [`max_concurrent`](EndpointerBuilder::max_concurrent) at a time; what fails is tried again with backoff, whether
//! or not the registry says anything new.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::live::{EndpointerState, Endpoints};
use super::set::EndpointSet;
use super::settings::Settings;
use super::worker::Worker;
use crate::backoff::Backoff;
use crate::endpoints::FeedbackConfig;
use crate::endpoints::endpoint::Surroundings;
use crate::outlier::OutlierDetection;
use crate::task::current_runtime;
use crate::task::supervised::supervise;
use crate::{Endpointer, Factory, Instancer};

/// The callable endpoints of one service, kept up to date by a task of its own.
///
/// Cloning it gives another handle to the same endpoints; the task ends, and the endpoints are
/// removed, when the last handle is dropped. Named after go-kit's `DefaultEndpointer`.
///
/// One that is made outside of a tokio runtime stays empty: see [`EndpointerBuilder::build`].
pub struct DefaultEndpointer<S> {
    endpoints: Endpoints<S>,
}

impl<S: Clone + Send + Sync + 'static> DefaultEndpointer<S> {
    /// Follows `instancer` and makes each of its instances callable by `factory`.
    ///
    /// Returns at once: the set is empty until the first endpoint stands.
    pub fn new(instancer: impl Instancer, factory: impl Factory<S>) -> Self {
        EndpointerBuilder::default().build(instancer, factory)
    }
}

/// On one type only, so that `DefaultEndpointer::builder()` needs no type annotation.
impl DefaultEndpointer<()> {
    /// With other than the default settings.
    pub fn builder() -> EndpointerBuilder {
        EndpointerBuilder::default()
    }
}

impl<S> Endpointer<S> for DefaultEndpointer<S> {
    fn endpoints(&self) -> &Endpoints<S> {
        &self.endpoints
    }
}

impl<S> Clone for DefaultEndpointer<S> {
    fn clone(&self) -> Self {
        Self { endpoints: self.endpoints.clone() }
    }
}

impl<S> fmt::Debug for DefaultEndpointer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DefaultEndpointer").field(&self.endpoints).finish()
    }
}

/// Settings of a [`DefaultEndpointer`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EndpointerBuilder {
    settings: Settings,
}

impl EndpointerBuilder {
    /// Gives the endpoints up when the registry has been in error for `timeout`: they are removed,
    /// and calls fail with the first error. By default the last known endpoints serve for ever.
    ///
    /// A set that the [empty-set policy](crate::discovery::EmptySetPolicy) holds is no error, for the registry
    /// answers. Later errors move neither the deadline nor the error; a good snapshot clears both.
    pub fn invalidate_on_error(mut self, timeout: Duration) -> Self {
        self.settings.invalidate_on_error = Some(timeout);
        self
    }

    /// Sets how many factories run at once (default 64, at least 1).
    pub fn max_concurrent(mut self, max: usize) -> Self {
        self.settings.max_concurrent = max.max(1);
        self
    }

    /// Sets the deadline of one run of the factory (default 10 s).
    pub fn make_timeout(mut self, timeout: Duration) -> Self {
        self.settings.make_timeout = timeout;
        self
    }

    /// Sets the waits between runs of a failing factory (default 1 s growing to 60 s).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets what endpoints learn from their calls.
    pub fn feedback(mut self, feedback: FeedbackConfig) -> Self {
        self.settings.feedback = feedback;
        self
    }

    /// Leaves instances out for a time that fail more than the others (default: off).
    pub fn outlier_detection(mut self, detection: OutlierDetection) -> Self {
        self.settings.outliers = Some(detection);
        self
    }

    /// Sets the share of healthy endpoints below which those that are not healthy are used as well
    /// (default 0.5, as in Envoy; 0: never). Clamped to 0 to 1;
    /// NaN means the default.
    ///
    /// When a health check calls most of a fleet unhealthy, the check may be what is wrong, and the
    /// few that are left would not carry the load of all. Endpoints that are draining or not
    /// connected are never used, nor are those whose check has not spoken yet; these count as healthy
    /// until it has, so that a client that starts waits for it.
    pub fn panic_threshold(mut self, share: f64) -> Self {
        self.settings.panic_threshold = if share.is_nan() { 0.5 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Makes the jitter repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Starts following.
    ///
    /// Outside of a tokio runtime nothing can follow: the set stays empty, and
    /// [`EndpointSet::no_endpoints`], which is what calls end with, says so.
    pub fn build<S, I, F>(self, instancer: I, factory: F) -> DefaultEndpointer<S>
    where
        S: Clone + Send + Sync + 'static,
        I: Instancer,
        F: Factory<S>,
    {
        let Self { settings } = self;
        let subscription = instancer.subscribe();
        let around = Surroundings {
            service: subscription.service().clone(),
            source: subscription.source().clone(),
            is_attached: true,
            feedback: settings.feedback.clone(),
            suspect_after: settings.outliers.as_ref().map_or(0, OutlierDetection::suspect_after),
            ..Surroundings::default()
        };
        let shared = Arc::new(EndpointerState::new(around));
        let task = match current_runtime("build") {
            Ok(runtime) => {
                let (factory, shared) = (Arc::new(factory), shared.clone());
                let mut worker = Worker::new(settings, subscription, factory, shared);
                let task = runtime.spawn(async move { supervise(&mut worker).await });
                Some(task.abort_handle())
            }
            Err(error) => {
                let source = shared.around.source.clone();
                shared.published.publish(EndpointSet::never(error, source));
                None
            }
        };
        DefaultEndpointer { endpoints: Endpoints::new(shared, task) }
    }
}
