//! A cluster whose servers can be hurt one by one.

use std::time::Duration;

use super::Consul;
use crate::eventually;

/// Several Consul servers, each of them a [`Consul`], with access control, and TLS for clients and
/// among themselves.
#[derive(Debug)]
pub struct ConsulCluster {
    members: Vec<Consul>,
}

impl ConsulCluster {
    /// Starts a cluster of `size` servers with ACLs and TLS, and waits until all of them answer.
    ///
    /// # Panics
    ///
    /// If there is no Consul; see [`start_or_skip`](Self::start_or_skip).
    pub async fn start(size: usize) -> Self {
        Consul::builder().with_acl().with_tls().start_cluster(size).await
    }

    /// Like [`start`](Self::start), or `None` where there is no Consul and it is not CI.
    pub async fn start_or_skip(size: usize) -> Option<Self> {
        Consul::builder().with_acl().with_tls().start_cluster_or_skip(size).await
    }

    pub(super) fn new(members: Vec<Consul>) -> Self {
        Self { members }
    }

    /// All servers, running or not, always in the same order.
    pub fn members(&self) -> &[Consul] {
        &self.members
    }

    /// One server.
    ///
    /// # Panics
    ///
    /// If there is no such server.
    pub fn member(&self, index: usize) -> &Consul {
        &self.members[index]
    }

    /// The servers' addresses for clients with TLS, `host:port`.
    pub fn secure_endpoints(&self) -> Vec<String> {
        self.members.iter().map(Consul::secure_endpoint).collect()
    }

    /// The index of the server that leads, as the first one that answers says.
    pub async fn leader(&self) -> Option<usize> {
        for member in &self.members {
            let Ok((200, text)) = member.try_request("GET", "/v1/status/leader", "").await else {
                continue;
            };
            let text = text.trim().trim_matches('"');
            let leads = |one: &Consul| one.is_running() && one.addresses.server.to_string() == text;
            if let Some(index) = self.members.iter().position(leads) {
                return Some(index);
            }
        }
        None
    }

    /// Waits until a running server leads, and returns its index.
    ///
    /// # Panics
    ///
    /// If none does before a deadline.
    pub async fn wait_for_leader(&self) -> usize {
        eventually("the cluster has a leader", LEADER_DEADLINE, || self.leader()).await
    }
}

const LEADER_DEADLINE: Duration = Duration::from_secs(20);
