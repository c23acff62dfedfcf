//! The backend that docs/write-a-backend.md builds, and the page itself.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test that panics has failed, as it should

mod conformance;
#[allow(unreachable_pub, reason = "in a crate of its own it is public")]
#[path = "../../examples/directory_backend/directory.rs"]
mod directory;
mod page;
