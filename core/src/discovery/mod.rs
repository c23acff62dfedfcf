//! Reading a registry: what a backend implements, and the live view of a service that comes of it.
//!
//! A backend implements [`Source`]: list and watch. The [`Reflector`] makes it an [`Instancer`], which
//! whoever wants to know the instances of a service subscribes to. A [`View`] shows a part of one.

pub(crate) mod empty_set;
mod instancer;
mod publisher;
pub(crate) mod reflector;
mod refresh;
mod source;
mod subscription;
pub(crate) mod view;

pub use self::empty_set::EmptySetPolicy;
pub use self::instancer::Instancer;
pub use self::publisher::{FixedInstancer, Publisher};
pub use self::reflector::{Reflector, ReflectorConfig};
pub use self::source::{Change, Entry, KeyChange, Listing, Read, Source};
pub use self::subscription::Subscription;
pub use self::view::{Filter, InstancerExt, View, Viewed};
