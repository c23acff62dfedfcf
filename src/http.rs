//! Load-balanced, retrying HTTP clients.

use fleetward_core::task::current_runtime;
use fleetward_core::{Error, Factory};
pub use fleetward_http::*;

use crate::registries::Registries;
use crate::target::{Located, Target};

/// Opens a client of the service that a URL names.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::time::Duration;
/// use fleetward::http::{Client, Connect, RetryPolicy};
/// let client = Client::builder("memory:users")
///     .retry(RetryPolicy::default())
///     .timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// // client.send(http::Request::get("/users/7").body(String::new())?).await?
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The URL's option `balancer` chooses a balancer by [name](crate::balancers::by_name) where the
/// builder has none.
///
/// A client of an [`Instancer`](crate::Instancer) that is at hand is made by [`build`](ClientBuilder::build); so several
/// clients share one registry handle.
pub trait Connect: Sized {
    /// Opens the URL by a table of registries that knows schemes of your own.
    ///
    /// ```no_run
    /// # async fn connect(registries: fleetward::registry::Registries) -> Result<(), fleetward::Error> {
    /// use fleetward::http::{Client, Connect};
    /// let client = Client::builder("hosts:a.example,b.example").registries(&registries).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    fn registries(self, registries: &Registries) -> ClientBuilder<Located>;

    /// Opens the registry ([`connect`](crate::connect)) and starts to follow the service. Nothing
    /// is awaited from the network: a registry or an instance that is down is met by the calls.
    ///
    /// # Errors
    /// As [`discover`](crate::discover); [`Unsupported`](crate::ErrorKind::Unsupported) outside of a tokio
    /// runtime.
    fn connect(self) -> impl Future<Output = Result<Client, Error>> + Send {
        self.connect_on(Pool::new())
    }

    /// As [`connect`](Self::connect), with a client for each instance that `factory` makes; see
    /// [`build_on`](ClientBuilder::build_on).
    ///
    /// # Errors
    /// As [`discover`](crate::discover); [`Unsupported`](crate::ErrorKind::Unsupported) outside of a tokio
    /// runtime.
    fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> impl Future<Output = Result<Client<S>, Error>> + Send;
}

impl<T: Target> Connect for ClientBuilder<T> {
    fn registries(self, registries: &Registries) -> ClientBuilder<Located> {
        let located = self.target().located(registries);
        self.with_target(located)
    }

    async fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> Result<Client<S>, Error> {
        current_runtime("connect")?;
        let resolved = self.target().resolve().await?;
        let builder = self.with_target(resolved.instancer);
        Ok(match resolved.balancer {
            Some(balancer) => builder.balancer_or(|| balancer),
            None => builder,
        }
        .build_on(factory))
    }
}
