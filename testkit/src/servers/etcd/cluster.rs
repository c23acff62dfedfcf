//! A cluster whose members can be hurt one by one.

use std::time::Duration;

use super::{Etcd, http};
use crate::eventually;

/// Several etcd members, each of them an [`Etcd`].
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Etcd>,
}

impl EtcdCluster {
    /// Starts a cluster of `size` members and waits until all of them answer. For TLS and other
    /// options see [`EtcdBuilder::start_cluster`](super::EtcdBuilder::start_cluster).
    ///
    /// # Panics
    ///
    /// If there is no etcd; see [`start_or_skip`](Self::start_or_skip).
    pub async fn start(size: usize) -> Self {
        Etcd::builder().start_cluster(size).await
    }

    /// Like [`start`](Self::start), or `None` where there is no etcd and it is not CI.
    pub async fn start_or_skip(size: usize) -> Option<Self> {
        Etcd::builder().start_cluster_or_skip(size).await
    }

    pub(super) fn new(members: Vec<Etcd>) -> Self {
        Self { members }
    }

    /// All members, running or not, always in the same order.
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// One member.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    pub fn member(&self, index: usize) -> &Etcd {
        &self.members[index]
    }

    /// The members' addresses for clients, `host:port`.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// The members' URLs for clients.
    pub fn client_urls(&self) -> Vec<String> {
        self.members.iter().map(Etcd::client_url).collect()
    }

    /// The index of the member that says now that it leads, if one does.
    ///
    /// A leader that was paused believes for some milliseconds after it goes on that it still
    /// leads.
    pub async fn leader(&self) -> Option<usize> {
        for (index, member) in self.members.iter().enumerate() {
            let metrics = http::get(member.addresses.metrics, "/metrics").await;
            if metrics.is_ok_and(|text| text.lines().any(|line| line == "etcd_server_is_leader 1"))
            {
                return Some(index);
            }
        }
        None
    }

    /// Waits until a member leads, and returns its index.
    pub async fn wait_for_leader(&self) -> usize {
        eventually("the cluster has a leader", LEADER_DEADLINE, || self.leader()).await
    }
}

/// An election takes about a second.
const LEADER_DEADLINE: Duration = Duration::from_secs(15);
