//! Where calls find the connection of an instance.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hyper::client::conn::http2::SendRequest;
use tonic::body::Body;

/// Empty while there is no connection. Read by every call, without a lock.
#[derive(Default)]
pub(super) struct Link {
    sender: ArcSwapOption<SendRequest<Body>>,
}

impl Link {
    pub(super) fn connect(&self, sender: SendRequest<Body>) {
        self.sender.store(Some(Arc::new(sender)));
    }

    pub(super) fn disconnect(&self) {
        self.sender.store(None);
    }

    /// Only for the moment of sending: a sender that is kept keeps its connection from closing.
    pub(super) fn sender(&self) -> Option<SendRequest<Body>> {
        self.sender.load().as_ref().map(|sender| SendRequest::clone(sender))
    }
}
