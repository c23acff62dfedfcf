//! A call on its way: it waits for an endpoint, drives it to readiness, and calls it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::Balanced;
use super::choice::{Choice, Repeat, ToCall};
use super::waiting::{Next, Waiting};
use crate::context::{CallContext, ContextCarrier};
use crate::endpoints::{InFlight, Observer};
use crate::{BoxError, Error};

pin_project! {
    /// The response of [`Balanced`].
    pub struct BalancedFuture<S, O, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, O, Req>,
        balanced: Balanced<S, O>,
        context: Option<CallContext>,
    }

    impl<S, O, Req> PinnedDrop for BalancedFuture<S, O, Req>
    where
        S: Service<Req>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.state.end(this.context.as_ref());
        }
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
        Driving {
            service: S,
            request: Option<Req>,
            in_flight: Option<InFlight>,
            // Made when the service keeps the call waiting.
            withdrawn: Option<BoxFuture<'static, ()>>,
        },
        Calling {
            #[pin]
            response: S::Future,
            // Dropped after the response's future, unless the observer has it: however the call
            // ends, it is counted out.
            in_flight: Option<InFlight>,
        },
        Over,
    }
}

impl<S: Service<Req>, O, Req> From<Next<S, O, Req>> for State<S, O, Req> {
    fn from(next: Next<S, O, Req>) -> Self {
        match next {
            Next::Waits(waiting) => Self::Waiting { waiting: Some(waiting) },
            Next::Picked(picked, request) => Self::driving(picked, request),
        }
    }
}

impl<S: Service<Req>, O, Req> State<S, O, Req> {
    fn driving((service, in_flight): ToCall<S>, request: Req) -> Self {
        Self::Driving {
            service,
            request: Some(request),
            in_flight: Some(in_flight),
            withdrawn: None,
        }
    }

    /// Drops what is left of the call, which says what it cost the endpoint last: the response's
    /// future may have more to say.
    fn end(mut self: Pin<&mut Self>, context: Option<&CallContext>) {
        let in_flight = match self.as_mut().project() {
            StateProj::Driving { in_flight, .. } | StateProj::Calling { in_flight, .. } => {
                in_flight.take()
            }
            StateProj::Waiting { .. } => None,
            StateProj::Over => return,
        };
        self.set(Self::Over);
        match (in_flight, context) {
            (Some(in_flight), Some(context)) => in_flight.drop_within(context),
            (in_flight, _) => drop(in_flight),
        }
    }
}

impl<S, O, Req> BalancedFuture<S, O, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: 'static,
{
    fn new(
        balanced: &Balanced<S, O>,
        choice: Choice<ToCall<S>>,
        context: Option<CallContext>,
        request: Req,
    ) -> Self {
        let state = begin(balanced, choice, context.as_ref(), request);
        Self { state, balanced: balanced.clone(), context }
    }
}

fn begin<S, O, Req>(
    balanced: &Balanced<S, O>,
    choice: Choice<ToCall<S>>,
    context: Option<&CallContext>,
    request: Req,
) -> State<S, O, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: 'static,
{
    match choice {
        Choice::Picked(picked) => State::driving(picked, request),
        Choice::Nothing => {
            Next::Waits(Waiting::for_endpoint(balanced.clone(), context, request)).into()
        }
        Choice::Tried => Waiting::for_change(balanced.clone(), context, request).into(),
    }
}

impl<S: Service<Req>, O, Req> BalancedFuture<S, O, Req> {
    /// The future of the endpoint that was called. Until there is one, nothing of the request has left:
    /// the call waits for an endpoint, or for its service to be ready.
    pub fn called(&self) -> Option<&S::Future> {
        match &self.state {
            State::Calling { response, .. } => Some(response),
            State::Waiting { .. } | State::Driving { .. } | State::Over => None,
        }
    }
}

impl<S, O, Req> Future for BalancedFuture<S, O, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: 'static,
    O: Observer<S::Response>,
    S::Error: Into<BoxError>,
{
    type Output = Result<O::Observed, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut state, balanced, context) = (this.state, &*this.balanced, this.context.as_ref());
        for _ in 0..MOVES {
            if let StateProj::Waiting { waiting } = state.as_mut().project() {
                let Some(waiting) = waiting.take() else { return Poll::Pending };
                match waiting.poll(cx, context) {
                    Ok(next @ Next::Waits(_)) => {
                        state.set(next.into());
                        return Poll::Pending;
                    }
                    Ok(next) => state.set(next.into()),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let polled = state.as_mut().poll_picked(cx, balanced.observer(), context);
            if polled.is_ready() {
                state.set(State::Over);
                return polled;
            }
            let Some(request) = state.as_mut().poll_withdrawn(cx) else { return Poll::Pending };
            state.as_mut().end(None);
            let choice = balanced.choose_to_call(context, &request, Repeat::No);
            state.set(begin(balanced, choice, context, request));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// How many endpoints a call leaves in one poll.
const MOVES: usize = 4;

impl<S: Service<Req>, O, Req> State<S, O, Req> {
    /// Takes the request back from a service that is not ready for it, if its endpoint takes no more
    /// calls: nothing was sent, and another endpoint may be ready.
    fn poll_withdrawn(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Req> {
        let StateProj::Driving { request, in_flight, withdrawn, .. } = self.project() else {
            return None;
        };
        let in_flight = in_flight.as_ref()?;
        let gone = withdrawn.get_or_insert_with(|| in_flight.withdrawn());
        if gone.as_mut().poll(cx).is_pending() {
            return None;
        }
        request.take()
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
        context: Option<&CallContext>,
    ) -> Poll<Result<O::Observed, BoxError>> {
        if let StateProj::Driving { service, request, in_flight, .. } = self.as_mut().project() {
            match service.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(failed(error.into(), in_flight, observer)));
                }
                Poll::Ready(Ok(())) => {}
            }
            // It is there until this state is left, below.
            let Some(request) = request.take() else { return Poll::Pending };
            if context.is_some_and(|context| !context.attempt().leaves()) {
                self.end(context);
                let error = Error::timeout("the attempt was given up; nothing was sent");
                return Poll::Ready(Err(error.with_nothing_sent().into()));
            }
            let response = service.call(request);
            let calling = Self::Calling { response, in_flight: in_flight.take() };
            self.set(calling);
        }
        let StateProj::Calling { response, in_flight } = self.project() else {
            return Poll::Pending;
        };
        match ready!(response.poll(cx)) {
            // It is there until the call is over.
            Ok(response) => match in_flight.take() {
                Some(call) => Poll::Ready(Ok(observer.response(response, call))),
                None => Poll::Pending,
            },
            Err(error) => Poll::Ready(Err(failed(error.into(), in_flight, observer))),
        }
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

impl<S, O, Req> Service<Req> for Balanced<S, O>
where
    S: Service<Req::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    O: Observer<S::Response> + 'static,
    Req: ContextCarrier<Request: Send + 'static>,
{
    type Response = O::Observed;
    type Error = BoxError;
    type Future = BalancedFuture<S, O, Req::Request>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (request, context) = request.into_parts();
        let choice = self.choose_to_call(context.as_ref(), &request, Repeat::No);
        BalancedFuture::new(self, choice, context, request)
    }
}

impl<S: Service<Req>, O, Req> fmt::Debug for BalancedFuture<S, O, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedFuture").finish_non_exhaustive()
    }
}
