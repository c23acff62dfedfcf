#![doc = include_str!("../README.md")]

mod address;
mod attempt;
mod backoff;
mod balanced;
mod balancer;
mod empty_set;
mod endpoint;
mod endpointer;
mod error;
mod factory;
mod handle;
mod instance;
mod instancer;
mod keeper;
mod metadata;
mod name;
mod reflector;
mod registrar;
mod registry;
mod registry_url;
mod retry;
mod secret;
mod snapshot;
mod source;
mod telemetry;

pub use address::{Address, Host};
pub use backoff::{Backoff, BackoffState};
pub use balanced::{Balanced, BalancedFuture, Picked, WaitForReady};
pub use balancer::{Balancer, PickContext, ReadySet};
pub use empty_set::EmptySetPolicy;
pub use endpoint::{Connectivity, InFlight, Member, Readiness};
pub use endpointer::{Endpoint, EndpointSet, Endpointer, EndpointerBuilder};
pub use error::{BoxError, Error, ErrorKind};
pub use factory::Factory;
pub use handle::{RegistryHandle, WeakRegistryHandle};
pub use instance::{Instance, InstanceId};
pub use instancer::{FixedInstancer, Instancer, Publisher, Subscription};
pub use keeper::Keeper;
pub use metadata::Metadata;
pub use name::ServiceName;
pub use reflector::{Reflector, ReflectorConfig};
pub use registrar::{RegisterOptions, Registrar, Registration, Status, StatusWatch};
pub use registry::{KeptAlive, Leased, Registry};
pub use registry_url::{Options, RegistryUrl};
pub use retry::{
    Attempt, CallbackPolicy, KeepTrying, Retry, RetryClassifier, RetryError, Retrying, Verdict,
};
pub use secret::Secret;
pub use snapshot::{Freshness, Snapshot};
pub use source::{Change, Entry, KeyChange, Listing, Source};
