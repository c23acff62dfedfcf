//! What most programs use: `use fleetward::prelude::*;`.
//!
//! The nouns, and the traits whose methods a program calls. No name here is that of a crate, and there is no `Error`, so
//! that a program's own stays in sight.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), fleetward::Error> {
//! use fleetward::prelude::*;
//! let registry = fleetward::connect("memory:").await?;
//! let v2 = registry.service("greeter")?.view(Filter::version("v2"));
//! assert!(v2.subscribe().current().instances.is_empty());
//! # Ok(())
//! # }
//! ```

pub use fleetward_core::discovery::{Filter, InstancerExt};
pub use fleetward_core::{
    Balancer, Health, Instance, Instancer, Metadata, RegisterOptions, Registration, RegistryHandle,
    ServiceName,
};

#[cfg(any(feature = "grpc", feature = "http"))]
pub use crate::Connect as _;
