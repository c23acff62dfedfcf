#![doc = include_str!("../README.md")]

pub mod backoff;
pub mod balancing;
pub mod context;
pub mod discovery;
mod double_buffer;
pub mod endpoints;
mod error;
pub mod health;
pub mod limit;
pub mod model;
pub mod outlier;
mod quota;
pub mod registration;
pub mod registry;
pub mod retry;
mod sync;
pub mod task;
mod telemetry;

pub use self::balancing::{Balanced, Balancer};
pub use self::discovery::{Instancer, Subscription};
pub use self::endpoints::{DefaultEndpointer, Endpointer, Factory, FixedEndpointer};
pub use self::error::{BoxError, Error, ErrorKind};
pub use self::model::{
    Address, Freshness, Health, Instance, InstanceId, Metadata, ServiceName, Snapshot,
};
pub use self::registration::{RegisterOptions, Registration};
pub use self::registry::RegistryHandle;
pub use self::retry::Retry;
