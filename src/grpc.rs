//! Load-balanced, retrying channels for tonic's generated clients.

use fleetward_core::task::current_runtime;
use fleetward_core::{Error, Factory};
pub use fleetward_grpc::*;

use crate::registries::Registries;
use crate::target::{Located, Target};

/// Opens a channel to the service that a URL names.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use fleetward::balancers::RoundRobin;
/// use fleetward::grpc::{Channel, Connect, RetryPolicy};
/// let channel = Channel::builder("memory:greeter")
///     .balancer(RoundRobin::new())
///     .retry(RetryPolicy::default())
///     .connect()
///     .await?;
/// // GreeterClient::new(channel)
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The URL's option `balancer` chooses a balancer by [name](crate::balancers::by_name) where the
/// builder has none: `etcd://10.0.0.1:2379/greeter?balancer=round_robin`, or with options of its own
/// `?balancer=ring_hash?header=user-id%26min=4096` (`%26` is the `&` between them).
///
/// A channel to an [`Instancer`](crate::Instancer) that is at hand is made by
/// [`build`](ChannelBuilder::build); so several channels share one registry handle.
pub trait Connect: Sized {
    /// Opens the URL by a table of registries that knows schemes of your own.
    ///
    /// ```no_run
    /// # async fn connect(registries: fleetward::registry::Registries) -> Result<(), fleetward::Error> {
    /// use fleetward::grpc::{Channel, Connect};
    /// let channel = Channel::builder("hosts:a.example,b.example").registries(&registries).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    fn registries(self, registries: &Registries) -> ChannelBuilder<Located>;

    /// Opens the registry ([`connect`](crate::connect)) and starts to follow the service. Nothing
    /// is awaited from the network: a registry or an instance that is down is met by the calls.
    ///
    /// # Errors
    /// As [`discover`](crate::discover); [`Unsupported`](crate::ErrorKind::Unsupported) outside of a tokio
    /// runtime.
    fn connect(self) -> impl Future<Output = Result<Channel, Error>> + Send;

    /// As [`connect`](Self::connect), on what `factory` makes of each instance; see
    /// [`build_on`](ChannelBuilder::build_on).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use fleetward::limit::ConcurrencyLimit;
    /// use fleetward::grpc::{Channel, Connect};
    /// let builder = Channel::builder("memory:greeter");
    /// let limited = ConcurrencyLimit::new(100).per_instance(builder.connector());
    /// let channel = builder.connect_on(limited).await?;
    /// # Ok::<(), fleetward::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`discover`](crate::discover); [`Unsupported`](crate::ErrorKind::Unsupported) outside of a tokio
    /// runtime.
    fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> impl Future<Output = Result<Channel<S>, Error>> + Send;
}

impl<T: Target> Connect for ChannelBuilder<T> {
    fn registries(self, registries: &Registries) -> ChannelBuilder<Located> {
        let located = self.target().located(registries);
        self.with_target(located)
    }

    async fn connect(self) -> Result<Channel, Error> {
        let connector = self.connector();
        self.connect_on(connector).await
    }

    async fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> Result<Channel<S>, Error> {
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
