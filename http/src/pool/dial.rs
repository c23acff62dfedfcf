//! A connector that always goes to the same instance.

use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::{BoxError, Error};
use futures::future::BoxFuture;
use http::Uri;
use tower_service::Service;

/// Connects to one instance by the connector `C`, whatever authority a request names: that is only what
/// is asked for there.
#[derive(Clone, Debug)]
pub struct Dial<C> {
    connector: C,
    target: Uri,
    timeout: Duration,
}

impl<C> Dial<C> {
    pub(super) fn new(connector: C, target: Uri, timeout: Duration) -> Self {
        Self { connector, target, timeout }
    }
}

impl<C> Service<Uri> for Dial<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connected =
            tokio::time::timeout(self.timeout, self.connector.call(self.target.clone()));
        Box::pin(async {
            match connected.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(Error::timeout("no connection in time").into()),
            }
        })
    }
}
