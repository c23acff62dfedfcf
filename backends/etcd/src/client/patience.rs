//! Callers that are less patient than we are.
//!
//! A caller may have a shorter deadline than ours, and drop a call at it. Then too the next call
//! must go elsewhere, or a server that hangs would be asked for ever.

use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use super::failure::Blame;

/// Watches over one wait for a server.
pub(super) struct Patience<'a> {
    client: &'a Client,
    generation: u64,
    since: Instant,
}

/// A wait that is cut off sooner says nothing about the server.
const SUSPICIOUS: Duration = Duration::from_millis(500);

impl<'a> Patience<'a> {
    pub(super) fn begins(client: &'a Client, generation: u64) -> Self {
        Self { client, generation, since: Instant::now() }
    }

    /// The wait came to its own end, good or bad.
    pub(super) fn ends(self) {
        std::mem::forget(self);
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SUSPICIOUS {
            self.client.give_up(self.generation, Blame::Server);
        }
    }
}
