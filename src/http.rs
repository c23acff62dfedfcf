//! Load-balanced, retrying HTTP clients.

pub use fleetward_http::*;

pub use crate::Connect;
