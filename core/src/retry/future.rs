//! A call through the layer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::engine::Engine;
use super::{Retry, RetryClassifier, RetryError};
use crate::BoxError;
use crate::context::ContextCarrier;

pin_project! {
    /// The response of [`Retrying`](super::Retrying).
    pub struct RetryFuture<S, P, Req>
    where
        S: Service<Req>,
    {
        retry: Arc<Retry<P>>,
        // Nothing when it is over: then no attempt is under way any more.
        #[pin]
        engine: Option<Engine<S, Req>>,
    }
}

impl<S, P, Req> RetryFuture<S, P, Req>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    Req: ContextCarrier,
{
    pub(super) fn new(retry: Arc<Retry<P>>, inner: S, request: Req) -> Self {
        Self { retry, engine: Some(Engine::new(inner, None, request)) }
    }
}

impl<S, P, Req> Future for RetryFuture<S, P, Req>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: RetryClassifier<Req>,
    Req: ContextCarrier,
{
    type Output = Result<S::Response, RetryError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Retry { policy, settings } = &**this.retry;
        let Some(engine) = this.engine.as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = engine.poll(&**policy, settings, cx);
        if polled.is_ready() {
            this.engine.set(None);
        }
        polled
    }
}

impl<S: Service<Req>, P, Req> fmt::Debug for RetryFuture<S, P, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}
