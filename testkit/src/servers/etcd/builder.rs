//! Options of an etcd, or of each member of a cluster.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::binary::{Server, demand, require};
use super::super::folder::Folder;
use super::super::process::Process;
use super::super::tls::{Authority, Tls};
use super::{Addresses, Etcd, EtcdCluster, EtcdVersion, Launch};
use crate::HeldAddress;

impl Etcd {
    /// Starts an etcd of one member and waits until it answers.
    ///
    /// # Panics
    ///
    /// If there is no etcd; see [`start_or_skip`](Self::start_or_skip).
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Like [`start`](Self::start), or `None` where there is no etcd and it is not CI.
    ///
    /// ```no_run
    /// # use fleetward_testkit::servers::Etcd;
    /// # async fn test() {
    /// let Some(etcd) = Etcd::start_or_skip().await else { return };
    /// # }
    /// ```
    pub async fn start_or_skip() -> Option<Self> {
        Self::builder().start_or_skip().await
    }

    /// Another version, TLS, more members, arguments.
    pub fn builder() -> EtcdBuilder {
        EtcdBuilder::default()
    }
}

/// Builds an [`Etcd`] or an [`EtcdCluster`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EtcdBuilder {
    version: EtcdVersion,
    args: Vec<String>,
    jwt: Option<Duration>,
    authority: Option<Arc<Authority>>,
    data_dir: Option<PathBuf>,
}

impl EtcdBuilder {
    /// The version; 3.5 by default.
    pub fn with_version(mut self, version: EtcdVersion) -> Self {
        self.version = version;
        self
    }

    /// More arguments for etcd; they win over those that the test kit gives.
    pub fn with_args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// How long an authentication token is good for (whole seconds, at least one).
    pub fn with_auth_token_ttl(self, ttl: Duration) -> Self {
        self.with_args(["--auth-token-ttl".to_owned(), ttl.as_secs().max(1).to_string()])
    }

    /// Authentication tokens are JWTs, good for so long (whole seconds, at least one), instead of
    /// etcd's simple ones. All servers sign them with the same secret.
    pub fn with_jwt(mut self, ttl: Duration) -> Self {
        self.jwt = Some(ttl);
        self
    }

    /// TLS for clients, which have to show a certificate too; [`Etcd::tls`] has the files.
    pub fn with_tls(self) -> Self {
        self.with_authority(Arc::new(Authority::new()))
    }

    /// Like [`with_tls`](Self::with_tls), with certificates of this authority: for several servers
    /// that trust the same clients.
    pub fn with_authority(mut self, authority: Arc<Authority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// A data folder of the test's own, which outlives the server. Each member of a cluster has a
    /// folder in it.
    pub fn with_data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    /// Starts one server and waits until it answers.
    ///
    /// # Panics
    ///
    /// If etcd or etcdctl is missing, or the server is not ready within its deadline.
    pub async fn start(self) -> Etcd {
        self.start_at(Addresses::claim).await
    }

    /// With other addresses if the server finds that one of them is taken.
    async fn start_at(&self, mut claim: impl FnMut() -> (Addresses, [HeldAddress; 3])) -> Etcd {
        for _ in 0..STARTS {
            let (addresses, held) = claim();
            let members = format!("etcd=http://{}", addresses.peer);
            let etcd = self.member("etcd", addresses, held, members);
            etcd.spawn_again();
            if etcd.comes_up().await {
                return etcd;
            }
        }
        panic!("somebody takes every address that an etcd was given");
    }

    /// Like [`start`](Self::start); `None` if a program is [missing](super::super::require).
    pub async fn start_or_skip(self) -> Option<Etcd> {
        self.require()?;
        Some(self.start().await)
    }

    /// Starts a cluster of `size` members and waits until all of them answer.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does, and if `size` is 0.
    pub async fn start_cluster(self, size: usize) -> EtcdCluster {
        assert!(size > 0, "a cluster has at least one member");
        for _ in 0..STARTS {
            let members = self.members(size);
            // None is healthy before most are there, so all are started before the first wait.
            members.iter().for_each(Etcd::spawn_again);
            if up(&members).await {
                return EtcdCluster::new(members);
            }
        }
        panic!("somebody takes every address that an etcd was given");
    }

    /// Like [`start_cluster`](Self::start_cluster); `None` if a program is missing.
    pub async fn start_cluster_or_skip(self, size: usize) -> Option<EtcdCluster> {
        self.require()?;
        Some(self.start_cluster(size).await)
    }

    /// Starts a member that learns from this server's cluster: it has no vote, and answers nothing
    /// but stale reads. Waits until it runs.
    ///
    /// # Panics
    ///
    /// If the cluster does not take it, or it is not ready within its deadline.
    pub async fn start_learner(self, of: &Etcd) -> Etcd {
        let (at, held) = Addresses::claim();
        let peer = format!("http://{}", at.peer);
        of.etcdctl(&["member", "add", "learner", "--learner", "--peer-urls", &peer]).await;
        let members = format!("{},learner={peer}", of.launch().members);
        let builder = self.with_args(["--initial-cluster-state", "existing"]);
        let learner = builder.member("learner", at, held, members);
        learner.spawn_again();
        assert!(learner.comes_up().await, "somebody took an address of the learner");
        learner
    }

    fn require(&self) -> Option<()> {
        require(self.version.server())?;
        require(Server::Etcdctl)?;
        Some(())
    }

    fn members(&self, size: usize) -> Vec<Etcd> {
        let names = (0..size).map(|index| format!("etcd{index}"));
        let places: Vec<_> = names.map(|name| (name, Addresses::claim())).collect();
        let peers: Vec<_> =
            places.iter().map(|(name, (at, _))| format!("{name}=http://{}", at.peer)).collect();
        let peers = peers.join(",");
        let member = |(name, (at, held)): (String, _)| self.member(&name, at, held, peers.clone());
        places.into_iter().map(member).collect()
    }

    /// A server that is not started yet; `members` are all of its cluster.
    fn member(
        &self,
        name: &str,
        addresses: Addresses,
        held: [HeldAddress; 3],
        members: String,
    ) -> Etcd {
        let folder = Folder::new(name);
        let data_dir = self.data_dir.as_ref().map_or_else(|| folder.data(), |own| own.join(name));
        let program = demand(self.version.server());
        let mut args = self.args.clone();
        if let Some(ttl) = self.jwt {
            let secret = folder.write("jwt-secret", "a secret for tests");
            let (secret, ttl) = (secret.display(), ttl.as_secs().max(1));
            let options = format!("jwt,priv-key={secret},sign-method=HS256,ttl={ttl}s");
            args.extend(["--auth-token".to_owned(), options]);
        }
        Etcd {
            process: Process::default(),
            launch: Mutex::new(Launch { program, data_dir, members, generation: 0, args }),
            name: name.to_owned(),
            addresses,
            _held: held,
            tls: self.authority.clone().map(Tls::new),
            etcdctl: demand(Server::Etcdctl),
            folder,
        }
    }
}

/// Whether all of them come up.
async fn up(members: &[Etcd]) -> bool {
    for member in members {
        if !member.comes_up().await {
            return false;
        }
    }
    true
}

/// An address that is held is taken by those only who take it on purpose.
const STARTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_whose_address_is_taken_gets_another() {
        let builder = Etcd::builder();
        if builder.require().is_none() {
            return;
        }
        let mut thief = None;
        let etcd = builder
            .start_at(|| {
                let (addresses, held) = Addresses::claim();
                let steal = || std::net::TcpListener::bind(addresses.client);
                thief
                    .get_or_insert_with(|| steal().expect("a listener may come to a held address"));
                (addresses, held)
            })
            .await;
        let thief = thief.expect("it is called").local_addr().expect("it is bound");
        assert_ne!(etcd.addr(), thief);
        assert!(etcd.is_running());
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_server_that_is_down_keeps_its_addresses() {
        let Some(etcd) = Etcd::start_or_skip().await else { return };
        etcd.kill().await;
        // Where there was no connection: those that were keep a port busy for a while, too.
        let taken = HeldAddress::at(etcd.addresses.peer).expect_err("it is etcd's");
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        etcd.start_again().await;
    }
}
