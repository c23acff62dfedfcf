//! The probes against real sockets.
#![allow(clippy::unwrap_used, missing_docs)] // a test that panics has failed, as it should

mod http;
mod support;
mod tcp;
