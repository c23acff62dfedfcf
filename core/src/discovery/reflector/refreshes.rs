//! When a list is due because a reader asked for it.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, sleep_until};

use crate::discovery::Publisher;

#[derive(Debug)]
pub(super) struct Refreshes {
    publisher: Publisher,
    min_interval: Duration,
    requested: bool,
    last_list: Option<Instant>,
}

impl Refreshes {
    pub(super) fn new(publisher: Publisher, min_interval: Duration) -> Self {
        Self { publisher, min_interval, requested: false, last_list: None }
    }

    /// A list begins: it answers everything that was asked before.
    pub(super) fn listing(&mut self) {
        self.requested = false;
        let _ = self.publisher.refresh_requested().now_or_never();
        self.last_list = Some(Instant::now());
    }

    /// Waits until a list was asked for and is allowed. Cancel safe: what was asked stays asked.
    pub(super) async fn due(&mut self) {
        if !self.requested {
            self.publisher.refresh_requested().await;
            self.requested = true;
        }
        if let Some(at) = self.last_list.and_then(|at| at.checked_add(self.min_interval)) {
            sleep_until(at).await;
        }
    }
}
