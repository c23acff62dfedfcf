//! The channel against real tonic servers.

#![allow(missing_docs, unreachable_pub)]

mod calls;
mod connecting;
mod deadlines;
mod draining;
#[allow(clippy::all, clippy::pedantic, rust_2018_idioms, missing_debug_implementations)]
#[path = "generated/greet.rs"]
mod greet;
mod retries;
mod server;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod tonic_endpoint;
mod tonic_faults;
