//! A call on its way: it waits for an endpoint, drives it to readiness, and calls it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{Balanced, Shared, ToCall, WaitForReady};
use crate::{BoxError, Endpointer, InFlight, Observer, attempt};

/// A call that found no endpoint and waits for one.
struct Waiting<S, O, Req> {
    balanced: Balanced<S, O>,
    request: Req,
    /// Nothing if it lies beyond the clock's range.
    until: Option<Instant>,
    /// Ends with whether some endpoint was ready before `until`. It does not hold the request,
    /// which need not be `Sync`.
    ready: BoxFuture<'static, bool>,
}

impl<S: Clone + Send + Sync + 'static, O, Req: 'static> Waiting<S, O, Req> {
    fn new(balanced: Balanced<S, O>, request: Req) -> Self {
        let (until, ready): (_, BoxFuture<'static, bool>) = match balanced.wait {
            // Without a timer: even one that is over takes until the clock's next tick.
            WaitForReady::FailFast => (None, Box::pin(std::future::ready(false))),
            WaitForReady::AtMost(most) => {
                let until = Instant::now().checked_add(most);
                (until, some_ready(balanced.endpointer().clone(), until))
            }
        };
        Self { balanced, request, until, ready }
    }

    /// Waits on, picks, or gives up with an error about the set as it is then.
    fn poll(mut self, cx: &mut Context<'_>) -> Result<State<S, O, Req>, BoxError>
    where
        S: Service<Req>,
    {
        loop {
            let some_ready = match self.ready.as_mut().poll(cx) {
                Poll::Pending => return Ok(State::Waiting { waiting: Some(self) }),
                Poll::Ready(some_ready) => some_ready,
            };
            let endpointer = self.balanced.endpointer();
            if some_ready && let Some(picked) = self.balanced.pick_to_call(&self.request) {
                return Ok(State::driving(picked, self.request));
            }
            // The set may be empty again by now: then wait on. A balancer that refuses a set with
            // endpoints in it is not asked again.
            if !some_ready || !endpointer.load().ready().is_empty() {
                return Err(endpointer.load().no_endpoints(endpointer.service()).into());
            }
            self.ready = self::some_ready(endpointer.clone(), self.until);
        }
    }
}

fn some_ready<S: Clone + Send + Sync + 'static>(
    endpointer: Endpointer<S>,
    until: Option<Instant>,
) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        let ready = endpointer.wait_for(|set| !set.ready().is_empty());
        match until {
            Some(until) => tokio::time::timeout_at(until, ready).await.is_ok(),
            None => {
                ready.await;
                true
            }
        }
    })
}

pin_project! {
    /// The response of [`Balanced`].
    pub struct BalancedFuture<S, O, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, O, Req>,
        shared: Arc<Shared<S, O>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, O, Req>
    where
        S: Service<Req>,
    {
        // An option, to be moved out of and back.
        Waiting { waiting: Option<Waiting<S, O, Req>> },
        Driving { service: S, request: Option<Req>, in_flight: Option<InFlight> },
        Calling {
            #[pin]
            response: S::Future,
            // Dropped with the response's future, unless the observer has it: however the call
            // ends, it is counted out.
            in_flight: Option<InFlight>,
        },
    }
}

impl<S: Service<Req>, O, Req> State<S, O, Req> {
    fn driving((service, in_flight): ToCall<S>, request: Req) -> Self {
        Self::Driving { service, request: Some(request), in_flight: Some(in_flight) }
    }
}

impl<S, O, Req> BalancedFuture<S, O, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: 'static,
{
    pub(super) fn new(balanced: &Balanced<S, O>, picked: Option<ToCall<S>>, request: Req) -> Self {
        let state = match picked {
            Some(picked) => State::driving(picked, request),
            None => State::Waiting { waiting: Some(Waiting::new(balanced.clone(), request)) },
        };
        Self { state, shared: balanced.shared.clone() }
    }
}

impl<S, O, Req> Future for BalancedFuture<S, O, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: 'static,
    O: Observer<S::Response>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut state, observer) = (this.state, &this.shared.observer);
        if let StateProj::Waiting { waiting } = state.as_mut().project() {
            let Some(waiting) = waiting.take() else { return Poll::Pending };
            match waiting.poll(cx) {
                Ok(next @ State::Waiting { .. }) => {
                    state.set(next);
                    return Poll::Pending;
                }
                Ok(next) => state.set(next),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // From here on it is the instance's part; once for all of it.
        let _hidden = attempt::current();
        state.poll_picked(cx, observer)
    }
}

impl<S: Service<Req>, O, Req> State<S, O, Req>
where
    S::Error: Into<BoxError>,
    O: Observer<S::Response>,
{
    /// Drives the service that was picked to readiness, calls it, and waits for the response.
    fn poll_picked(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        observer: &O,
    ) -> Poll<Result<S::Response, BoxError>> {
        if let StateProj::Driving { service, request, in_flight } = self.as_mut().project() {
            match service.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(failed(error.into(), in_flight, observer)));
                }
                Poll::Ready(Ok(())) => {}
            }
            // It is there until this state is left, on the next line but one.
            let Some(request) = request.take() else { return Poll::Pending };
            let response = service.call(request);
            let calling = Self::Calling { response, in_flight: in_flight.take() };
            self.set(calling);
        }
        let StateProj::Calling { response, in_flight } = self.project() else {
            return Poll::Pending;
        };
        response.poll(cx).map(|result| match result {
            Ok(response) => Ok(match in_flight.take() {
                Some(call) => observer.response(response, call),
                None => response,
            }),
            Err(error) => Err(failed(error.into(), in_flight, observer)),
        })
    }
}

fn failed<R>(
    error: BoxError,
    in_flight: &mut Option<InFlight>,
    observer: &impl Observer<R>,
) -> BoxError {
    if let Some(call) = in_flight.take() {
        call.finish(observer.error(&error));
    }
    error
}

impl<S: Service<Req>, O, Req> fmt::Debug for BalancedFuture<S, O, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedFuture").finish_non_exhaustive()
    }
}
