//! The addresses of a member.

use std::net::SocketAddr;

use crate::address::HeldAddress;

/// Where the server listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Always plain HTTP, even with TLS for clients: health can be asked for without a TLS stack.
    pub(super) metrics: SocketAddr,
}

impl Addresses {
    pub(super) fn claim() -> (Self, [HeldAddress; 3]) {
        let held = crate::address::claim([2379, 2380, 2381]);
        let [client, peer, metrics] = held.each_ref().map(HeldAddress::addr);
        (Self { client, peer, metrics }, held)
    }
}
