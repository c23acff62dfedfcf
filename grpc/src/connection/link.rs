//! Where calls find the connection of an instance.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tonic::body::Body;

/// Empty while there is no connection. Read by every call, without a lock.
#[derive(Default)]
pub(super) struct Link {
    sender: ArcSwapOption<SendRequest<Body>>,
    look: Notify,
}

impl Link {
    pub(super) fn connect(&self, sender: SendRequest<Body>) {
        self.sender.store(Some(Arc::new(sender)));
    }

    pub(super) fn disconnect(&self) {
        self.sender.store(None);
    }

    /// Has the connection's owner look whether it still takes requests.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    pub(super) async fn asked_to_look(&self) {
        self.look.notified().await;
    }

    /// Only for the moment of sending: a sender that is kept keeps its connection from closing.
    pub(super) fn sender(&self) -> Option<SendRequest<Body>> {
        self.sender.load().as_ref().map(|sender| SendRequest::clone(sender))
    }
}
