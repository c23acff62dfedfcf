//! The layer, and the service that it makes.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::future::RetryFuture;
use super::policy::{Always, CallbackPolicy};
use super::{Retry, RetryClassifier, RetryError};
use crate::BoxError;
use crate::context::ContextCarrier;

impl<S, P> Layer<S> for Retry<P> {
    type Service = Retrying<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Retrying { inner, retry: Arc::new(self.clone()) }
    }
}

/// The service that [`Retry`] makes: always ready, and `Clone + Send + Sync` as the inner one.
pub struct Retrying<S, P = CallbackPolicy<Always>> {
    inner: S,
    retry: Arc<Retry<P>>,
}

impl<S, P, Req> Service<Req> for Retrying<S, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    P: RetryClassifier<Req>,
    Req: ContextCarrier,
{
    type Response = S::Response;
    type Error = RetryError;
    type Future = RetryFuture<S, P, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RetryError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        RetryFuture::new(self.retry.clone(), self.inner.clone(), request)
    }
}

impl<S: Clone, P> Clone for Retrying<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), retry: self.retry.clone() }
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Retrying<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("inner", &self.inner)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
