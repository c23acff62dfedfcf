//! A registry, whatever it is: its URL, and the handle that discovers and registers.

mod handle;
pub mod redact;
mod registry_url;
mod secret;

pub use self::handle::{RegistryHandle, WeakRegistryHandle};
pub use self::registry_url::{Options, RegistryUrl};
pub use self::secret::Secret;
