#![doc = include_str!("../README.md")]

#[cfg(any(feature = "grpc", feature = "http"))]
mod client;
mod connect;
mod open;
mod opened;
pub mod prelude;
mod registries;
mod scheme;
#[cfg(any(feature = "grpc", feature = "http"))]
mod target;
mod views;

#[cfg(any(feature = "grpc", feature = "http"))]
pub use client::Connect;
pub use connect::{connect, discover, register};
pub use fleetward_core::*;

/// A registry, whatever it is: its URL, and the handle that discovers and registers.
pub mod registry {
    pub use fleetward_core::registry::*;

    pub use crate::registries::Registries;
    #[cfg(any(feature = "grpc", feature = "http"))]
    pub use crate::target::{Located, Target};
}

/// What network backends share: for whoever writes one.
pub mod backend {
    pub use fleetward_backend_common::*;
}

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

/// Active health checks. The checks by TCP and HTTP need the feature `health`; gRPC's own health protocol is
/// `grpc::GrpcHealth`.
pub mod health {
    pub use fleetward_core::health::*;
    #[cfg(feature = "health")]
    pub use fleetward_health::*;
}

#[cfg(feature = "http")]
pub mod http;

/// The examples of the guide compile and run.
#[cfg(all(doctest, feature = "grpc"))]
#[doc = include_str!("../docs/retry.md")]
struct RetryGuide;

#[cfg(doctest)]
#[doc = include_str!("../docs/go-kit.md")]
struct GoKitGuide;

#[cfg(all(doctest, feature = "grpc", feature = "health"))]
#[doc = include_str!("../docs/health.md")]
struct HealthGuide;

/// What does not compile, and says what to write instead; beside it what does.
///
/// ```compile_fail
/// let channel = fleetward::grpc::Channel::builder("memory:greeter").balancer("round_robin");
/// ```
///
/// ```compile_fail
/// let channel = fleetward::grpc::Channel::builder("memory:greeter").build();
/// ```
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), fleetward::Error> {
/// use fleetward::balancers::by_name;
/// use fleetward::grpc::{Channel, Connect};
/// let channel = Channel::builder("memory:greeter").balancer(by_name("round_robin")?).connect().await?;
/// # Ok(())
/// # }
/// ```
#[cfg(all(doctest, feature = "grpc"))]
struct Hints;
