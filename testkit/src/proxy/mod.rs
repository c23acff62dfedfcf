//! A TCP proxy that does what a bad network does.
//!
//! It stands in front of one address. What it does can be changed at any time and holds for the
//! connections that are open as well as for new ones:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use std::time::Duration;
//! use fleetward_testkit::proxy::FaultProxy;
//! use tokio::net::{TcpListener, TcpStream};
//!
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = FaultProxy::start(server.local_addr()?).await;
//! let client = TcpStream::connect(proxy.addr()).await?;
//!
//! proxy.set_latency(Duration::from_millis(50)); // each way
//! proxy.half_open(); // nothing comes through any more, and nobody is told
//! proxy.reset(); // RST
//! proxy.heal().await;
//! # Ok(())
//! # }
//! ```
//!
//! What it cannot do is drop single packets: to TCP that is latency.

mod connection;
mod listener;
mod network;
mod pump;

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::network::{Conditions, Connections, Fate, Network};
use crate::HeldAddress;

/// A proxy in front of one address. Dropping it ends its connections.
pub struct FaultProxy {
    target: SocketAddr,
    /// Held also while connections are refused.
    address: HeldAddress,
    network: Arc<Network>,
    accepting: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl FaultProxy {
    /// A proxy to `target`, on an address of its own. It begins as a perfect network.
    ///
    /// # Panics
    /// If no address is free.
    pub async fn start(target: SocketAddr) -> Self {
        let (conditions, _) = watch::channel(Conditions::default());
        let network = Arc::new(Network { conditions, connections: Mutex::default() });
        let address = HeldAddress::claim();
        let accepting = tokio::sync::Mutex::default();
        let proxy = Self { target, address, network, accepting };
        proxy.accept().await;
        proxy
    }

    /// Where to connect to instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.address.addr()
    }

    /// Where to connect to, as `host:port`.
    pub fn endpoint(&self) -> String {
        self.addr().to_string()
    }

    /// Delays all bytes, each way, by so much. They keep their distance and order.
    pub fn set_latency(&self, latency: Duration) {
        self.network.conditions.send_modify(|conditions| conditions.latency = latency);
    }

    /// Lets at most so many bytes a second through each way of each connection; 0 for any number.
    pub fn set_bandwidth(&self, bytes_per_second: u64) {
        let bandwidth = NonZeroU64::new(bytes_per_second);
        self.network.conditions.send_modify(|conditions| conditions.bandwidth = bandwidth);
    }

    /// Forwards at most so many bytes at a time, so that a reader sees its messages in pieces; 0
    /// for as they come.
    pub fn set_slices(&self, bytes: usize) {
        let slices = NonZeroUsize::new(bytes);
        self.network.conditions.send_modify(|conditions| conditions.slices = slices);
    }

    /// Closes every connection, on both sides.
    pub fn cut(&self) {
        self.doom(Fate::Cut);
    }

    /// Resets every connection, on both sides (RST).
    pub fn reset(&self) {
        self.doom(Fate::Reset);
    }

    /// Silently drops whatever comes on the connections that are open now, for good; they stay
    /// open, and nobody is told, not even of the other side's end. New connections work.
    pub fn half_open(&self) {
        self.doom(Fate::Silent);
    }

    /// As [`half_open`](Self::half_open), and new connections are like that too, until
    /// [`heal`](Self::heal): they can be made, but nothing comes through.
    pub fn swallow(&self) {
        self.connections().swallowing = true;
        self.half_open();
    }

    /// Closes the listener and keeps the address: new connections are refused. Open ones stay; see
    /// [`cut`](Self::cut).
    pub async fn refuse(&self) {
        if let Some(accepting) = self.accepting.lock().await.take() {
            accepting.abort();
            // Its end closes the socket.
            let _aborted = accepting.await;
        }
    }

    /// Takes new connections again after [`refuse`](Self::refuse).
    ///
    /// # Panics
    /// If the system does not let it, as where somebody took the address: not on Linux, where it is
    /// held.
    pub async fn accept(&self) {
        let mut accepting = self.accepting.lock().await;
        if accepting.is_none() {
            let listener = self.address.listen().await;
            let listener = listener.unwrap_or_else(|error| {
                panic!("the proxy cannot listen on {}: {error}", self.addr())
            });
            let (target, network) = (self.target, self.network.clone());
            *accepting = Some(tokio::spawn(listener::accept(listener, target, network)));
        }
    }

    /// A perfect network again. Connections that are [half open](Self::half_open) stay so, as those
    /// that a firewall forgot: their bytes are lost.
    pub async fn heal(&self) {
        self.network.conditions.send_replace(Conditions::default());
        self.connections().swallowing = false;
        self.accept().await;
    }

    /// How many connections the clients hold open, half open ones included. One that its client has
    /// ended is not counted, though its server may hold it longer: Consul answers a query first.
    pub fn open_connections(&self) -> usize {
        self.connections().open.values().filter(|connection| !connection.left).count()
    }

    /// How many connections were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.connections().accepted
    }

    fn doom(&self, fate: Fate) {
        for connection in self.connections().open.values() {
            connection.fate.send_if_modified(|current| {
                // Its end may be decided, but not carried out yet.
                let open = matches!(current, Fate::Alive | Fate::Silent);
                if open {
                    *current = fate;
                }
                open
            });
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.network.connections()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.get_mut() {
            accepting.abort();
        }
        self.cut();
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.addr())
            .field("target", &self.target)
            .field("conditions", &*self.network.conditions.borrow())
            .field("open", &self.open_connections())
            .finish_non_exhaustive()
    }
}
