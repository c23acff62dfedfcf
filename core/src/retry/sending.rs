//! One attempt: drives the service to readiness, calls it, and waits for the response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::BoxError;

pin_project! {
    #[project = SendingProj]
    pub(super) enum Sending<S, Req>
    where
        S: Service<Req>,
    {
        Driving { service: S, request: Option<Req> },
        Calling { #[pin] response: S::Future },
    }
}

impl<S: Service<Req>, Req> Sending<S, Req> {
    pub(super) fn new(service: S, request: Req) -> Self {
        Self::Driving { service, request: Some(request) }
    }

    /// Whether the service has not been given the request yet.
    pub(super) fn is_driving(&self) -> bool {
        matches!(self, Self::Driving { .. })
    }
}

impl<S, Req> Future for Sending<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let SendingProj::Driving { service, request } = self.as_mut().project() {
            ready!(service.poll_ready(cx)).map_err(Into::into)?;
            // It is there until this state is left, on the next line but one.
            let Some(request) = request.take() else { return Poll::Pending };
            let response = service.call(request);
            self.set(Self::Calling { response });
        }
        let SendingProj::Calling { response } = self.project() else { return Poll::Pending };
        response.poll(cx).map_err(Into::into)
    }
}
