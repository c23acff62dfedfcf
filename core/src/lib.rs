#![doc = include_str!("../README.md")]

mod address;
mod allowed;
mod attempt;
mod backoff;
mod balanced;
mod balancer;
mod budget;
mod edits;
mod empty_set;
mod endpoint;
mod endpointer;
mod error;
mod factory;
mod feedback;
mod handle;
mod health;
mod instance;
mod instancer;
mod keeper;
mod limit;
mod metadata;
mod name;
mod observer;
mod outlier;
mod pick_context;
mod read_ahead;
pub mod redact;
mod reflector;
mod registrar;
mod registry;
mod registry_url;
mod retry;
mod rotation;
mod secret;
mod snapshot;
mod source;
mod supervised;
mod tags;
mod telemetry;
mod view;

pub use address::{Address, Host};
pub use allowed::pick_allowed;
pub use attempt::expiring;
pub use backoff::{Backoff, BackoffState, Jitter};
pub use balanced::{Balanced, BalancedBuilder, BalancedFuture, Picked, WaitForReady};
pub use balancer::{Balancer, Prepared, ReadySet};
pub use budget::{RatioBudget, RetryBudget, Throttle};
pub use empty_set::EmptySetPolicy;
pub use endpoint::{Connectivity, InFlight, Member, Outcome, Readiness};
pub use endpointer::{EndpointSet, Endpointer, EndpointerBuilder};
pub use error::{BoxError, Error, ErrorKind};
pub use factory::Factory;
pub use feedback::FeedbackConfig;
pub use handle::{RegistryHandle, WeakRegistryHandle};
pub use health::{HealthCheck, HealthChecked, HealthReporter, Probe, Probing};
pub use instance::{Health, Instance, InstanceId};
pub use instancer::{FixedInstancer, Instancer, Publisher, Subscription};
pub use keeper::Keeper;
pub use limit::{ConcurrencyLimit, Limited, LimitedFactory, LimitedFuture};
pub use metadata::Metadata;
pub use name::ServiceName;
pub use observer::{ByResult, Observer};
pub use outlier::{
    FailureShare, MovingSuccessRate, OutlierDetection, OutlierDetector, SuccessRate,
};
pub use pick_context::{Lookup, PickContext};
pub use read_ahead::ReadAhead;
pub use reflector::{Reflector, ReflectorConfig};
pub use registrar::{RegisterOptions, Registrar, Registration, Status, StatusWatch};
pub use registry::{KeptAlive, Leased, Registry};
pub use registry_url::{Options, RegistryUrl};
pub use retry::{
    Attempt, CallbackPolicy, Hedge, HedgeDelay, Idempotent, KeepTrying, Retry, RetryClassifier,
    RetryError, RetryFuture, Retrying, Verdict,
};
pub use rotation::{Failed, Rotation};
pub use secret::Secret;
pub use snapshot::{Freshness, Snapshot};
pub use source::{Change, Entry, KeyChange, Listing, Source};
pub use supervised::{Supervised, supervise};
pub use tags::Tags;
pub use view::{Filter, InstancerExt, View, Viewed};
