//! Where a watch goes on from.

/// A revision of one cluster's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtcdCursor {
    pub(super) revision: i64,
    pub(super) cluster: u64,
}

impl EtcdCursor {
    /// The revision of the store.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The id of the cluster; revisions of two clusters have nothing to do with each other.
    pub fn cluster_id(&self) -> u64 {
        self.cluster
    }
}

pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
