//! Trying again, elsewhere, in time.
//!
//! A tower layer around anything that picks an endpoint per call. An attempt that fails is followed
//! by another one, after a jittered backoff, on an instance that this call has not tried; all of it
//! ends by one deadline. What is worth another attempt is the [`RetryClassifier`]'s word.

mod budget;
mod call;
mod engine;
mod error;
mod future;
mod hedge;
mod layer;
mod plan;
mod policy;
mod quantile;
mod retrying;
mod running;
mod sending;
mod settings;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tower_service::Service;

pub use self::budget::{RatioBudget, RetryBudget, Throttle};
use self::engine::Engine;
pub use self::error::{Attempt, RetryError};
pub use self::future::RetryFuture;
pub use self::hedge::HedgeDelay;
pub use self::layer::{Hedge, Idempotent};
use self::policy::Always;
pub use self::policy::{CallbackPolicy, RetryClassifier, Verdict};
pub use self::retrying::Retrying;
use self::settings::Settings;
use tokio::time::Instant;

use crate::BoxError;
use crate::backoff::Backoff;
use crate::context::ContextCarrier;

/// A tower layer that tries a call again.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::Retry;
/// use tower::{Layer, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use http::Request;
///
/// let service = service_fn(|request: Request<&'static str>| async move {
///     let name = request.into_body();
///     if name.is_empty() { Err("no name") } else { Ok(format!("hello {name}")) }
/// });
/// let retried = Retry::new(3, Duration::from_millis(500)).layer(service);
/// assert_eq!(retried.clone().oneshot(Request::new("you")).await?, "hello you");
/// let error = retried.oneshot(Request::new("")).await.unwrap_err();
/// assert_eq!(error.attempts().len(), 3);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Retry<P = CallbackPolicy<Always>> {
    policy: Arc<P>,
    settings: Arc<Settings>,
}

impl Retry {
    /// At most `max_attempts` attempts (0 counts as 1), all of them within `timeout`. Every error
    /// is tried again.
    pub fn new(max_attempts: u32, timeout: Duration) -> Self {
        let always: Always = |_, _| Verdict::Retry;
        Retry::with_policy(CallbackPolicy(always)).max_attempts(max_attempts).timeout(timeout)
    }
}

impl<C> Retry<CallbackPolicy<C>> {
    /// After each failure what `callback(attempt from 1, error)` says; all attempts within `timeout`.
    pub fn with_callback(timeout: Duration, callback: C) -> Self
    where
        C: Fn(u32, &BoxError) -> Verdict + Send + Sync,
    {
        Retry::with_policy(CallbackPolicy(callback)).max_attempts(u32::MAX).timeout(timeout)
    }
}

impl<P> Retry<P> {
    /// Three attempts by `policy`, without a timeout, until told otherwise.
    pub fn with_policy(policy: P) -> Self {
        let backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
        let settings = Settings {
            max_attempts: 3,
            timeout: None,
            per_attempt: None,
            backoff: backoff.unwrap_or_default(),
            budget: None,
            hedge: None,
            seed: None,
        };
        Self { policy: Arc::new(policy), settings: Arc::new(settings) }
    }

    /// Sets how many attempts there are at most, the first one included; 0 counts as 1.
    #[must_use]
    pub fn max_attempts(mut self, max: u32) -> Self {
        self.settings_mut().max_attempts = max.max(1);
        self
    }

    /// Sets the deadline of the whole call: all attempts and the waits between them. When it passes, the
    /// instances that had not answered hear that they took too long: those of this layer's own attempts, not those
    /// of another retry layer or client below.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings_mut().timeout = Some(timeout);
        self
    }

    /// Sets the deadline of each attempt; one that passes it has failed and may be tried again. It begins
    /// when the attempt has an endpoint: how long it may wait for one is
    /// [`WaitForReady`](crate::balancing::WaitForReady)'s to say. One whose request has not left by then has not been
    /// sent, whatever the request: its error [says so](crate::Error::is_unsent).
    #[must_use]
    pub fn per_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings_mut().per_attempt = Some(timeout);
        self
    }

    /// Sets the waits between attempts (default: full jitter, from 25 ms to 1 s).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings_mut().backoff = backoff;
        self
    }

    /// Bounds the further attempts of all calls together (default: no bound but that of each call).
    /// Where the budget is spent, an attempt's failure is the call's.
    #[must_use]
    pub fn budget(mut self, budget: Arc<dyn RetryBudget>) -> Self {
        self.settings_mut().budget = Some(budget);
        self
    }

    /// Sends another attempt when the ones before have not answered within `delay`, without giving them
    /// up: the first success ends all others. A failure is followed by the next attempt at once, and an
    /// error that the policy returns ends the call.
    ///
    /// Every attempt may be carried out by its instance: only for what may run more than once. Set a
    /// [`budget`](Self::budget), or slow instances make more load for all.
    #[must_use]
    pub fn hedge(mut self, delay: HedgeDelay) -> Self {
        self.settings_mut().hedge = Some(delay);
        self
    }

    /// Makes the jitter repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings_mut().seed = Some(seed);
        self
    }
}

impl<P> Retry<P> {
    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    /// Makes one call on `inner` by these settings, judged by `policy` instead of the layer's own: for
    /// a policy that keeps something of each call. Ends by `deadline`, if that is sooner than the
    /// timeout.
    ///
    /// # Errors
    /// When no attempt succeeded.
    pub async fn call_with<S, Q, Req>(
        &self,
        inner: S,
        policy: &Q,
        deadline: Option<Instant>,
        request: Req,
    ) -> Result<S::Response, RetryError>
    where
        S: Service<Req> + Clone,
        S::Error: Into<BoxError>,
        Q: RetryClassifier<Req> + ?Sized,
        Req: ContextCarrier,
    {
        let mut engine = pin!(Engine::new(inner, deadline, request));
        poll_fn(|cx| engine.as_mut().poll(policy, &self.settings, cx)).await
    }
}

impl<P> fmt::Debug for Retry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<P> Clone for Retry<P> {
    fn clone(&self) -> Self {
        Self { policy: self.policy.clone(), settings: self.settings.clone() }
    }
}
