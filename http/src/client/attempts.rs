//! One attempt of a call: below the retry, above the balancing.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_core::context::{ContextCarrier, WithContext};
use fleetward_core::{Balanced, BoxError, Error, ErrorKind};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::call::Call;
use crate::{ByStatus, OriginError, RequestBody, ResponseBody};

/// Sends a call's request to one endpoint, and makes an error of a response that is to be tried again:
/// the retry above looks at errors only.
pub(super) struct Attempts<S> {
    balanced: Balanced<S, ByStatus>,
}

impl<S> Attempts<S> {
    pub(super) fn new(balanced: Balanced<S, ByStatus>) -> Self {
        Self { balanced }
    }
}

impl<S> Clone for Attempts<S> {
    fn clone(&self) -> Self {
        Self { balanced: self.balanced.clone() }
    }
}

impl<S, B> Service<WithContext<Arc<Call<B>>>> for Attempts<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody<B>>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody<B>>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: WithContext<Arc<Call<B>>>) -> Self::Future {
        let (call, context) = call.into_parts();
        let Some((request, guard)) = call.request() else {
            // A client that reads the body before it has a connection.
            let spent = Error::new(ErrorKind::Other, "the request's body was sent already");
            return Box::pin(std::future::ready(Err(spent.into())));
        };
        let response = self.balanced.call(WithContext::within(context, request));
        Box::pin(async move {
            let mut response = pin!(response);
            let answered = match call.kept_until() {
                None => response.await,
                Some(until) => match tokio::time::timeout_at(until, response.as_mut()).await {
                    Ok(answered) => answered,
                    Err(_) => {
                        call.let_go();
                        response.await
                    }
                },
            };
            match answered {
                Ok(response) => {
                    let response = call.reject(response)?;
                    guard.release();
                    Ok(response)
                }
                Err(error) => {
                    if let Some(error) = error.downcast_ref::<OriginError>() {
                        call.failed_on(error.instance());
                    }
                    Err(error)
                }
            }
        })
    }
}
