//! Writing to a registry: what a backend implements, and what keeps a process registered.
//!
//! A backend implements [`Registry`]: register, keep alive, deregister. The [`Keeper`] makes it a
//! [`Registrar`], whose [`Registration`] stays in the registry through every fault until it is dropped.

mod keeper;
pub(crate) mod registrar;
mod registry;

pub use self::keeper::Keeper;
pub use self::registrar::{RegisterOptions, Registrar, Registration, Status, StatusWatch};
pub use self::registry::{KeptAlive, Leased, Registry};
