//! The loop around the attempts of one call.
//!
//! One loop for both: a retry follows an attempt that failed, a hedge follows one that has not yet
//! answered. They differ in when the next attempt is sent and in nothing else.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::call::Call;
use super::plan::Kind;
use super::running::{Answer, Attempts, Ended, Running};
use super::sending::Sending;
use super::settings::Settings;
use super::{RetryClassifier, RetryError};
use crate::context::{AttemptContext, CallContext, ContextCarrier};
use crate::{BoxError, Error};

pin_project! {
    /// A call. It begins when it is polled for the first time.
    pub(super) struct Engine<S, Req>
    where
        S: Service<Req>,
    {
        inner: S,
        // Until it has gone out and there is no copy of it.
        request: Option<Req>,
        // That of the attempt of another layer, or the caller's.
        within: Option<CallContext>,
        call: Call,
        #[pin]
        attempts: Attempts<Sending<S, Req>>,
        #[pin]
        timer: Option<Sleep>,
    }
}

/// What wakes the loop.
enum Event<R> {
    Succeeded(Answer<R>),
    Failed(Ended, BoxError),
    Time,
}

impl<S, Req> Engine<S, Req>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    Req: ContextCarrier,
{
    /// Ends by `deadline`, if that is sooner than the timeout.
    pub(super) fn new(inner: S, deadline: Option<Instant>, mut request: Req) -> Self {
        let within = request.replace_context(None);
        let (call, attempts) = (Call::new(deadline), Attempts::default());
        Self { inner, request: Some(request), within, call, attempts, timer: None }
    }

    /// The same policy and settings each time.
    pub(super) fn poll<P>(
        mut self: Pin<&mut Self>,
        policy: &P,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, RetryError>>
    where
        P: RetryClassifier<Req> + ?Sized,
    {
        // What is due is sent at the beginning and after each event. A later poll goes on waiting.
        let this = self.as_mut().project();
        let mut looks = this.call.begin(settings, this.within.as_ref());
        loop {
            if let Some(now) = looks.take() {
                self.as_mut().send_due(policy, settings, now)?;
            }
            let event = ready!(self.as_mut().poll_event(cx));
            let this = self.as_mut().project();
            let (call, mut attempts) = (this.call, this.attempts);
            looks = Some(match event {
                Event::Succeeded(Answer { response, counted_below }) => {
                    call.succeeded(settings, counted_below);
                    return Poll::Ready(Ok(response));
                }
                Event::Failed(ended, _) if ended.gave_up => {
                    call.gave_up(attempts.is_empty())?;
                    Instant::now()
                }
                Event::Failed(ended, error) => {
                    let verdict = policy.judge(call.counted(), &error);
                    call.failed(settings, ended, error, verdict, attempts.is_empty())?;
                    Instant::now()
                }
                Event::Time => {
                    let now = Instant::now();
                    if call.is_over(now) {
                        return Poll::Ready(Err(call.deadline_passed(attempts.expire_all())));
                    }
                    let most = settings.per_attempt.unwrap_or(Duration::MAX);
                    let mut expired = attempts.as_mut().expire(now, most).into_iter();
                    while let Some(ended) = expired.next() {
                        let error = too_long(&ended).into();
                        let verdict = policy.judge(call.counted(), &error);
                        let was_last = attempts.is_empty() && expired.len() == 0;
                        call.failed(settings, ended, error, verdict, was_last)?;
                    }
                    now
                }
            });
        }
    }

    fn send_due<P>(
        self: Pin<&mut Self>,
        policy: &P,
        settings: &Settings,
        now: Instant,
    ) -> Result<(), RetryError>
    where
        P: RetryClassifier<Req> + ?Sized,
    {
        let this = self.project();
        let (call, kept, attempts) = (this.call, this.request, this.attempts);
        let Some(kind) = call.due(now) else { return Ok(()) };
        if call.is_over(now) {
            return Err(call.deadline_passed(attempts.expire_all()));
        }
        if !call.may_send(settings, kind, attempts.is_empty())? {
            return Ok(());
        }
        // What cannot be copied goes out once. When it has, nothing more is due.
        let copy = kept.as_ref().and_then(|kept| policy.copy(kept)).or_else(|| kept.take());
        let Some(mut request) = copy else { return Ok(()) };
        let budget = settings.budget.as_ref().map_or(0, |budget| budget.identity());
        let earlier = match kind {
            Kind::First => None,
            kind => call.earlier(kind, attempts.picked()),
        };
        let within = this.within.as_ref().map(CallContext::share);
        let context = CallContext::of(AttemptContext::new(within, earlier, budget, now));
        request.replace_context(Some(context.clone()));
        let sending = Sending::new(this.inner.clone(), request);
        let ends = settings.per_attempt.and_then(|most| now.checked_add(most));
        attempts.push(Running::new(context, sending, now, ends));
        call.sent(settings, kind, now, kept.is_some());
        Ok(())
    }

    fn poll_event(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<S::Response>> {
        let this = self.project();
        let (mut attempts, mut timer) = (this.attempts, this.timer);
        if let Poll::Ready(outcome) = attempts.as_mut().poll(cx) {
            return Poll::Ready(match outcome {
                Ok(answer) => Event::Succeeded(answer),
                Err((ended, error)) => Event::Failed(ended, error),
            });
        }
        let wakes = [this.call.deadline(), attempts.ends(), this.call.next_at()];
        let Some(at) = wakes.into_iter().flatten().min() else { return Poll::Pending };
        match timer.as_mut().as_pin_mut() {
            Some(timer) if timer.deadline() == at => {}
            Some(timer) => timer.reset(at),
            None => timer.set(Some(sleep_until(at))),
        }
        timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx)).map(|()| Event::Time)
    }
}

fn too_long(ended: &Ended) -> Error {
    if ended.unsent {
        Error::timeout("the attempt took too long; nothing was sent").with_nothing_sent()
    } else {
        Error::timeout("the attempt took too long")
    }
}
