//! One try to connect.

use std::net::SocketAddr;

use fleetward_core::model::Host;
use fleetward_core::{Address, Error, ErrorKind};
use fleetward_http2::{Established, HandshakeError, Lost, Spoken};
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::ConnectionConfig;
use super::error::unavailable;

/// Makes connections, a limited number at once.
pub(super) struct Dialer {
    pub(super) config: ConnectionConfig,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::ClientTls>,
    permits: Semaphore,
}

impl Dialer {
    pub(super) fn new(config: ConnectionConfig) -> Self {
        Self {
            permits: Semaphore::new(config.max_dials.min(Semaphore::MAX_PERMITS)),
            config,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Whether instances are talked to in TLS: by configuration alone, never by what a registry
    /// says.
    pub(super) fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Waits for its turn, then connects within the connect timeout. Dropping the future leaves
    /// nothing behind.
    pub(super) async fn dial(&self, address: &Address) -> Result<Established, Error> {
        // The semaphore is never closed.
        let _turn = self.permits.acquire().await.ok();
        let until = Instant::now() + self.config.connect_timeout;
        let established = match timeout_at(until, self.connect(address, until)).await {
            Ok(established) => established,
            Err(_) => Err(Error::timeout(format!(
                "no HTTP/2 connection within {:?}",
                self.config.connect_timeout
            ))),
        };
        established
            .map_err(|error| error.with_operation("connect").with_context("address", address))
    }

    async fn connect(&self, address: &Address, until: Instant) -> Result<Established, Error> {
        let tcp = self.connect_tcp(address, until).await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return self.handshake(tls.connect(address, tcp).await?).await;
        }
        self.handshake(tcp).await
    }

    /// Tries the addresses in turn, each with its share of the time that is left.
    async fn connect_tcp(&self, address: &Address, until: Instant) -> Result<TcpStream, Error> {
        let addresses = resolve(address).await?;
        let mut last = None;
        for (i, address) in addresses.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
            last = Some(match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.prepared(stream),
                Ok(Err(error)) => unavailable("the TCP connection failed", error),
                Err(_) => Error::timeout("no TCP connection in time"),
            });
        }
        Err(last.unwrap_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the name has no address that may be dialled")
        }))
    }

    fn prepared(&self, stream: TcpStream) -> Result<TcpStream, Error> {
        let set = || {
            stream.set_nodelay(self.config.tcp_nodelay)?;
            let socket = socket2::SockRef::from(&stream);
            if let Some(idle) = self.config.tcp_keepalive {
                let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle);
                socket.set_tcp_keepalive(&keepalive)?;
            }
            #[cfg(target_os = "linux")]
            if let Some(timeout) = self.config.tcp_user_timeout {
                socket.set_tcp_user_timeout(Some(timeout))?;
            }
            Ok(())
        };
        set().map_err(|error: std::io::Error| unavailable("a socket option failed", error))?;
        Ok(stream)
    }

    async fn handshake<T>(&self, io: T) -> Result<Established, Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        fleetward_http2::handshake(io, &self.config.http2).await.map_err(|error| match error {
            HandshakeError::WrongProtocol(spoken) => self.wrong_protocol(spoken),
            HandshakeError::ClosedEarly(lost) => self.closed_early(lost),
            HandshakeError::Failed(lost) => unavailable("the HTTP/2 handshake failed", lost),
            error => unavailable("there is no HTTP/2 connection", error),
        })
    }

    /// The server answered, and not as a server of HTTP/2 does.
    fn wrong_protocol(&self, spoken: Spoken) -> Error {
        let message = match (spoken, self.is_tls()) {
            (Spoken::Tls, false) => {
                "the server speaks TLS, and this channel plain text: give the channel its TLS \
                 settings (`tls`), or take the server's plain port"
            }
            (Spoken::Http1, false) => {
                "the server does not speak HTTP/2, but HTTP/1, as a port that is not gRPC's, or one \
                 for TLS, does: is it the instance's gRPC port?"
            }
            (Spoken::Http1, true) => {
                "the server does not speak HTTP/2, but HTTP/1: is it the instance's gRPC port?"
            }
            _ => "the server does not speak HTTP/2: is it the instance's gRPC port?",
        };
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Servers of TLS and of HTTP/1 do so when they see HTTP/2's preface.
    fn closed_early(&self, error: Option<Lost>) -> Error {
        let message = match self.is_tls() {
            true => "the server closed the connection before it answered: does it speak HTTP/2?",
            false => {
                "the server closed the connection before it answered: does it want TLS, or speak \
                 HTTP/1 only?"
            }
        };
        match error {
            Some(error) => unavailable(message, error),
            None => Error::new(ErrorKind::Unavailable, message),
        }
    }
}

/// All addresses of a host, those left out that no registry may point at (link-local and the like).
async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, Error> {
    let name = match address.host() {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, address.port())]),
        Host::Name(name) => name,
    };
    let found = tokio::net::lookup_host((&**name, address.port()))
        .await
        .map_err(|error| unavailable("the name lookup failed", error))?;
    Ok(found.filter(|address| Address::try_from(*address).is_ok()).collect())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    async fn dialled(config: ConnectionConfig) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::try_from(listener.local_addr().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        Dialer::new(config).connect_tcp(&address, until).await.unwrap()
    }

    #[tokio::test]
    async fn a_host_that_went_dark_is_noticed_by_default_and_small_frames_are_not_held_back() {
        let stream = dialled(ConnectionConfig::default()).await;
        assert!(stream.nodelay().unwrap());
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(10)));
    }

    #[tokio::test]
    async fn it_is_as_quick_as_it_is_told_to_be() {
        let config = ConnectionConfig::default()
            .with_tcp_keepalive(Duration::from_secs(7))
            .with_tcp_user_timeout(Duration::from_millis(2500));
        let stream = dialled(config).await;
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(2500)));

        let config =
            ConnectionConfig::default().with_tcp_keepalive(None).with_tcp_user_timeout(None);
        let stream = dialled(config).await;
        let socket = socket2::SockRef::from(&stream);
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
}
