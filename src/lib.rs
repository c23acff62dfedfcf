#![doc = include_str!("../README.md")]

mod connect;
mod opened;
mod scheme;
mod views;

pub use connect::{connect, discover, register};
pub use fleetward_core::*;

/// The load balancing algorithms.
pub mod balancers {
    pub use fleetward_balancers::*;
}

/// The embedded registry, for programs that want to hold it themselves.
pub mod memory {
    pub use fleetward_memory::*;
}

/// Consul, for programs that configure it by code instead of by URL.
#[cfg(feature = "consul")]
pub mod consul {
    pub use fleetward_consul::*;
}

/// etcd, for programs that configure it by code instead of by URL.
#[cfg(feature = "etcd")]
pub mod etcd {
    pub use fleetward_etcd::*;
}

#[cfg(feature = "grpc")]
pub mod grpc;

/// Active health checks by TCP and HTTP. gRPC's own health protocol is `grpc::GrpcHealth`.
#[cfg(feature = "health")]
pub mod health {
    pub use fleetward_health::*;
}

#[cfg(feature = "http")]
pub mod http;

/// The examples of the guide compile and run.
#[cfg(all(doctest, feature = "grpc"))]
#[doc = include_str!("../docs/retry.md")]
struct RetryGuide;

#[cfg(all(doctest, feature = "grpc", feature = "health"))]
#[doc = include_str!("../docs/health.md")]
struct HealthGuide;
