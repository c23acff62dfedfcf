//! Load-balanced, retrying channels for tonic's generated clients.

pub use fleetward_grpc::*;

pub use crate::Connect;
