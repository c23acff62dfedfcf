//! Addresses that no other test uses.
//!
//! "Bind port 0, close it, give the number to the server" is a race: in between another process may
//! get the port. So an address is *held*: a socket is bound to it that never listens. Connections
//! are refused, nobody else is given the port, and whoever is meant to listen there still can,
//! again and again, for it says `SO_REUSEADDR` (as tokio's, std's and Go's listeners do).
//!
//! A held port is also spared a stranger trap: a client that reconnects in a loop to a port of the
//! ephemeral range can be given that very port as its source, and so connect to itself.
//!
//! All of 127.0.0.0/8 is loopback on Linux, so each server gets an address of its own there, with
//! the default ports.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpListener, TcpSocket};

/// An address that belongs to its holder: connections are refused there until it
/// [listens](Self::listen), and nobody else gets it, also not between one listener and the next.
///
/// Other systems than Linux let no second socket on an address. There it is free while nobody
/// listens.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use fleetward_testkit::HeldAddress;
/// use tokio::net::TcpStream;
///
/// let held = HeldAddress::claim();
/// assert!(TcpStream::connect(held.addr()).await.is_err());
/// let listener = held.listen().await?;
/// assert!(TcpStream::connect(held.addr()).await.is_ok());
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
pub struct HeldAddress {
    address: SocketAddr,
    socket: Option<TcpSocket>,
}

impl HeldAddress {
    /// An address on which nobody listens; on Linux one of 127.0.0.0/8, with a port below those that
    /// clients are given.
    ///
    /// # Panics
    /// If none is free.
    pub fn claim() -> Self {
        let [held] = claim([PORT]);
        held
    }

    /// Holds this address; port 0 for any that is free.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if somebody listens there or holds it.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // On Linux this says who may come after, and not who was there before: two cannot hold one
        // address.
        socket.set_reuseaddr(false)?;
        socket.bind(address)?;
        socket.set_reuseaddr(true)?;
        let address = socket.local_addr()?;
        Ok(Self { address, socket: cfg!(target_os = "linux").then_some(socket) })
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections, until the listener is dropped.
    ///
    /// # Errors
    /// If somebody listens there already.
    pub async fn listen(&self) -> io::Result<TcpListener> {
        TcpListener::bind(self.address).await
    }

    /// Holds it until the process ends.
    pub fn until_exit(self) -> SocketAddr {
        let address = self.address;
        std::mem::forget(self.socket);
        address
    }
}

impl fmt::Debug for HeldAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeldAddress").field(&self.address).finish()
    }
}

/// Claims an address on which all of `ports` are free; the answer is in the order of `ports`.
pub(crate) fn claim<const N: usize>(ports: [u16; N]) -> [HeldAddress; N] {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    (0..ATTEMPTS)
        .find_map(|attempt| {
            let ip = next_address();
            // Somebody listens on one of the ports at every address, perhaps.
            let port = |port| if attempt < ATTEMPTS / 2 { port } else { other(port, attempt) };
            hold(ports.map(|wanted| SocketAddr::new(ip, port(wanted))))
        })
        // Not Linux: 127.0.0.1 is the only loopback address.
        .or_else(|| hold([SocketAddr::new(loopback, 0); N]))
        .expect("there is no free loopback address")
}

/// The addresses with their final ports, if all can be held at the same time.
fn hold<const N: usize>(wanted: [SocketAddr; N]) -> Option<[HeldAddress; N]> {
    let held: Vec<_> = wanted.into_iter().map(HeldAddress::at).collect::<Result<_, _>>().ok()?;
    held.try_into().ok()
}
/// Another port instead, below those that clients are given.
fn other(port: u16, attempt: u16) -> u16 {
    10_000 + port.wrapping_mul(31).wrapping_add(attempt.wrapping_mul(997)) % 20_000
}

/// A loopback address: the process id says where to begin, which keeps test binaries apart, and a
/// counter goes on from there, so that no two servers of one binary ever get the same.
fn next_address() -> IpAddr {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    // Multiplying by the golden ratio puts neighbouring process ids far from each other.
    let begin = std::process::id().wrapping_mul(0x9E37_79B1) % ADDRESSES;
    let number = (begin + COUNTER.fetch_add(1, Ordering::Relaxed) % ADDRESSES) % ADDRESSES;
    let [_, a, b, c] = (number / 254 * 256 + number % 254).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, a + 1, b, c + 1))
}

/// 127.1.0.1 to 127.254.255.254, without a last number of 0 or 255. 127.0.x.x is left to others:
/// 127.0.0.53 is a resolver.
const ADDRESSES: u32 = 254 * 256 * 254;

/// Each attempt is one `bind`.
const ATTEMPTS: u16 = 64;

/// Where a single address is claimed.
const PORT: u16 = 9_999;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_held_can_be_held_by_nobody_else() {
        let held = HeldAddress::claim();
        if cfg!(target_os = "linux") {
            let error = HeldAddress::at(held.addr()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        let address = held.addr();
        drop(held);
        assert_eq!(HeldAddress::at(address).unwrap().addr(), address);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_everywhere_is_replaced() {
        let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let [one, two] = claim([port, PORT]);
        assert_ne!(one.addr().port(), port);
        assert_eq!(one.addr().ip(), two.addr().ip());
        for held in [one, two] {
            assert!(held.addr().ip().is_loopback());
            drop(held.listen().await.unwrap());
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn nobody_gets_a_held_port_between_two_listeners() {
        let held = HeldAddress::at("127.0.0.1:0".parse().unwrap()).unwrap();
        for _ in 0..10 {
            drop(held.listen().await.unwrap());
            let taken = HeldAddress::at(held.addr()).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            let refused = tokio::net::TcpStream::connect(held.addr()).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn no_address_is_given_twice() {
        let all: HashSet<_> = (0..100_000).map(|_| next_address()).collect();
        assert_eq!(all.len(), 100_000);
    }
}
