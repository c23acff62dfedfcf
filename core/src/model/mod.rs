//! The nouns: a service's name, its instances, and the set of them at one moment.

mod address;
mod instance;
mod metadata;
mod name;
mod settings;
pub(crate) mod snapshot;
mod tags;

pub use self::address::{Address, Host};
pub use self::instance::{Health, Instance, InstanceId};
pub use self::metadata::Metadata;
pub use self::name::ServiceName;
pub use self::settings::ServiceSettings;
pub use self::snapshot::{Freshness, Snapshot};
pub use self::tags::Tags;
