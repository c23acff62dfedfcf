//! Load-balanced, retrying channels for tonic's generated clients.

use fleetward_core::registry::RegistryUrl;
use fleetward_core::task::current_runtime;
use fleetward_core::{Error, Factory};
pub use fleetward_grpc::*;

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

impl<T: AsRef<str> + Send> Connect for ChannelBuilder<T> {
    async fn connect(self) -> Result<Channel, Error> {
        let connector = self.connector();
        self.connect_on(connector).await
    }

    async fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> Result<Channel<S>, Error> {
        current_runtime("connect")?;
        let url = self.target().as_ref();
        let instancer = crate::discover(url).await?;
        let balancer = crate::connect::balancer(RegistryUrl::parse(url)?.options())?;
        let builder = self.with_target(instancer);
        Ok(match balancer {
            Some(balancer) => builder.balancer_or(|| balancer),
            None => builder,
        }
        .build_on(factory))
    }
}
