//! Options of a Consul, or of each server of a cluster.

use std::sync::Arc;

use super::super::binary::{Server, demand, require};
use super::super::folder::Folder;
use super::super::process::Process;
use super::super::tls::{Authority, Tls};
use super::{Addresses, Consul, ConsulCluster, Launch, Mode};
use crate::HeldAddress;

impl Consul {
    /// Starts an agent in `-dev` mode and waits until it answers. It keeps nothing: started again
    /// it is empty, and its index begins anew.
    ///
    /// # Panics
    ///
    /// If there is no Consul; see [`start_or_skip`](Self::start_or_skip).
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Like [`start`](Self::start), or `None` where there is no Consul and it is not CI.
    ///
    /// ```no_run
    /// # use fleetward_testkit::servers::Consul;
    /// # async fn test() {
    /// let Some(consul) = Consul::start_or_skip().await else { return };
    /// consul.put("/v1/agent/service/register", r#"{"Name":"a","Port":80}"#).await;
    /// # }
    /// ```
    pub async fn start_or_skip() -> Option<Self> {
        Self::builder().start_or_skip().await
    }

    /// Data that is kept, access control, TLS, more servers, configuration.
    pub fn builder() -> ConsulBuilder {
        ConsulBuilder::default()
    }
}

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
        self.start_at(Addresses::claim).await
    }

    /// With other addresses if the agent finds that one of them is taken.
    async fn start_at(&self, mut claim: impl FnMut() -> (Addresses, [HeldAddress; 4])) -> Consul {
        for _ in 0..STARTS {
            let mode = if self.persistent { Mode::Alone } else { Mode::Dev };
            let (addresses, held) = claim();
            let consul = self.agent("consul", addresses, held, mode);
            consul.spawn_again();
            if consul.comes_up().await {
                return consul;
            }
        }
        panic!("somebody takes every address that a Consul was given");
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
        for _ in 0..STARTS {
            let members = self.members(size);
            members.iter().for_each(Consul::spawn_again);
            if up(&members).await {
                return ConsulCluster::new(members);
            }
        }
        panic!("somebody takes every address that a Consul was given");
    }

    /// Like [`start_cluster`](Self::start_cluster); `None` if Consul is missing.
    pub async fn start_cluster_or_skip(self, size: usize) -> Option<ConsulCluster> {
        require(Server::Consul)?;
        Some(self.start_cluster(size).await)
    }

    fn members(&self, size: usize) -> Vec<Consul> {
        let places: Vec<_> = (0..size).map(|_| Addresses::claim()).collect();
        let join: Vec<_> = places.iter().map(|(at, _)| at.gossip).collect();
        let member = |(index, (at, held))| {
            self.agent(&format!("consul{index}"), at, held, Mode::Member(join.clone()))
        };
        places.into_iter().enumerate().map(member).collect()
    }

    fn agent(
        &self,
        name: &str,
        addresses: Addresses,
        held: [HeldAddress; 4],
        mode: Mode,
    ) -> Consul {
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
            _held: held,
            tls,
            folder,
        }
    }
}

/// Whether all of them come up.
async fn up(members: &[Consul]) -> bool {
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
    async fn an_agent_whose_address_is_taken_gets_another() {
        if require(Server::Consul).is_none() {
            return;
        }
        let mut thief = None;
        let builder = Consul::builder();
        let consul = builder
            .start_at(|| {
                let (addresses, held) = Addresses::claim();
                let steal = || std::net::TcpListener::bind(addresses.http);
                thief
                    .get_or_insert_with(|| steal().expect("a listener may come to a held address"));
                (addresses, held)
            })
            .await;
        let thief = thief.expect("it is called").local_addr().expect("it is bound");
        assert_ne!(consul.addr(), thief);
        assert!(consul.is_running());
    }
}
