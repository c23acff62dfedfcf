#![doc = include_str!("../README.md")]

mod address;
mod backoff;
mod error;
mod instance;
mod instancer;
mod metadata;
mod name;
mod registry;
mod snapshot;
mod source;

pub use address::{Address, Host};
pub use backoff::{Backoff, BackoffState};
pub use error::{BoxError, Error, ErrorKind};
pub use instance::{Instance, InstanceId};
pub use instancer::{FixedInstancer, Instancer, Publisher, Subscription};
pub use metadata::Metadata;
pub use name::ServiceName;
pub use registry::{KeptAlive, Leased, Registry};
pub use snapshot::{Freshness, Snapshot};
pub use source::{Change, Entry, KeyChange, Listing, Source};
