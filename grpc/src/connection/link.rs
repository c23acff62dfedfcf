//! Where calls find the connection of an instance.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::oneshot;

use super::slots::Slots;

/// Empty while there is no connection. Read by every call, without a lock.
#[derive(Default)]
pub(super) struct Link {
    sender: ArcSwapOption<Sender>,
}

/// Opens streams on one connection.
pub(super) struct Sender {
    pub(super) requests: SendRequest<Bytes>,
    pub(super) slots: Arc<Slots>,
    /// Tells the connection, by being dropped, that no more streams will be opened.
    pub(super) _open: oneshot::Sender<Infallible>,
}

impl Link {
    pub(super) fn connect(&self, sender: Sender) {
        self.sender.store(Some(Arc::new(sender)));
    }

    pub(super) fn disconnect(&self) {
        self.sender.store(None);
    }

    /// Only for the moment of sending: a sender that is kept keeps its connection from closing.
    pub(super) fn sender(&self) -> Option<Arc<Sender>> {
        self.sender.load_full()
    }
}
