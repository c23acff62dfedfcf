//! A call that has no endpoint yet.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::choice::{Choice, Repeat, ToCall};
use super::{Balanced, WaitForReady};
use crate::context::CallContext;
use crate::endpoints::Endpoints;
use crate::{BoxError, Error, ErrorKind};

/// A call that waits for an endpoint.
pub(super) struct Waiting<S, O, Req> {
    balanced: Balanced<S, O>,
    request: Req,
    why: Why,
    /// Nothing if it lies beyond the clock's range.
    until: Option<Instant>,
    /// Ends with whether it is worth another pick, before `until`. It does not hold the request, which
    /// need not be `Sync`.
    ready: BoxFuture<'static, bool>,
}

/// What comes next for a call that waited.
pub(super) enum Next<S, O, Req> {
    Waits(Waiting<S, O, Req>),
    Picked(ToCall<S>, Req),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// No endpoint is ready.
    NothingReady,
    /// Each one that the balancer takes was tried before, and the last one took nothing.
    AllTried,
}

impl<S: Clone + Send + Sync + 'static, O, Req: 'static> Waiting<S, O, Req> {
    /// Waits for the first endpoint.
    pub(super) fn for_endpoint(
        balanced: Balanced<S, O>,
        context: Option<&CallContext>,
        request: Req,
    ) -> Self {
        let (until, ready): (_, BoxFuture<'static, bool>) = match balanced.wait() {
            // Nothing to wait for.
            _ if balanced.endpoints().load().is_last() => {
                (None, Box::pin(std::future::ready(false)))
            }
            // Without a timer: even one that is over takes until the clock's next tick.
            WaitForReady::FailFast => (None, Box::pin(std::future::ready(false))),
            WaitForReady::AtMost(most) => {
                let until = since(context).checked_add(most);
                (until, some_ready(balanced.endpoints().clone(), until))
            }
        };
        Self { balanced, request, why: Why::NothingReady, until, ready }
    }

    /// Waits until the set changes, or a pause is over: an endpoint that refused may take the call by
    /// then, whether or not the set tells.
    pub(super) fn for_change(
        balanced: Balanced<S, O>,
        context: Option<&CallContext>,
        request: Req,
    ) -> Next<S, O, Req> {
        // Listening before looking: a change in between is not missed.
        let mut changes = balanced.endpoints().changes();
        if let Choice::Picked(picked) = balanced.choose_to_call(context, &request, Repeat::No) {
            return Next::Picked(picked, request);
        }
        let (until, ready): (_, BoxFuture<'static, bool>) = match balanced.wait() {
            WaitForReady::FailFast => (None, Box::pin(std::future::ready(false))),
            WaitForReady::AtMost(most) => {
                let (now, until) = (Instant::now(), since(context).checked_add(most));
                let again = context.and_then(|context| context.attempt().again());
                let rounds = again.map_or(1, |again| again.rounds);
                let pause = pause(rounds);
                let ready = async move {
                    // A set that changes all the time must not make this spin.
                    tokio::time::sleep(pause.min(LEAST_PAUSE)).await;
                    let most = until.map_or(now + pause, |until| until.min(now + pause));
                    let _ = tokio::time::timeout_at(most, changes.changed()).await;
                    until.is_none_or(|until| Instant::now() < until)
                };
                (until, Box::pin(ready))
            }
        };
        Next::Waits(Self { balanced, request, why: Why::AllTried, until, ready })
    }

    /// Waits on, picks, or gives up with an error about the set as it is then.
    pub(super) fn poll(
        mut self,
        cx: &mut Context<'_>,
        context: Option<&CallContext>,
    ) -> Result<Next<S, O, Req>, BoxError> {
        loop {
            let goes_on = match self.ready.as_mut().poll(cx) {
                Poll::Pending => return Ok(Next::Waits(self)),
                Poll::Ready(goes_on) => goes_on,
            };
            let all_tried = self.why == Why::AllTried;
            let repeat = if all_tried { Repeat::Yes } else { Repeat::No };
            let choice = match goes_on {
                true => self.balanced.choose_to_call(context, &self.request, repeat),
                false if all_tried => {
                    if let Some(context) = context {
                        context.attempt().gives_up();
                    }
                    return Err(self.no_taker().into());
                }
                false => Choice::Nothing,
            };
            let endpoints = self.balanced.endpoints();
            match choice {
                Choice::Picked(picked) => return Ok(Next::Picked(picked, self.request)),
                Choice::Tried => match Self::for_change(self.balanced, context, self.request) {
                    Next::Waits(waiting) => self = waiting,
                    picked => return Ok(picked),
                },
                // The set may be empty again by now: then wait on. A balancer that refuses a set with
                // endpoints in it is not asked again.
                Choice::Nothing if !goes_on || !endpoints.load().ready().is_empty() => {
                    return Err(endpoints.load().no_endpoints(endpoints.service()).into());
                }
                Choice::Nothing => {
                    self.ready = some_ready(endpoints.clone(), self.until);
                    self.why = Why::NothingReady;
                }
            }
        }
    }

    fn no_taker(&self) -> Error {
        let message = "every instance was tried, and none took the request";
        Error::new(ErrorKind::NoEndpoints, message)
            .with_context("service", self.balanced.endpoints().service())
    }
}

/// Since when the call waits: the attempts of one call wait no longer than a single one would.
fn since(context: Option<&CallContext>) -> Instant {
    let attempt = context.map(CallContext::attempt);
    let Some((attempt, mut again)) = attempt.and_then(|attempt| Some((attempt, attempt.again()?)))
    else {
        return Instant::now();
    };
    let since = *again.since.get_or_insert_with(Instant::now);
    attempt.set_again(again);
    since
}

/// How long it does not even look at changes.
const LEAST_PAUSE: Duration = Duration::from_millis(16);

/// From 2 ms, doubling up to a second, jittered downwards to a half.
fn pause(rounds: u32) -> Duration {
    let millis = (1u64 << rounds.clamp(1, 10)).min(1000);
    Duration::from_micros(fastrand::u64(millis * 500..=millis * 1000))
}

fn some_ready<S: Clone + Send + Sync + 'static>(
    endpoints: Endpoints<S>,
    until: Option<Instant>,
) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        let ready = endpoints.wait_for(|set| !set.ready().is_empty());
        match until {
            Some(until) => tokio::time::timeout_at(until, ready).await.is_ok(),
            None => {
                ready.await;
                true
            }
        }
    })
}
