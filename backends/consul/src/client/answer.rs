//! An answer, and what its head says about it.

use bytes::Bytes;
use http::response::Parts;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    /// `X-Consul-Index`, if there is a readable one.
    pub(crate) index: Option<u64>,
    /// Consul said that it knows no leader, so what it knows may be old.
    pub(crate) leaderless: bool,
    /// Consul said that it left out what the token may not see.
    pub(crate) filtered: bool,
}

impl Answer {
    pub(super) fn new(head: &Parts, body: Bytes) -> Self {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            body,
            index: text("x-consul-index").and_then(|index| index.trim().parse().ok()),
            leaderless: text("x-consul-knownleader") == Some("false"),
            filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
        }
    }
}
