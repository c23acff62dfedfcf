//! A connector that always goes to the same instance.

use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::{BoxError, Error};
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::preface;
use super::wire::Wire;

/// Connects to one instance by the connector `C`, whatever authority a request names: that is only what
/// is asked for there.
#[derive(Clone, Debug)]
pub struct Dial<C> {
    connector: C,
    target: Uri,
    http2: bool,
    timeout: Duration,
}

impl<C> Dial<C> {
    pub(super) fn new(connector: C, target: Uri, http2: bool, timeout: Duration) -> Self {
        Self { connector, target, http2, timeout }
    }
}

impl<C> Service<Uri> for Dial<C>
where
    C: Service<Uri>,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = Wire<C::Response>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Wire<C::Response>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connected = self.connector.call(self.target.clone());
        let (http2, timeout) = (self.http2, self.timeout);
        Box::pin(async move {
            // Beyond the clock's range, the timeout is none.
            let until = Instant::now().checked_add(timeout);
            let io =
                within(until, "no connection in time", connected).await?.map_err(Into::into)?;
            // The connection is asked, for TLS may have agreed on what was not known before.
            let agreed = io.connected().is_negotiated_h2();
            if !http2 && !agreed {
                return Ok(Wire::new(io));
            }
            let silent = "connected, but the server did not answer HTTP/2's preface in time";
            Ok(within(until, silent, preface::exchange(io, agreed)).await??)
        })
    }
}

async fn within<F: Future>(
    until: Option<Instant>,
    message: &'static str,
    future: F,
) -> Result<F::Output, Error> {
    match until {
        Some(until) => timeout_at(until, future).await.map_err(|_| Error::timeout(message)),
        None => Ok(future.await),
    }
}
