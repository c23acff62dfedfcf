//! The registries that a program can open by URL: those built in, and its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use fleetward_balancers::Balancers;
use fleetward_core::registry::RegistryUrl;
use fleetward_core::{Error, Instance, Instancer, Registration, RegistryHandle, ServiceName};
use futures::future::BoxFuture;

use crate::open::{Backend, Opener, open};
use crate::opened::Opened;
use crate::scheme::Scheme;

/// The registries that can be opened by URL: the built-in ones, and schemes of your own; and the balancers that a URL may
/// name.
///
/// [`connect`](crate::connect) and its short forms use a table with the built-in schemes only. A program with a
/// backend of its own makes a table, adds a scheme to it, and gives the table to whatever connects: there is no global
/// state to register anything in.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::sync::Arc;
/// use fleetward::discovery::FixedInstancer;
/// use fleetward::registry::{Registries, RegistryUrl};
/// use fleetward::{Error, Instance, Instancer, RegistryHandle};
///
/// /// `hosts:a,b`: port 80 of each. A real backend returns `RegistryHandle::new(…)`.
/// async fn hosts(mut url: RegistryUrl) -> Result<RegistryHandle, Error> {
///     url.options().finish()?; // no options of its own: any that is left is an error
///     let instances = url.path().split(',').map(|host| Instance::new(format!("{host}:80")));
///     let instances = instances.collect::<Result<Vec<_>, _>>()?;
///     Ok(RegistryHandle::fixed(Arc::new(FixedInstancer::new("hosts", instances))))
/// }
///
/// let registries = Registries::new().with_scheme("hosts", hosts);
/// let shop = registries.connect("hosts:a.example,b.example").await?.service("shop")?;
/// assert_eq!(shop.subscribe().current().instances.len(), 2);
/// # Ok::<(), Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A channel or an HTTP client takes a table as `Channel::builder("hosts:a,b").registries(&registries).connect()`.
#[derive(Clone, Default)]
#[must_use]
pub struct Registries {
    schemes: BTreeMap<String, Arc<Opener>>,
    pub(crate) balancers: Balancers,
    /// Shared by all clones; a table with other schemes has its own.
    opened: Arc<Opened>,
}

static BUILT_IN: LazyLock<Registries> = LazyLock::new(Registries::new);

impl Registries {
    /// The built-in registries.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Adds a scheme, which is matched in lower case. It wins over a built-in one of the same name.
    ///
    /// `opener` gets the URL without the options that every registry has (see [`connect`](crate::connect)) and without the
    /// service's name at the end of its path, if the URL has hosts. It takes its own options and then calls
    /// [`finish`](crate::registry::Options::finish), which makes an error of those that are left.
    pub fn with_scheme<F>(
        mut self,
        scheme: &str,
        opener: impl Fn(RegistryUrl) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<RegistryHandle, Error>> + Send + 'static,
    {
        let opener = move |url| -> BoxFuture<'static, _> { Box::pin(opener(url)) };
        self.schemes.insert(scheme.to_ascii_lowercase(), Arc::new(opener));
        self.opened = Arc::default();
        self
    }

    /// Sets the balancers that a URL may name (`?balancer=…`; default: the built-in ones).
    ///
    /// ```no_run
    /// # use fleetward::balancing::{PickContext, ReadySet};
    /// # #[derive(Debug)]
    /// # struct Nearest;
    /// # impl fleetward::Balancer for Nearest {
    /// #     fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
    /// #         Some(0)
    /// #     }
    /// # }
    /// # async fn connect() -> Result<(), fleetward::Error> {
    /// use fleetward::balancers::Balancers;
    /// use fleetward::registry::Registries;
    /// let balancers = Balancers::new().with_balancer("nearest", |_| Ok(Nearest));
    /// let registries = Registries::new().with_balancers(balancers);
    /// // A channel's builder takes the table as well, and asks the balancer that the URL names.
    /// let registry = registries.connect("static:10.0.0.1:80,10.0.0.2:80?balancer=nearest").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_balancers(mut self, balancers: Balancers) -> Self {
        self.balancers = balancers;
        self.opened = Arc::default();
        self
    }

    /// Opens a registry of this table; see [`connect`](crate::connect).
    ///
    /// # Errors
    /// As [`connect`](crate::connect), and those of the scheme's own opener.
    pub async fn connect(&self, url: &str) -> Result<RegistryHandle, Error> {
        if let Some(handle) = self.opened.find(url) {
            return Ok(handle);
        }
        let handle = open(url, &self.balancers, |scheme| self.backend(scheme)).await?;
        Ok(self.opened.remember(url, handle))
    }

    /// The live view of the service that the URL names; see [`discover`](crate::discover).
    ///
    /// # Errors
    /// As [`discover`](crate::discover).
    pub async fn discover(&self, url: &str) -> Result<Arc<dyn Instancer>, Error> {
        let handle = self.connect(url).await?;
        handle.service(named(&handle)?)
    }

    /// Registers an instance of the service that the URL names; see [`register`](crate::register).
    ///
    /// # Errors
    /// As [`register`](crate::register).
    pub async fn register(&self, url: &str, instance: Instance) -> Result<Registration, Error> {
        let handle = self.connect(url).await?;
        handle.register(named(&handle)?, instance).await
    }

    /// What opens that scheme.
    fn backend(&self, scheme: &str) -> Result<Backend, Error> {
        match self.schemes.get(scheme) {
            Some(open) => Ok(Backend::Own(open.clone())),
            None => {
                let own = self.schemes.keys().map(String::as_str);
                Scheme::parse(scheme, own).map(Backend::BuiltIn)
            }
        }
    }
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries").field("schemes", &self.schemes.keys()).finish_non_exhaustive()
    }
}

fn named(handle: &RegistryHandle) -> Result<ServiceName, Error> {
    handle.default_service().cloned().ok_or_else(|| {
        Error::invalid_input(
            "the URL names no service; put its name at the end, as in etcd://127.0.0.1:2379/greeter",
        )
    })
}
