//! The loop around the attempts of one call.
//!
//! One loop for both: a retry follows an attempt that failed, a hedge follows one that has not yet
//! answered. They differ in when the next attempt is sent and in nothing else.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::call::Call;
use super::running::{Attempts, Ended, Running};
use super::{RetryClassifier, RetryError, Settings};
use crate::{BoxError, Error};

/// What wakes the loop.
enum Event<R> {
    Ended(Ended, Result<R, BoxError>),
    Time,
}

pub(super) async fn run<S, P, Req>(
    inner: S,
    policy: &P,
    settings: &Settings,
    mut now: Instant,
    deadline: Option<Instant>,
    request: Req,
) -> Result<S::Response, RetryError>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: RetryClassifier<Req> + ?Sized,
{
    if let Some(budget) = &settings.budget {
        budget.call();
    }
    let mut call = Call::new(settings, deadline);
    let mut kept = Some(request);
    let first = pin!(None);
    let mut attempts = Attempts::new(first);
    let mut timer = pin!(None::<Sleep>);
    loop {
        if call.is_due(now) && call.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(call.deadline_passed(attempts.expire_all()));
        }
        if call.is_due(now) && call.may_send(attempts.is_empty())? {
            // What cannot be copied goes out once.
            let copy = kept.as_ref().and_then(|kept| policy.copy(kept)).or_else(|| kept.take());
            match copy {
                Some(mut request) => {
                    policy.mark(&mut request, call.before());
                    let earlier = call.earlier(attempts.picked());
                    let attempt = attempt(inner.clone(), request);
                    attempts.push(Running::new(earlier, attempt, now, call.attempt_ends(now)));
                    call.sent(now, kept.is_some());
                }
                None => call.send_nothing(),
            }
        }
        let event = poll_fn(|cx| {
            if let Poll::Ready((ended, outcome)) = attempts.poll(cx) {
                return Poll::Ready(Event::Ended(ended, outcome));
            }
            let wakes = [call.deadline(), attempts.ends(), call.next_at()];
            let Some(at) = wakes.into_iter().flatten().min() else { return Poll::Pending };
            match timer.as_mut().as_pin_mut() {
                Some(timer) if timer.deadline() == at => {}
                Some(timer) => timer.reset(at),
                None => timer.set(Some(sleep_until(at))),
            }
            let timer = timer.as_mut().as_pin_mut();
            timer.map_or(Poll::Pending, |timer| timer.poll(cx)).map(|()| Event::Time)
        })
        .await;
        match event {
            Event::Ended(_, Ok(response)) => {
                call.succeeded();
                return Ok(response);
            }
            Event::Ended(ended, Err(error)) => {
                let verdict = policy.judge(call.counted(), &error);
                call.failed(ended, error, verdict, attempts.is_empty())?;
                now = Instant::now();
            }
            Event::Time => {
                now = Instant::now();
                if call.deadline().is_some_and(|deadline| deadline <= now) {
                    return Err(call.deadline_passed(attempts.expire_all()));
                }
                let mut expired = attempts.expire(now).into_iter();
                while let Some(ended) = expired.next() {
                    let error = Error::timeout("the attempt took too long").into();
                    let verdict = policy.judge(call.counted(), &error);
                    let was_last = attempts.is_empty() && expired.len() == 0;
                    call.failed(ended, error, verdict, was_last)?;
                }
            }
        }
    }
}

async fn attempt<S, Req>(mut inner: S, request: Req) -> Result<S::Response, BoxError>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    inner.call(request).await.map_err(Into::into)
}
