//! What does it say of itself?

use std::ops::RangeInclusive;
use std::pin::pin;

use async_trait::async_trait;
use bytes::Bytes;
use fleetward_core::health::Probe;
use fleetward_core::{Error, ErrorKind, Instance};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::target::{Target, unavailable};

/// An instance is well when it answers `GET` on a path with a status between 200 and 299.
///
/// Plain HTTP/1.1, on a connection of its own for each probe; see the crate's page for the limits.
///
/// ```
/// use fleetward_core::health::Probing;
/// use fleetward_health::HttpProbe;
/// let probe = HttpProbe::new("/healthz?deep=1")?
///     .with_port(9090)?
///     .with_host("greeter.internal")?
///     .with_status(200..=399)?;
/// let check = Probing::new(probe);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpProbe {
    path: PathAndQuery,
    target: Target,
    host: Option<HeaderValue>,
    good: RangeInclusive<u16>,
}

impl HttpProbe {
    /// Asks for `path`, which begins with `/` and may have a query.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is none.
    pub fn new(path: &str) -> Result<Self, Error> {
        let parsed = path.parse().ok().filter(|_| path.starts_with('/'));
        let path = parsed.ok_or_else(|| {
            Error::invalid_input("a path begins with / and has no spaces")
                .with_context("path", path)
        })?;
        Ok(Self { path, target: Target::default(), host: None, good: 200..=299 })
    }

    /// Asks on another port of the instance's host.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for port 0.
    pub fn with_port(mut self, port: u16) -> Result<Self, Error> {
        self.target = Target::with_port(port)?;
        Ok(self)
    }

    /// Sets the `Host` header (default: the address that is asked, with its port).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no `host` or `host:port`.
    pub fn with_host(mut self, host: &str) -> Result<Self, Error> {
        let parsed = host.parse::<Authority>().ok().filter(|host| !host.as_str().contains('@'));
        let header = parsed.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        self.host = Some(header.ok_or_else(|| {
            Error::invalid_input("a host is name or name:port").with_context("host", host)
        })?);
        Ok(self)
    }

    /// Sets the statuses that count as well (default 200 to 299).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is empty, or not within 200 to 599.
    pub fn with_status(mut self, good: RangeInclusive<u16>) -> Result<Self, Error> {
        if good.is_empty() || *good.start() < 200 || *good.end() > 599 {
            return Err(Error::invalid_input("statuses lie between 200 and 599")
                .with_context("status", format!("{good:?}")));
        }
        self.good = good;
        Ok(self)
    }

    async fn ask(&self, instance: &Instance, authority: &str) -> Result<StatusCode, Error> {
        if instance.address().scheme() == Some("https") && self.target.port.is_none() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the instance speaks https; give the probe a port that speaks plain HTTP",
            ));
        }
        let host = match &self.host {
            Some(host) => host.clone(),
            // An address is made of what may stand in a header.
            None => HeaderValue::from_str(authority)
                .map_err(|error| Error::invalid_data("no host").with_source(error))?,
        };
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));

        let stream = self.target.connect(instance).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unavailable("the connection failed", error))?;
        let mut answer = pin!(sender.send_request(request));
        // Both in this task: dropping the probe closes the socket.
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // It may have ended with the answer's last byte.
            _ = connection => answer.await,
        };
        Ok(answer.map_err(|error| unavailable("no answer", error))?.status())
    }
}

#[async_trait]
impl<S: Sync + 'static> Probe<S> for HttpProbe {
    async fn probe(&self, instance: &Instance, _: &S) -> Result<(), Error> {
        let authority = self.target.authority(instance);
        let status = self.ask(instance, &authority).await;
        let result = status.and_then(|status| match self.good.contains(&status.as_u16()) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, format!("it answered {status}"))),
        });
        result.map_err(|error| {
            error.with_context("url", format_args!("http://{authority}{}", self.path))
        })
    }
}

const USER_AGENT: &str = concat!("fleetward-health/", env!("CARGO_PKG_VERSION"));
/// How long an answer's head may be, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
