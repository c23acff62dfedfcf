//! Opens streams on one connection.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::slots::Slots;

/// Opens streams on one connection, by a [`Call`](crate::Call).
///
/// A connection whose sender was dropped closes after its last stream. So keep one for as long as calls are to be
/// sent, and hold it for the moment of sending only.
#[derive(Debug)]
pub struct Sender {
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) slots: Arc<Slots>,
    /// Where the rest of long requests is sent.
    pub(crate) runtime: Handle,
    /// Tells the connection, by being dropped, that no more streams will be opened.
    pub(crate) _open: oneshot::Sender<Infallible>,
}

impl Sender {
    /// Whether the server takes any streams at all: not while its SETTINGS_MAX_CONCURRENT_STREAMS is 0.
    pub fn takes_any(&self) -> tokio::sync::watch::Receiver<bool> {
        self.slots.takes_any()
    }

    /// Whether the connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }
}
