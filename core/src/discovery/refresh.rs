//! A reader's hint that the set may be out of date.

use std::sync::Arc;

use tokio::sync::Notify;

/// Readers request, and whoever publishes hears it. Requests that were not heard yet count as one.
#[derive(Clone, Debug, Default)]
pub(super) struct Refresh(Arc<Notify>);

impl Refresh {
    pub(super) fn request(&self) {
        self.0.notify_one();
    }

    /// Waits for a request. Cancel safe.
    pub(super) async fn requested(&self) {
        self.0.notified().await;
    }
}
