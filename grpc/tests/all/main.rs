//! The channel against real tonic servers.

#![allow(clippy::unwrap_used, missing_docs)] // a test that panics has failed, as it should

mod a6;
mod black_hole;
mod calls;
mod concurrency;
mod connecting;
mod connection;
mod deadlines;
mod draining;
mod feedback;
#[allow(
    clippy::all,
    clippy::pedantic,
    rust_2018_idioms,
    missing_debug_implementations,
    unreachable_pub
)]
#[path = "generated/greet.rs"]
mod greet;
mod health;
mod hostile;
mod http2;
mod idempotent;
mod limits;
mod reentry;
mod retries;
mod server;
mod streams;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod tonic_endpoint;
mod tonic_faults;
mod uploads;
