//! Where a probe connects to.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use fleetward_core::model::Host;
use fleetward_core::{Address, Error, ErrorKind, Instance};
use tokio::net::TcpStream;

/// The instance's host, and its own port or another one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    pub(crate) port: Option<NonZeroU16>,
}

impl Target {
    pub(crate) fn with_port(port: u16) -> Result<Self, Error> {
        let port =
            NonZeroU16::new(port).ok_or_else(|| Error::invalid_input("there is no port 0"))?;
        Ok(Self { port: Some(port) })
    }

    /// As it stands in a URL.
    pub(crate) fn authority(self, instance: &Instance) -> String {
        match instance.address().host() {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port(instance)).to_string(),
            Host::Name(name) => format!("{name}:{}", self.port(instance)),
        }
    }

    /// A connection to the first address that takes one. Its caller bounds the time.
    pub(crate) async fn connect(self, instance: &Instance) -> Result<TcpStream, Error> {
        let mut last = None;
        for address in self.resolve(instance).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // A probe goes out at once, or a little later where that is refused.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) => unavailable("the TCP connection failed", error),
            None => {
                Error::new(ErrorKind::Unavailable, "the name has no address that may be dialled")
            }
        }
        .with_context("address", self.authority(instance)))
    }

    /// All addresses of the host, those left out that no registry may point at.
    async fn resolve(self, instance: &Instance) -> Result<Vec<SocketAddr>, Error> {
        let port = self.port(instance);
        let name = match instance.address().host() {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
            Host::Name(name) => name,
        };
        let found =
            tokio::net::lookup_host((&**name, port)).await.map_err(|error: io::Error| {
                unavailable("the name lookup failed", error).with_context("name", name)
            })?;
        Ok(found.filter(|address| Address::try_from(*address).is_ok()).collect())
    }

    fn port(self, instance: &Instance) -> u16 {
        self.port.map_or_else(|| instance.address().port(), NonZeroU16::get)
    }
}

/// An error with its causes in one line.
pub(crate) fn unavailable(
    what: impl fmt::Display,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    Error::new(ErrorKind::Unavailable, text).with_source(error)
}
