//! Where calls find the connection of an instance.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use fleetward_http2::Sender;

/// Empty while there is no connection. Read by every call, without a lock.
#[derive(Default)]
pub(super) struct Link {
    sender: ArcSwapOption<Sender>,
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
