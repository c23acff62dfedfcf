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
        let text = |name: &str| header(head, name);
        Self {
            body,
            index: text("x-consul-index").and_then(|index| index.trim().parse().ok()),
            leaderless: text("x-consul-knownleader") == Some("false"),
            filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
        }
    }
}

/// What Consul says to a request that it carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Json,
    /// JSON whatever the status is.
    JsonAlways,
    Nothing,
    /// A sign of life is asked for, no matter whose.
    Anything,
}

impl Shape {
    /// Whether Consul may have answered so.
    pub(super) fn fits(self, head: &Parts, body: &[u8]) -> bool {
        let body = body.trim_ascii();
        match self {
            Self::Nothing => body.is_empty() || body == b"null",
            Self::Json | Self::JsonAlways => {
                let begins = matches!(body.first(), Some(b'{' | b'[' | b'n'));
                begins && !header(head, "content-type").is_some_and(|kind| kind.contains("html"))
            }
            Self::Anything => true,
        }
    }

    /// Whether Consul may have answered so to what it does not carry out.
    pub(super) fn fits_refusal(self, head: &Parts, body: &[u8]) -> bool {
        let missing = matches!(head.status.as_u16(), 404 | 405);
        let html = header(head, "content-type").is_some_and(|kind| kind.contains("html"));
        // Go's answer where nobody has anything at that path, as etcd's.
        let nobody = body.starts_with(b"404 page not found");
        let elsewhere = head.status.is_redirection() || missing && (html || nobody);
        self == Self::Anything || !elsewhere
    }
}

pub(super) fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}
