//! A service as a URL names it, for builders of channels and clients.

use std::fmt;
use std::sync::Arc;

use fleetward_core::registry::RegistryUrl;
use fleetward_core::{Balancer, Error, Instancer};

use crate::open;
use crate::registries::Registries;

impl Registries {
    /// The URL as one of this table, for a builder that takes URLs.
    pub fn at(&self, url: impl Into<String>) -> Located {
        Located { registries: self.clone(), url: url.into() }
    }
}

/// A URL and the table that it is opened by; made by [`Registries::at`]. It may hold a password: `Debug` shows no URL.
#[derive(Clone)]
pub struct Located {
    registries: Registries,
    url: String,
}

impl fmt::Debug for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Located").field("registries", &self.registries).finish_non_exhaustive()
    }
}

/// What a URL says of a service.
#[doc(hidden)]
#[derive(Debug)]
pub struct Resolved {
    pub(crate) instancer: Arc<dyn Instancer>,
    pub(crate) balancer: Option<Arc<dyn Balancer>>,
}

/// A service as a URL names it: what builders of channels and clients connect to.
///
/// A text is opened by the built-in registries, a [`Located`] by the table that made it.
pub trait Target: Send {
    /// Opens the registry; returns the service's instances and the balancer that the URL names.
    #[doc(hidden)]
    fn resolve(&self) -> impl Future<Output = Result<Resolved, Error>> + Send;

    /// The same URL, opened by another table.
    #[doc(hidden)]
    fn located(&self, registries: &Registries) -> Located;
}

async fn resolve(registries: &Registries, url: &str) -> Result<Resolved, Error> {
    let instancer = registries.discover(url).await?;
    let balancer = open::balancer(RegistryUrl::parse(url)?.options(), &registries.balancers)?;
    Ok(Resolved { instancer, balancer })
}

impl<T: AsRef<str> + Send + Sync> Target for T {
    async fn resolve(&self) -> Result<Resolved, Error> {
        resolve(Registries::built_in(), self.as_ref()).await
    }

    fn located(&self, registries: &Registries) -> Located {
        registries.at(self.as_ref())
    }
}

impl Target for Located {
    async fn resolve(&self) -> Result<Resolved, Error> {
        resolve(&self.registries, &self.url).await
    }

    fn located(&self, registries: &Registries) -> Located {
        registries.at(self.url.clone())
    }
}
