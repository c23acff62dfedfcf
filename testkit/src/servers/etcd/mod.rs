//! One etcd server; a member of a cluster is one too.

mod addresses;
mod builder;
mod cluster;
mod ctl;
mod http;
mod launch;
mod version;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use self::addresses::Addresses;
pub use self::builder::EtcdBuilder;
pub use self::cluster::EtcdCluster;
use self::launch::Launch;
pub use self::version::EtcdVersion;
use super::folder::Folder;
use super::process::Process;
use super::tls::Tls;
use crate::{HeldAddress, eventually};

/// A real etcd of one member, or one member of an [`EtcdCluster`].
///
/// All methods take `&self`, so that one task can kill the server while others are using it.
///
/// # Panics
///
/// The methods panic when what they say does not happen before a deadline, and dropping the handle
/// during a panic keeps the server's log and prints its end.
// The order of the fields matters: the process has to end before its folder is removed.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    launch: Mutex<Launch>,
    name: String,
    addresses: Addresses,
    /// Held as long as the server may be started there.
    _held: [HeldAddress; 3],
    tls: Option<Tls>,
    etcdctl: PathBuf,
    folder: Folder,
}

impl Etcd {
    /// The URL for clients: `https` with TLS, `http` without.
    pub fn client_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addresses.client)
    }

    /// The address for clients, `host:port`.
    pub fn endpoint(&self) -> String {
        self.addresses.client.to_string()
    }

    /// The address for clients.
    pub fn addr(&self) -> SocketAddr {
        self.addresses.client
    }

    /// The certificates for clients.
    ///
    /// # Panics
    ///
    /// If the server was built without [`with_tls`](EtcdBuilder::with_tls).
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("this etcd was built without TLS")
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.launch().data_dir.clone()
    }

    /// The file with what the server printed, from its first start on.
    pub fn log(&self) -> PathBuf {
        self.folder.log()
    }

    /// Whether the process is there; a paused one is.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Ends the process politely (SIGTERM): clients see their connections closed.
    pub async fn stop(&self) {
        self.process.stop().await;
    }

    /// Ends the process at once (SIGKILL).
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// Freezes the process (SIGSTOP): connections stay open and can even be made, for the kernel
    /// accepts them, but nothing answers. Returns when every thread has stopped.
    pub async fn pause(&self) {
        self.process.pause().await;
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Starts the server after it ended, on the same ports and data, and waits until it answers.
    ///
    /// A cluster's member answers only if most members run: after stopping too many, use
    /// [`spawn_again`](Self::spawn_again).
    pub async fn start_again(&self) {
        self.spawn_again();
        self.ready().await;
    }

    /// Like [`start_again`](Self::start_again), without the wait.
    pub fn spawn_again(&self) {
        let mut command = self.launch().command(&self.name, &self.addresses, self.tls.as_ref());
        self.process.start(&mut command, &self.folder);
    }

    /// Kills the process and deletes its data; it does not start it again.
    ///
    /// A single server then begins anew, with revision 1 and the same cluster id. A member of a
    /// cluster cannot: it has forgotten what it voted, so the others have to remove and add it.
    pub async fn wipe(&self) {
        self.kill().await;
        let data_dir = self.data_dir();
        if let Err(error) = std::fs::remove_dir_all(&data_dir) {
            let gone = error.kind() == std::io::ErrorKind::NotFound;
            assert!(gone, "cannot remove {}: {error}", data_dir.display());
        }
    }

    /// Like [`wipe`](Self::wipe), and the next start makes a cluster with another id: what clients
    /// see when an operator builds a new etcd in the old one's place.
    pub async fn wipe_as_new_cluster(&self) {
        self.wipe().await;
        self.launch().generation += 1;
    }

    /// The version that the next [`start_again`](Self::start_again) uses, on the same data: for
    /// upgrades.
    ///
    /// # Panics
    ///
    /// If there is no program of that version.
    pub fn use_version(&self, version: EtcdVersion) {
        self.launch().program = super::binary::demand(version.server());
    }

    /// Waits until the server answers, which in a cluster needs a leader.
    pub async fn ready(&self) {
        assert!(self.comes_up().await, "somebody listens at an address of {}", self.name);
    }

    /// As [`ready`](Self::ready); false if somebody else listens at one of its addresses.
    async fn comes_up(&self) -> bool {
        eventually(&format!("{} is healthy", self.name), START_DEADLINE, || async {
            if !self.is_running() {
                let in_use = self.folder.says_address_in_use();
                assert!(in_use, "{} ended while it was starting", self.name);
                return Some(false);
            }
            http::get(self.addresses.metrics, "/health").await.is_ok().then_some(true)
        })
        .await
    }

    fn launch(&self) -> std::sync::MutexGuard<'_, Launch> {
        self.launch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It takes 0.1-0.5 s; this is for a machine that does ten other things.
const START_DEADLINE: Duration = Duration::from_secs(20);
