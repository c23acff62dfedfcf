//! Hedging for any tower service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use super::{HedgeDelay, Retry, RetryClassifier, Retrying, Verdict};
use crate::BoxError;
use crate::retry::{RatioBudget, RetryBudget};

/// A tower layer that sends a call to a second endpoint when the first has not answered in time, and
/// takes the answer that comes first.
///
/// Choose it where the slowest calls matter more than a few percent of load: reads with a tail of
/// latencies. Only what may run more than once is hedged: each call is asked by `idempotent`. The
/// first success drops all other attempts; a failure is followed by the next attempt at once. The
/// extra calls of all clones together are bounded by a [budget](Self::budget): a tenth of the calls,
/// by default.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::retry::{Hedge, HedgeDelay};
/// use tower::{Layer, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use http::{Method, Request};
///
/// let service = service_fn(|_: Request<()>| async move { Ok::<_, std::io::Error>("hello") });
/// let hedged = Hedge::new(HedgeDelay::quantile(0.95), |request: &Request<()>| {
///     request.method() == Method::GET
/// });
/// assert_eq!(hedged.layer(service).oneshot(Request::new(())).await?, "hello");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// Source: Dean and Barroso, "The Tail at Scale", CACM 2013.
pub struct Hedge<F> {
    retry: Retry<Idempotent<F>>,
}

impl<F> Hedge<F> {
    /// Two attempts at most, the second after `delay`.
    pub fn new(delay: HedgeDelay, idempotent: F) -> Self {
        let budget = RatioBudget::default().with_ratio(0.1).with_floor_per_second(1);
        let retry = Retry::with_policy(Idempotent(idempotent))
            .max_attempts(2)
            .hedge(delay)
            .budget(Arc::new(budget));
        Self { retry }
    }

    /// Sets how many attempts there are at most, the first one included (default 2); 0 counts as 1.
    #[must_use]
    pub fn max_attempts(mut self, max: u32) -> Self {
        self.retry = self.retry.max_attempts(max);
        self
    }

    /// Sets the deadline of the whole call (default: none).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.retry = self.retry.timeout(timeout);
        self
    }

    /// Sets what bounds the extra attempts of all calls together (default: a [`RatioBudget`] of 10 %
    /// and one a second).
    #[must_use]
    pub fn budget(mut self, budget: Arc<dyn RetryBudget>) -> Self {
        self.retry = self.retry.budget(budget);
        self
    }
}

impl<F> Clone for Hedge<F> {
    fn clone(&self) -> Self {
        Self { retry: self.retry.clone() }
    }
}

impl<F> fmt::Debug for Hedge<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hedge").field(&self.retry).finish()
    }
}

impl<S, F> Layer<S> for Hedge<F> {
    type Service = Retrying<S, Idempotent<F>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.retry.layer(inner)
    }
}

/// Copies what may run more than once, and takes every error for one that another attempt may mend.
pub struct Idempotent<F>(F);

impl<F> fmt::Debug for Idempotent<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotent").finish_non_exhaustive()
    }
}

impl<Req, F> RetryClassifier<Req> for Idempotent<F>
where
    Req: Clone,
    F: Fn(&Req) -> bool + Send + Sync,
{
    fn copy(&self, request: &Req) -> Option<Req> {
        (self.0)(request).then(|| request.clone())
    }

    fn judge(&self, _: u32, error: &BoxError) -> Verdict {
        if Verdict::is_unsent(error) { Verdict::Transparent } else { Verdict::Retry }
    }
}
