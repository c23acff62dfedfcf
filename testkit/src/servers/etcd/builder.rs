//! Options of an etcd, or of each member of a cluster.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::binary::{Server, demand, require};
use super::super::folder::Folder;
use super::super::process::Process;
use super::super::tls::{Authority, Tls};
use super::{Addresses, Etcd, EtcdCluster, Launch};

/// Which etcd to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdVersion {
    /// The oldest that is tested.
    V3_4,
    /// The newest that is tested, or whatever `ETCD_BIN` names.
    #[default]
    V3_5,
}

impl EtcdVersion {
    pub(super) fn server(self) -> Server {
        match self {
            Self::V3_4 => Server::Etcd34,
            Self::V3_5 => Server::Etcd,
        }
    }
}

/// Builds an [`Etcd`] or an [`EtcdCluster`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EtcdBuilder {
    version: EtcdVersion,
    args: Vec<String>,
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
        let etcd = self.member("etcd", None);
        etcd.spawn_again();
        etcd.ready().await;
        etcd
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
        let names: Vec<_> = (0..size).map(|index| format!("etcd{index}")).collect();
        let addresses: Vec<_> = (0..size).map(|_| Addresses::claim()).collect();
        let peers: Vec<_> = names
            .iter()
            .zip(&addresses)
            .map(|(name, at)| format!("{name}=http://{}", at.peer))
            .collect();
        let peers = peers.join(",");
        let members: Vec<_> = names
            .iter()
            .zip(&addresses)
            .map(|(name, at)| self.member(name, Some((*at, peers.clone()))))
            .collect();
        // None is healthy before most are there, so all are started before the first wait.
        members.iter().for_each(Etcd::spawn_again);
        for member in &members {
            member.ready().await;
        }
        EtcdCluster::new(members)
    }

    /// Like [`start_cluster`](Self::start_cluster); `None` if a program is missing.
    pub async fn start_cluster_or_skip(self, size: usize) -> Option<EtcdCluster> {
        self.require()?;
        Some(self.start_cluster(size).await)
    }

    fn require(&self) -> Option<()> {
        require(self.version.server())?;
        require(Server::Etcdctl)?;
        Some(())
    }

    /// A server that is not started yet; without `place` it is a cluster of its own.
    fn member(&self, name: &str, place: Option<(Addresses, String)>) -> Etcd {
        let (addresses, members) = place.unwrap_or_else(|| {
            let addresses = Addresses::claim();
            (addresses, format!("{name}=http://{}", addresses.peer))
        });
        let folder = Folder::new(name);
        let data_dir = self.data_dir.as_ref().map_or_else(|| folder.data(), |own| own.join(name));
        let program = demand(self.version.server());
        let args = self.args.clone();
        Etcd {
            process: Process::default(),
            launch: Mutex::new(Launch { program, data_dir, members, generation: 0, args }),
            name: name.to_owned(),
            addresses,
            tls: self.authority.clone().map(Tls::new),
            etcdctl: demand(Server::Etcdctl),
            folder,
        }
    }
}
