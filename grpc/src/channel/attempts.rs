//! One attempt of a call: below the retry, above the balancing.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fleetward_core::balancing::{BalancedFuture, WaitForReady};
use fleetward_core::context::{CallContext, ContextCarrier, WithContext};
use fleetward_core::limit::LimitedFuture;
use fleetward_core::{Balanced, BoxError};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower_service::Service;

use super::body::CallBody;
use super::head::Head;
use super::observer::ByStatus;
use super::rejected::{Rejected, Superseded};
use super::replay::{Guard, Sending};
use crate::connection::ResponseFuture;
use crate::{Connection, ResponseBody};

/// What an endpoint of a channel is: a [`Connection`], or one with layers around it.
pub(super) trait Transport:
    Service<http::Request<Body>, Response = http::Response<ResponseBody>>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Whether a call still waits for its turn or for a stream, so that nothing of it has left.
    fn is_waiting(future: &Self::Future) -> bool;
}

impl<S> Transport for S
where
    S: Service<http::Request<Body>, Response = http::Response<ResponseBody>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: 'static,
{
    fn is_waiting(future: &S::Future) -> bool {
        type Limited = LimitedFuture<Connection, http::Request<Body>>;
        let future: &dyn Any = future;
        if let Some(limited) = future.downcast_ref::<Limited>() {
            return limited.is_waiting()
                || limited.called().is_some_and(ResponseFuture::is_waiting);
        }
        future.downcast_ref().is_some_and(ResponseFuture::is_waiting)
    }
}

/// Sends a call's request to one endpoint, and makes an error of a response that says in its head
/// that the call failed: the retry above looks at errors only.
pub(super) struct Attempts<'a, S> {
    balanced: &'a Balanced<S, ByStatus>,
    wait: WaitForReady,
}

impl<'a, S> Attempts<'a, S> {
    pub(super) fn new(balanced: &'a Balanced<S, ByStatus>, wait: WaitForReady) -> Self {
        Self { balanced, wait }
    }
}

impl<S> Clone for Attempts<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Attempts<'_, S> {}

impl<'a, S: Transport> Service<WithContext<Sending<'a>>> for Attempts<'_, S>
where
    S::Error: Into<BoxError>,
{
    type Response = http::Response<CallBody>;
    type Error = BoxError;
    type Future = Attempt<'a, S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, sending: WithContext<Sending<'a>>) -> Attempt<'a, S> {
        let (sending, context) = sending.into_parts();
        let previous = context.as_ref().map_or(0, CallContext::previous_attempts);
        let (state, guard) = match sending.request(previous) {
            Some((request, guard)) => {
                let request = WithContext::within(context, request);
                let response = self.balanced.clone().wait_for_ready(self.wait).call(request);
                (State::Sent { response }, guard)
            }
            // Another attempt of a hedged call was just committed.
            None => (State::Superseded, Guard::default()),
        };
        Attempt { state, guard, sending }
    }
}

pin_project! {
    /// One attempt under way.
    pub(super) struct Attempt<'a, S>
    where
        S: Transport,
    {
        // First, so that the stream is reset before the request's body hears that nobody reads it.
        #[pin]
        state: State<S>,
        guard: Guard,
        sending: Sending<'a>,
    }

    impl<S> PinnedDrop for Attempt<'_, S>
    where
        S: Transport,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let StateProj::Sent { response } = this.state.project()
                && response.called().is_some_and(S::is_waiting)
            {
                this.sending.came_back();
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S>
    where
        S: Transport,
    {
        Sent { #[pin] response: BalancedFuture<S, ByStatus, http::Request<Body>> },
        Superseded,
    }
}

impl<S: Transport> Future for Attempt<'_, S>
where
    S::Error: Into<BoxError>,
{
    type Output = Result<http::Response<CallBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let StateProj::Sent { response } = this.state.project() else {
            return Poll::Ready(Err(Superseded.into()));
        };
        let result = ready!(response.poll(cx));
        if this.guard.is_superseded() {
            return Poll::Ready(Err(Superseded.into()));
        }
        Poll::Ready(match result {
            Ok(mut response) => match response.body().head() {
                Head::Failed(code) | Head::Foreign(code) => {
                    Err(Rejected { code, head: response.into_parts().0 }.into())
                }
                Head::Begun | Head::Succeeded => {
                    if let Some(guard) = std::mem::take(this.guard).commit() {
                        response.body_mut().hold(guard);
                    }
                    Ok(response)
                }
            },
            Err(error) => Err(error),
        })
    }
}
