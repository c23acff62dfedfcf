//! Trying again, elsewhere, in time.
//!
//! A tower layer around anything that picks an endpoint per call. An attempt that fails is followed
//! by another one, after a jittered backoff, on an instance that this call has not tried; all of it
//! ends by one deadline. What is worth another attempt is the [`RetryClassifier`]'s word.

mod engine;
mod error;
mod policy;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

pub use self::error::{Attempt, RetryError};
pub use self::policy::{CallbackPolicy, KeepTrying, RetryClassifier, Verdict};
use crate::{Backoff, BoxError};

/// A plain function pointer, so that [`Retry::new`] has a type that can be named.
type Always = fn(u32, &BoxError) -> KeepTrying;

/// A tower layer that tries a call again.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::Retry;
/// use tower::{Layer, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let service = service_fn(|name: &'static str| async move {
///     if name.is_empty() { Err("no name") } else { Ok(format!("hello {name}")) }
/// });
/// let retried = Retry::new(3, Duration::from_millis(500)).layer(service);
/// assert_eq!(retried.clone().oneshot("you").await?, "hello you");
/// let error = retried.oneshot("").await.unwrap_err();
/// assert_eq!(error.attempts().len(), 3);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Retry<P = CallbackPolicy<Always>> {
    policy: Arc<P>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    max_attempts: u32,
    timeout: Option<Duration>,
    per_attempt: Option<Duration>,
    backoff: Backoff,
    seed: Option<u64>,
}

impl Retry {
    /// At most `max_attempts` attempts (0 counts as 1), all of them within `timeout`. Every error
    /// is tried again.
    pub fn new(max_attempts: u32, timeout: Duration) -> Self {
        let always: Always = |_, _| KeepTrying::Yes;
        Retry::with_policy(CallbackPolicy(always)).max_attempts(max_attempts).timeout(timeout)
    }
}

impl<C> Retry<CallbackPolicy<C>> {
    /// As many attempts as `callback(attempt from 1, error)` wants, all of them within `timeout`.
    pub fn with_callback(timeout: Duration, callback: C) -> Self
    where
        C: Fn(u32, &BoxError) -> KeepTrying + Send + Sync,
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
            seed: None,
        };
        Self { policy: Arc::new(policy), settings }
    }

    /// Sets how many attempts there are at most, the first one included; 0 counts as 1.
    #[must_use]
    pub fn max_attempts(mut self, max: u32) -> Self {
        self.settings.max_attempts = max.max(1);
        self
    }

    /// Sets the deadline of the whole call: all attempts and the waits between them.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Sets the deadline of each attempt; one that passes it has failed and may be tried again.
    #[must_use]
    pub fn per_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.per_attempt = Some(timeout);
        self
    }

    /// Sets the waits between attempts (default: full jitter, from 25 ms to 1 s).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Makes the jitter repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }
}

impl<P> fmt::Debug for Retry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<S, P> Layer<S> for Retry<P> {
    type Service = Retrying<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Retrying { inner, policy: self.policy.clone(), settings: self.settings.clone() }
    }
}

/// The service that [`Retry`] makes: always ready, and `Clone + Send + Sync` as the inner one.
pub struct Retrying<S, P = CallbackPolicy<Always>> {
    inner: S,
    policy: Arc<P>,
    settings: Settings,
}

impl<S, P, Req> Service<Req> for Retrying<S, P>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    S::Response: Send,
    P: RetryClassifier<Req> + 'static,
    Req: Send + 'static,
{
    type Response = S::Response;
    type Error = RetryError;
    type Future = BoxFuture<'static, Result<S::Response, RetryError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RetryError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (inner, policy) = (self.inner.clone(), self.policy.clone());
        Box::pin(engine::run(inner, policy, self.settings.clone(), request))
    }
}

impl<S: Clone, P> Clone for Retrying<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            policy: self.policy.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Retrying<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("inner", &self.inner)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
