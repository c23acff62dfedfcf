//! The versions that are tested.

use super::super::binary::Server;

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
