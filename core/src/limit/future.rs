//! A call that waits for its turn, and goes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::gate::{Gate, Place};
use crate::{BoxError, Error};

pin_project! {
    /// The response of [`Limited`](super::Limited).
    pub struct LimitedFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        // Options, to be moved out of.
        Before {
            service: S,
            request: Option<Req>,
            place: Option<Place>,
            withdrawn: Option<BoxFuture<'static, Error>>,
        },
        // The place is given back after the response's future is dropped, which may have an end of
        // the connection in it.
        Calling { #[pin] response: S::Future, place: Option<Place> },
        Done,
    }
}

impl<S: Service<Req>, Req> LimitedFuture<S, Req> {
    pub(super) fn new(service: S, request: Req, gate: Arc<Gate>) -> Self {
        let (request, place) = (Some(request), Some(Place::outside(gate)));
        Self { state: State::Before { service, request, place, withdrawn: None } }
    }

    /// Whether the call waits for its turn, or for the service to be ready: nothing of it has left.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Before { .. })
    }

    /// The service's own future, while the call is under way.
    pub fn called(&self) -> Option<&S::Future> {
        match &self.state {
            State::Calling { response, .. } => Some(response),
            State::Before { .. } | State::Done => None,
        }
    }
}

impl<S, Req> Future for LimitedFuture<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = loop {
            let next = match state.as_mut().project() {
                StateProj::Before { service, request, place, withdrawn } => {
                    let Some(waiting) = place else { return Poll::Pending };
                    let turn = match waiting.poll_turn(cx) {
                        Poll::Ready(Ok(())) => service.poll_ready(cx).map_err(Into::into),
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                        Poll::Pending => Poll::Pending,
                    };
                    match turn {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => break Err(error),
                        Poll::Pending => {
                            let gate = waiting.gate();
                            let gone = withdrawn.get_or_insert_with(|| gate.clone().withdrawn());
                            break Err(ready!(gone.as_mut().poll(cx)).into());
                        }
                    }
                    // It is there until this state is left, in the next line but one.
                    let Some(request) = request.take() else { return Poll::Pending };
                    State::Calling { response: service.call(request), place: place.take() }
                }
                StateProj::Calling { response, .. } => {
                    break ready!(response.poll(cx)).map_err(Into::into);
                }
                StateProj::Done => return Poll::Pending,
            };
            state.set(next);
        };
        // Whoever keeps a future that is done keeps nobody waiting.
        state.set(State::Done);
        Poll::Ready(result)
    }
}

impl<S: Service<Req>, Req> fmt::Debug for LimitedFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedFuture").finish_non_exhaustive()
    }
}
