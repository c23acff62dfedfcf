//! What a user calls to be found: [`Registrar`], and the [`Registration`] it gives.

mod options;
mod registration;

use async_trait::async_trait;

pub use self::options::RegisterOptions;
pub use self::registration::{Registration, Status, StatusWatch};
pub(crate) use self::registration::{Report, registration};
use crate::{Error, Instance, ServiceName};

/// Puts instances into a registry and keeps them there.
///
/// [`Keeper`](crate::registration::Keeper) makes one of any [`Registry`](crate::registration::Registry); a
/// [`RegistryHandle`](crate::RegistryHandle) holds one. Implement it yourself for a registry that
/// keeps registrations alive on its own.
///
/// ```
/// use fleetward_core::{Error, Instance, RegisterOptions, ServiceName};
/// use fleetward_core::registration::Registrar;
/// async fn announce(registrar: &dyn Registrar) -> Result<(), Error> {
///     let service = ServiceName::new("greeter")?;
///     let instance = Instance::new("10.0.0.1:8080")?;
///     let registration =
///         registrar.register(&service, instance, RegisterOptions::default()).await?;
///     // … serve …
///     registration.deregister().await
/// }
/// ```
#[async_trait]
pub trait Registrar: Send + Sync + std::fmt::Debug {
    /// Registers the instance, and keeps it registered until the [`Registration`] is deregistered
    /// or dropped.
    ///
    /// Cancel safe: dropping the future takes back whatever it did.
    ///
    /// # Errors
    /// Why the first attempt failed, unless
    /// [`keep_trying`](RegisterOptions::with_keep_trying) is set and trying again can help.
    async fn register(
        &self,
        service: &ServiceName,
        instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error>;
}
