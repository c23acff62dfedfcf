//! One try to connect to an instance.

use std::time::Duration;

use fleetward_core::{BoxError, Error, ErrorKind};
use fleetward_http2::{Config, Established, HandshakeError, Spoken, handshake};
use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

/// Connects to one instance by the connector `C`, whatever authority a request names: that is only what is asked for
/// there.
pub(super) struct Dialer<C> {
    pub(super) connector: C,
    pub(super) target: Uri,
    /// HTTP/2 without asking.
    pub(super) http2_only: bool,
    pub(super) timeout: Duration,
    pub(super) http2: Config,
}

/// What a connection speaks: TLS may have agreed on what was not known before.
pub(super) enum Dialled<T> {
    Http1(T),
    Http2(Established),
}

impl<C> Dialer<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    /// Connects within the connect timeout, an HTTP/2 server's preface included. Nothing of a request is sent before
    /// a server has confirmed that it speaks HTTP/2.
    pub(super) async fn dial(&self) -> Result<Dialled<C::Response>, Error> {
        // Beyond the clock's range, the timeout is none.
        let until = Instant::now().checked_add(self.timeout);
        let mut connector = self.connector.clone();
        let connect = async {
            std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.target.clone()).await
        };
        let io = within(until, "no connection in time", connect).await?.map_err(failed)?;
        let agreed = io.connected().is_negotiated_h2();
        if !self.http2_only && !agreed {
            return Ok(Dialled::Http1(io));
        }
        let silent = "connected, but the server did not answer HTTP/2's preface in time";
        let begun = handshake(TokioIo::new(io), &self.http2);
        match within(until, silent, begun).await? {
            Ok(established) => Ok(Dialled::Http2(established)),
            Err(error) => Err(not_http2(error, agreed)),
        }
    }
}

/// The error of a dial after which nothing was sent.
fn failed(error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection failed")
        .with_source(error)
        .with_nothing_sent()
}

async fn within<F: Future>(
    until: Option<Instant>,
    message: &'static str,
    future: F,
) -> Result<F::Output, Error> {
    match until {
        Some(until) => {
            timeout_at(until, future).await.map_err(|_| Error::timeout(message).with_nothing_sent())
        }
        None => Ok(future.await),
    }
}

fn not_http2(error: HandshakeError, agreed: bool) -> Error {
    let what = match &error {
        HandshakeError::WrongProtocol(Spoken::Http1) => "the server speaks HTTP/1 and not HTTP/2",
        HandshakeError::WrongProtocol(_) => "the server speaks something else and not HTTP/2",
        HandshakeError::ClosedEarly(_) => {
            "the connection was closed before the server spoke HTTP/2"
        }
        _ => "the HTTP/2 handshake failed",
    };
    let hint = match agreed {
        true => "TLS had agreed on HTTP/2 by ALPN",
        false => {
            "`with_http2_only` is HTTP/2 by prior knowledge, without asking; leave it off for HTTP/1.1, or \
             for what TLS agrees on by ALPN"
        }
    };
    Error::new(ErrorKind::Unavailable, format!("{what}: {hint}"))
        .with_source(error)
        .with_nothing_sent()
}
