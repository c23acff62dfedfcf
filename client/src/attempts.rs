//! One attempt of a call: below the retry, above the balancing.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fleetward_core::balancing::{BalancedFuture, WaitForReady};
use fleetward_core::context::{CallContext, ContextCarrier, WithContext};
use fleetward_core::endpoints::Observer;
use fleetward_core::{Balanced, BoxError};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::AttemptGuard;

/// One call, as a protocol sees it: the request that each attempt takes, and what an answer says.
///
/// A protocol implements it on a reference to what the attempts of a call share. [`Attempts`] is the service that a
/// [`Retry`](fleetward_core::Retry) repeats then.
pub trait Exchange: Copy {
    /// A request, as the service of an instance takes it.
    type Request: Send + 'static;
    /// The caller's body.
    type Body: Body;
    /// A response, as the balancer's [`Observer`] gives it.
    type Response;

    /// The request for one attempt, and the attempt's hold on its body. `previous` attempts may have reached a
    /// server. `None` if the call is committed to another attempt.
    fn request(&self, previous: u32) -> Option<(Self::Request, AttemptGuard<Self::Body>)>;

    /// The head of a response has come: the call goes on with it, and then `guard` is
    /// [committed](AttemptGuard::commit) or [released](AttemptGuard::release); or it is an error, which the retry
    /// looks at.
    ///
    /// # Errors
    /// What the response says, if it says that the attempt has failed.
    fn answered(
        &self,
        response: Self::Response,
        guard: AttemptGuard<Self::Body>,
    ) -> Result<Self::Response, BoxError>;

    /// The attempt ended without a response.
    fn failed(&self, error: &BoxError) {
        let _ = error;
    }

    /// The attempt was given up before anything of its request left.
    fn came_back(&self) {}
}

/// Sends the request of a call to one endpoint of the balancer's choice, once each time it is called.
pub struct Attempts<'a, S, O, F> {
    balanced: &'a Balanced<S, O>,
    wait: WaitForReady,
    is_waiting: fn(&F) -> bool,
}

impl<'a, S, O, F> Attempts<'a, S, O, F> {
    /// Attempts that wait for an endpoint as `wait` says. `is_waiting` says of an endpoint's future whether nothing of
    /// its request has left.
    pub fn new(
        balanced: &'a Balanced<S, O>,
        wait: WaitForReady,
        is_waiting: fn(&F) -> bool,
    ) -> Self {
        Self { balanced, wait, is_waiting }
    }
}

impl<S, O, F> Clone for Attempts<'_, S, O, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, O, F> Copy for Attempts<'_, S, O, F> {}

impl<S, O, F> fmt::Debug for Attempts<'_, S, O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("wait", &self.wait).finish_non_exhaustive()
    }
}

impl<'a, S, O, E> Service<WithContext<E>> for Attempts<'a, S, O, S::Future>
where
    E: Exchange,
    S: Service<E::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    O: Observer<S::Response, Observed = E::Response> + 'static,
{
    type Response = E::Response;
    type Error = BoxError;
    type Future = Attempt<S, O, E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: WithContext<E>) -> Attempt<S, O, E> {
        let (exchange, context) = exchange.into_parts();
        let previous = context.as_ref().map_or(0, CallContext::previous_attempts);
        let (state, guard) = match exchange.request(previous) {
            Some((request, guard)) => {
                let request = WithContext::within(context, request);
                let response = self.balanced.clone().wait_for_ready(self.wait).call(request);
                (State::Sent { response }, guard)
            }
            // Another attempt of a hedged call was just committed.
            None => (State::Superseded, AttemptGuard::default()),
        };
        Attempt { state, guard, exchange, is_waiting: self.is_waiting }
    }
}

pin_project! {
    /// One attempt under way.
    pub struct Attempt<S, O, E>
    where
        E: Exchange,
        S: Service<E::Request>,
    {
        // First, so that the stream is reset before the request's body hears that nobody reads it.
        #[pin]
        state: State<S, O, E>,
        guard: AttemptGuard<E::Body>,
        exchange: E,
        is_waiting: fn(&S::Future) -> bool,
    }

    impl<S, O, E> PinnedDrop for Attempt<S, O, E>
    where
        E: Exchange,
        S: Service<E::Request>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let StateProj::Sent { response } = this.state.project()
                && response.called().is_some_and(this.is_waiting)
            {
                this.exchange.came_back();
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, O, E>
    where
        E: Exchange,
        S: Service<E::Request>,
    {
        Sent { #[pin] response: BalancedFuture<S, O, E::Request> },
        Superseded,
    }
}

impl<S, O, E> Future for Attempt<S, O, E>
where
    E: Exchange,
    S: Service<E::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    O: Observer<S::Response, Observed = E::Response> + 'static,
{
    type Output = Result<E::Response, BoxError>;

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
            Ok(response) => this.exchange.answered(response, std::mem::take(this.guard)),
            Err(error) => {
                this.exchange.failed(&error);
                Err(error)
            }
        })
    }
}

impl<S, O, E> fmt::Debug for Attempt<S, O, E>
where
    E: Exchange,
    S: Service<E::Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").finish_non_exhaustive()
    }
}

/// Another attempt of the same call was committed, so this one could not have the whole request.
#[derive(Clone, Copy, Debug)]
pub struct Superseded;

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call goes on with another attempt, which has the request's body")
    }
}

impl std::error::Error for Superseded {}
