//! The state of a proxy: what happens to bytes, and to each connection.

use std::collections::HashMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What the proxy and its tasks have in common.
pub(super) struct Network {
    pub(super) conditions: watch::Sender<Conditions>,
    pub(super) connections: Mutex<Connections>,
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) latency: Duration,
    pub(super) bandwidth: Option<NonZeroU64>,
    pub(super) slices: Option<NonZeroUsize>,
}

#[derive(Default)]
pub(super) struct Connections {
    pub(super) accepted: u64,
    /// New ones begin as half open.
    pub(super) swallowing: bool,
    pub(super) open: HashMap<u64, Connection>,
}

pub(super) struct Connection {
    pub(super) fate: watch::Sender<Fate>,
    /// The client has ended its side.
    pub(super) left: bool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Alive,
    /// Both sockets stay open, and everything that comes is dropped.
    Silent,
    Cut,
    Reset,
}

impl Network {
    pub(super) fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
