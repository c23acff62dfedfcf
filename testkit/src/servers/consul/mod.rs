//! One Consul agent that is a server too; a member of a cluster is one as well.

mod addresses;
mod builder;
mod cluster;
mod http;
mod launch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use self::addresses::Addresses;
pub use self::builder::ConsulBuilder;
pub use self::cluster::ConsulCluster;
use self::launch::{Launch, Mode, ROOT_TOKEN};
use super::folder::Folder;
use super::process::Process;
use super::tls::Tls;
use crate::{HeldAddress, eventually};

/// A real Consul: an agent that is its own server, or a server of a [`ConsulCluster`].
///
/// All methods take `&self`, so that one task can kill the agent while others are using it.
///
/// # Panics
///
/// The methods panic when what they say does not happen before a deadline, and dropping the handle
/// during a panic keeps the agent's log and prints its end.
// The order of the fields matters: the process has to end before its folder is removed.
#[derive(Debug)]
pub struct Consul {
    process: Process,
    launch: Launch,
    name: String,
    addresses: Addresses,
    /// Held as long as the agent may be started there.
    _held: [HeldAddress; 4],
    tls: Option<Tls>,
    folder: Folder,
}

impl Consul {
    /// The address for clients, `host:port`, without TLS.
    pub fn endpoint(&self) -> String {
        self.addresses.http.to_string()
    }

    /// The address for clients, without TLS.
    pub fn addr(&self) -> SocketAddr {
        self.addresses.http
    }

    /// The address for clients with TLS, `host:port`.
    pub fn secure_endpoint(&self) -> String {
        self.addresses.https.to_string()
    }

    /// The certificates for clients.
    ///
    /// # Panics
    ///
    /// If it was built without [`with_tls`](ConsulBuilder::with_tls).
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("this Consul was built without TLS")
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.name
    }

    /// The token that may do everything, where access control is on.
    pub fn root_token(&self) -> &'static str {
        ROOT_TOKEN
    }

    /// The file with what the agent printed, from its first start on.
    pub fn log(&self) -> PathBuf {
        self.folder.log()
    }

    /// Sends a `PUT` to the agent's API, with the [root token](Self::root_token) where there is
    /// access control; returns the answer.
    pub async fn put(&self, path: &str, body: &str) -> String {
        self.succeeded(path, self.try_request("PUT", path, body).await)
    }

    /// Like [`put`](Self::put), a `GET`.
    pub async fn get(&self, path: &str) -> String {
        self.succeeded(path, self.try_request("GET", path, "").await)
    }

    /// Sends a request and returns the status and text of the answer.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub async fn try_request(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<(u16, String)> {
        let token = self.launch.acl.then_some(ROOT_TOKEN);
        http::request(self.addresses.http, method, path, token, body).await
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

    /// Starts the agent after it ended, at the same addresses, and waits until it answers. What was
    /// registered is there again if it was built [with data](ConsulBuilder::with_data), or is in a
    /// cluster.
    pub async fn start_again(&self) {
        self.spawn_again();
        self.ready().await;
    }

    /// Like [`start_again`](Self::start_again), without the wait.
    pub fn spawn_again(&self) {
        let mut command = self.launch.command(&self.name, &self.addresses, self.tls.as_ref());
        self.process.start(&mut command, &self.folder);
    }

    /// Kills the process and deletes its data; it does not start it again.
    pub async fn wipe(&self) {
        self.kill().await;
        let data_dir = &self.launch.data_dir;
        if let Err(error) = std::fs::remove_dir_all(data_dir) {
            let gone = error.kind() == io::ErrorKind::NotFound;
            assert!(gone, "cannot remove {}: {error}", data_dir.display());
        }
    }

    /// Waits until the agent's own `consul` service passes; a leader alone is not enough.
    pub async fn ready(&self) {
        assert!(self.comes_up().await, "somebody listens at an address of {}", self.name);
    }

    /// As [`ready`](Self::ready); false if somebody else listens at one of its addresses.
    async fn comes_up(&self) -> bool {
        eventually(&format!("{} is ready", self.name), START_DEADLINE, || async {
            if !self.is_running() {
                let in_use = self.folder.says_address_in_use();
                assert!(in_use, "{} ended while it was starting", self.name);
                return Some(false);
            }
            let path = "/v1/health/service/consul?passing=1&consistent";
            let answer = self.try_request("GET", path, "").await;
            let ready = answer.is_ok_and(|(status, text)| {
                // Printed prettily in -dev mode.
                let text = text.replace("\": \"", "\":\"");
                status == 200 && text.contains(&format!("\"Node\":\"{}\"", self.name))
            });
            ready.then_some(true)
        })
        .await
    }

    fn succeeded(&self, path: &str, answer: io::Result<(u16, String)>) -> String {
        match answer {
            Ok((200, text)) => text,
            other => panic!("{}: {path}: {other:?}", self.name),
        }
    }
}

/// It takes 0.2-3 s; this is for a machine that does ten other things.
const START_DEADLINE: Duration = Duration::from_secs(30);
