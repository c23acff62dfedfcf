//! The client against real servers that misbehave.

#![allow(clippy::unwrap_used, missing_docs)] // a test that panics has failed, as it should

mod bodies;
mod deadlines;
mod elsewhere;
mod feedback;
mod http2;
mod instances;
mod last_response;
mod pool;
mod protocols;
mod reqwest;
mod retries;
mod retry_after;
mod server;
mod support;
mod unsent;
mod versions;
