//! Plain requests for a stack of layers.

use std::task::{Context, Poll};

use fleetward_core::context::WithContext;
use tower_service::Service;

/// Sends each request in a [`WithContext`], as the layers want it.
#[derive(Clone, Debug)]
pub(crate) struct InContext<S>(pub(crate) S);

impl<S: Service<WithContext<R>>, R> Service<R> for InContext<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request.into())
    }
}
