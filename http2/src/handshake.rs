//! The beginning of a connection.

use std::fmt;

use h2::client::Builder;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Config;
use crate::driver::{Closing, Driver, DriverTask};
use crate::error::Lost;
use crate::preface::{Preface, Spoken};
use crate::sender::Sender;

/// The number of calls dropped within the last second that a connection remembers (h2: 50). What a server still sends
/// for one of these is ignored. For one that is forgotten it counts as the server's error, and the 1,024th such error
/// ends the connection, with every call on it.
const REMEMBERED_RESETS: usize = 10_000;

/// The bytes of a request that comes in over time and waits for the socket.
const SEND_BUFFER: usize = 1024 * 1024;

/// The number of streams opened before the server has said how many it takes. RFC 9113, 6.5.2 has it take at least so
/// many.
const FIRST_STREAMS: usize = 100;

/// The bytes of headers that are taken from a server.
const HEADER_LIST_SIZE: u32 = 16 * 1024;

/// A connection that the server has confirmed by its SETTINGS.
#[derive(Debug)]
#[non_exhaustive]
pub struct Established {
    /// Opens streams.
    pub sender: Sender,
    /// Resolves when the connection takes no more requests.
    pub closing: Closing,
    /// The task that owns the socket.
    pub task: DriverTask,
}

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server answered, but not in HTTP/2.
    WrongProtocol(Spoken),
    /// The server closed the connection before it answered.
    ClosedEarly(Option<Lost>),
    /// The server broke the protocol, or the socket failed.
    Failed(Lost),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongProtocol(Spoken::Http1) => {
                f.write_str("the server speaks HTTP/1 and not HTTP/2")
            }
            Self::WrongProtocol(Spoken::Tls) => f.write_str("the server speaks TLS"),
            Self::WrongProtocol(_) => f.write_str("the server does not speak HTTP/2"),
            Self::ClosedEarly(_) => {
                f.write_str("the server closed the connection before it answered")
            }
            Self::Failed(_) => f.write_str("the HTTP/2 handshake failed"),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::WrongProtocol(_) => None,
            Self::ClosedEarly(lost) => lost.as_ref().map(|lost| lost as _),
            Self::Failed(lost) => Some(lost),
        }
    }
}

/// Begins a connection on a socket. Returns when the server's SETTINGS have come: a server that only accepts TCP
/// connections does not count as connected. Call it within a timeout of yours; dropping the future closes the socket.
///
/// # Errors
/// [`HandshakeError`], if the other side does not speak HTTP/2 or hangs up.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn handshake<T>(io: T, config: &Config) -> Result<Established, HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, mut confirmed) = Preface::watch(io);
    let (requests, connection) = builder(config)
        .handshake(io)
        .await
        .map_err(|error| HandshakeError::Failed(Lost::Http2(error)))?;
    let (mut driver, sender, mut closing) = Driver::new(requests, connection, config);
    let confirmed = tokio::select! {
        confirmed = &mut confirmed => confirmed.ok(),
        // Bytes that are no HTTP/2 say more than the error they lead to.
        () = &mut driver => confirmed.try_recv().ok().filter(|spoken| *spoken != Spoken::Http2),
    };
    match confirmed {
        // The task begins here and not before: giving up at any await above closes the socket.
        Some(Spoken::Http2) => Ok(Established { sender, closing, task: DriverTask::spawn(driver) }),
        Some(spoken) => Err(HandshakeError::WrongProtocol(spoken)),
        None => Err(match closing.try_recv() {
            Some(Err(lost)) if !lost.is_io() => HandshakeError::Failed(lost),
            ended => HandshakeError::ClosedEarly(ended.and_then(Result::err)),
        }),
    }
}

fn builder(config: &Config) -> Builder {
    let (stream, connection) = config.windows();
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_window_size(stream)
        .initial_connection_window_size(connection)
        .max_frame_size(config.max_frame_size)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS);
    builder
}
