//! The loop around the attempts of one call.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_service::Service;

use super::{Attempt, RetryClassifier, RetryError, Settings, Verdict};
use crate::attempt::{self, AttemptContext};
use crate::{BoxError, Error, expiring, telemetry};

/// How often a request that never left is tried again without being counted. Such a failure costs
/// nothing elsewhere, but a set of dead connections must not make the loop spin.
const MAX_TRANSPARENT: u32 = 5;

pub(super) async fn run<S, P, Req>(
    inner: S,
    policy: Arc<P>,
    settings: Settings,
    mut request: Req,
) -> Result<S::Response, RetryError>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: RetryClassifier<Req>,
{
    let deadline = settings.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut rng = settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let mut failed = Vec::new();
    let mut context = AttemptContext::default();
    let (mut counted, mut transparent) = (1, 0);
    loop {
        let last = counted >= settings.max_attempts && transparent >= MAX_TRANSPARENT;
        let copy = if last { None } else { policy.copy(&request) };
        let limits = Limits { deadline, per_attempt: settings.per_attempt };
        let started = Instant::now();
        let outcome = once(inner.clone(), request, &mut context, limits).await;
        let error = match outcome {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let verdict = match &error {
            Failure::DeadlinePassed => Verdict::Return,
            Failure::Error(error) => policy.judge(counted, error),
        };
        let error = Arc::<dyn std::error::Error + Send + Sync>::from(BoxError::from(error));
        let instance = context.picked.take();
        context.tried.extend(instance.clone().filter(|id| !context.tried.contains(id)));
        failed.push(Attempt::new(instance, error.clone(), started.elapsed()));
        let wait = match verdict {
            Verdict::Return => return Err(RetryError::new(failed, error)),
            Verdict::ReturnError(other) => return Err(RetryError::new(failed, other.into())),
            Verdict::Transparent if transparent < MAX_TRANSPARENT => {
                transparent += 1;
                Duration::ZERO
            }
            Verdict::RetryAfter(wait) if counted < settings.max_attempts => {
                counted += 1;
                wait
            }
            Verdict::Retry | Verdict::Transparent if counted < settings.max_attempts => {
                counted += 1;
                settings.backoff.jittered(counted - 2, &mut rng)
            }
            _ => return Err(RetryError::new(failed, error)),
        };
        // A wait that the deadline would cut short ends the call now, with an error that says more.
        let again = Instant::now().checked_add(wait);
        let too_late = deadline.is_some_and(|end| again.is_none_or(|again| again >= end));
        let Some(copy) = copy.filter(|_| !too_late) else {
            return Err(RetryError::new(failed, error));
        };
        telemetry::retried(counted);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        context.number = counted + transparent - 1;
        request = copy;
    }
}

#[derive(Clone, Copy)]
struct Limits {
    deadline: Option<Instant>,
    per_attempt: Option<Duration>,
}

enum Failure {
    Error(BoxError),
    DeadlinePassed,
}

impl From<Failure> for BoxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(error) => error,
            Failure::DeadlinePassed => Error::timeout("the call's deadline passed").into(),
        }
    }
}

/// One attempt. Afterwards `context` says where it went, even if a deadline cut it off.
async fn once<S, Req>(
    mut inner: S,
    request: Req,
    context: &mut AttemptContext,
    limits: Limits,
) -> Result<S::Response, Failure>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    let now = Instant::now();
    let attempt_ends = limits.per_attempt.and_then(|most| now.checked_add(most));
    let ends = [limits.deadline, attempt_ends].into_iter().flatten().min();
    let mut call = pin!(Some(attempt::scope(std::mem::take(context), async move {
        poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
        inner.call(request).await.map_err(Into::into)
    })));
    let Some(running) = call.as_mut().as_pin_mut() else { unreachable!("it was just put there") };
    let outcome = match ends {
        None => Ok(running.await),
        Some(ends) => tokio::time::timeout_at(ends, running).await,
    };
    *context = call.as_mut().as_pin_mut().map(attempt::take).unwrap_or_default();
    if outcome.is_err() {
        // The instance took too long, and hears of it.
        expiring(|| call.set(None));
    }
    match outcome {
        Ok(outcome) => outcome.map_err(Failure::Error),
        Err(_) if limits.deadline.is_some_and(|deadline| ends == Some(deadline)) => {
            Err(Failure::DeadlinePassed)
        }
        Err(_) => Err(Failure::Error(Error::timeout("the attempt took too long").into())),
    }
}
