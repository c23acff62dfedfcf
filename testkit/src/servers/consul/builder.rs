//! Options of a Consul, or of each server of a cluster.

use std::sync::Arc;

use super::super::binary::{Server, demand, require};
use super::super::folder::Folder;
use super::super::process::Process;
use super::super::tls::{Authority, Tls};
use super::{Addresses, Consul, ConsulCluster, Launch, Mode};

/// Builds a [`Consul`] or a [`ConsulCluster`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ConsulBuilder {
    persistent: bool,
    acl: bool,
    hcl: Vec<String>,
    authority: Option<Arc<Authority>>,
}

impl ConsulBuilder {
    /// Keeps what is registered when the agent is started again. Without it the agent runs in
    /// `-dev` mode, which begins empty each time, and is ready ten times as soon.
    pub fn with_data(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Access control: whoever shows no token may do nothing. [`Consul::root_token`] may do all.
    pub fn with_acl(mut self) -> Self {
        self.acl = true;
        self
    }

    /// HTTPS for clients, which have to show a certificate too, at [`Consul::secure_endpoint`];
    /// servers of a cluster talk to each other over TLS. [`Consul::tls`] has the files.
    pub fn with_tls(mut self) -> Self {
        self.authority = Some(Arc::new(Authority::new()));
        self
    }

    /// One more line of configuration, in HCL.
    pub fn with_hcl(mut self, line: impl Into<String>) -> Self {
        self.hcl.push(line.into());
        self
    }

    /// Starts one agent, which is a server too, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If Consul is missing, or the agent is not ready within its deadline.
    pub async fn start(self) -> Consul {
        let mode = if self.persistent { Mode::Alone } else { Mode::Dev };
        let consul = self.agent("consul", Addresses::claim(), mode);
        consul.spawn_again();
        consul.ready().await;
        consul
    }

    /// Like [`start`](Self::start); `None` if Consul is [missing](super::super::require).
    pub async fn start_or_skip(self) -> Option<Consul> {
        require(Server::Consul)?;
        Some(self.start().await)
    }

    /// Starts a cluster of `size` servers and waits until all of them answer.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does, and if `size` is 0.
    pub async fn start_cluster(self, size: usize) -> ConsulCluster {
        assert!(size > 0, "a cluster has at least one server");
        let addresses: Vec<_> = (0..size).map(|_| Addresses::claim()).collect();
        let join: Vec<_> = addresses.iter().map(|at| at.gossip).collect();
        let members = addresses.iter().enumerate().map(|(index, at)| {
            self.agent(&format!("consul{index}"), *at, Mode::Member(join.clone()))
        });
        let members: Vec<_> = members.collect();
        members.iter().for_each(Consul::spawn_again);
        for member in &members {
            member.ready().await;
        }
        ConsulCluster::new(members)
    }

    /// Like [`start_cluster`](Self::start_cluster); `None` if Consul is missing.
    pub async fn start_cluster_or_skip(self, size: usize) -> Option<ConsulCluster> {
        require(Server::Consul)?;
        Some(self.start_cluster(size).await)
    }

    fn agent(&self, name: &str, addresses: Addresses, mode: Mode) -> Consul {
        let folder = Folder::new(name);
        let launch = Launch {
            program: demand(Server::Consul),
            data_dir: folder.data(),
            mode,
            acl: self.acl,
            hcl: self.hcl.clone(),
        };
        let tls = self.authority.clone().map(Tls::new);
        Consul {
            process: Process::default(),
            launch,
            name: name.to_owned(),
            addresses,
            tls,
            folder,
        }
    }
}
