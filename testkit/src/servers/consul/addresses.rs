//! The addresses of an agent.

use std::net::SocketAddr;

use crate::address::HeldAddress;

/// Where the agent listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// Always open: a test can look at an agent without a TLS stack.
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) gossip: SocketAddr,
}

impl Addresses {
    pub(super) fn claim() -> (Self, [HeldAddress; 4]) {
        let held = crate::address::claim([8500, 8501, 8300, 8301]);
        let [http, https, server, gossip] = held.each_ref().map(HeldAddress::addr);
        (Self { http, https, server, gossip }, held)
    }
}
