//! Addresses that no other test uses.
//!
//! "Bind port 0, close it, give the number to the server" is a race: in between another process may
//! get the port. And a port from the ephemeral range has a stranger trap, for a client that
//! reconnects to it in a loop while the server is down can be given that very port as its source,
//! and so connect to itself. All of 127.0.0.0/8 is loopback on Linux, so each server gets an
//! address of its own there, with the default ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Claims an address on which all of `ports` are free; the answer is in the order of `ports`.
pub(crate) fn claim<const N: usize>(ports: [u16; N]) -> [SocketAddr; N] {
    (0..ATTEMPTS)
        .find_map(|_| {
            let ip = next_address();
            free(ports.map(|port| SocketAddr::new(ip, port)))
        })
        // Not Linux: 127.0.0.1 is the only loopback address, so the ports have to differ.
        .or_else(|| free([SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0); N]))
        .expect("there is no free loopback address")
}

/// The addresses with their final ports, if all can be bound at the same time.
fn free<const N: usize>(wanted: [SocketAddr; N]) -> Option<[SocketAddr; N]> {
    let listeners: Vec<_> = wanted.iter().map(TcpListener::bind).collect::<Result<_, _>>().ok()?;
    let bound: Vec<_> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().ok()?;
    bound.try_into().ok()
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
const ATTEMPTS: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_address_is_given_twice() {
        let all: HashSet<_> = (0..100_000).map(|_| next_address()).collect();
        assert_eq!(all.len(), 100_000);
    }
}
