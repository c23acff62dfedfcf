//! Where a check says what it finds out.

use std::fmt;
use std::sync::Arc;

use crate::Error;
use crate::endpoints::Connectivity;
use crate::endpoints::endpoint::{Checked, EndpointState};

/// Where a [`HealthCheck`](crate::health::HealthCheck) says how its endpoint is.
///
/// Saying the same again costs nothing and publishes nothing, so a check need not remember what it
/// said. After the instance was removed nobody listens any more.
#[derive(Clone)]
pub struct HealthReporter {
    state: Arc<EndpointState>,
}

impl HealthReporter {
    /// Nothing is known from here on.
    pub(crate) fn new(state: Arc<EndpointState>) -> Self {
        state.set_checked(Checked::Pending, None);
        Self { state }
    }

    pub(crate) fn service(&self) -> &str {
        self.state.service()
    }

    /// It is well.
    pub fn healthy(&self) {
        self.state.set_checked(Checked::Healthy, None);
    }

    /// It is not well. The error is named where a call finds no endpoint.
    pub fn unhealthy(&self, error: Error) {
        self.state.set_checked(Checked::Unhealthy, Some(error));
    }

    /// It cannot be checked, and counts as well. Told as an event, each time.
    pub fn unsupported(&self, error: Error) {
        self.state.set_unsupported(&error);
    }

    /// It is not known any more: no call until the next word, which must come within a bounded time.
    pub fn pending(&self) {
        self.state.set_checked(Checked::Pending, None);
    }

    /// Whether nothing has been said since the beginning, or since [`pending`](Self::pending).
    pub fn is_pending(&self) -> bool {
        self.state.checked() == Checked::Pending
    }

    /// Whether the endpoint's connection stands; always so for a service that does not tell.
    pub fn is_connected(&self) -> bool {
        self.state.connectivity() == Connectivity::Ready
    }

    /// For a check that goes through the endpoint's own connection: runs `work` while that stands,
    /// drops it when the connection is lost, and runs it anew on the next one. Ends when `work` does.
    ///
    /// What was known of a connection that is lost says nothing about the next one, so the endpoint
    /// is [`pending`](Self::pending) in between, and until `work` has spoken again.
    pub async fn while_connected<W: Future>(&self, mut work: impl FnMut() -> W) -> W::Output {
        loop {
            let connection = self.state.connected().await;
            tokio::select! {
                // In this order: what the loss of the connection does to the work is not its word.
                biased;
                () = self.state.lost(connection) => self.pending(),
                done = work() => return done,
            }
        }
    }
}

impl fmt::Debug for HealthReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthReporter")
            .field("instance", self.state.instance())
            .field("checked", &self.state.checked())
            .finish_non_exhaustive()
    }
}
