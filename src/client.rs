//! From a builder and a URL to a client, whatever its protocol.

use fleetward_core::task::current_runtime;
use fleetward_core::{Error, Factory};

use crate::registries::Registries;
use crate::target::{Located, Resolved, Target};

/// Opens a client of the service that a URL names: what the builders of gRPC's
/// [`Channel`](crate::grpc::Channel) and HTTP's [`Client`](crate::http::Client) do with a URL.
///
/// ```
/// # #[cfg(feature = "grpc")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use fleetward::Connect;
/// use fleetward::balancers::RoundRobin;
/// use fleetward::grpc::{Channel, RetryPolicy};
/// let channel = Channel::builder("memory:greeter")
///     .balancer(RoundRobin::new())
///     .retry(RetryPolicy::default())
///     .connect()
///     .await?;
/// // GreeterClient::new(channel)
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # #[cfg(feature = "http")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::time::Duration;
/// # use fleetward::Connect;
/// use fleetward::http::Client;
/// let client = Client::builder("memory:users").timeout(Duration::from_secs(2)).connect().await?;
/// // client.send(http::Request::get("/users/7").body(String::new())?).await?
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The URL's option `balancer` chooses a balancer by [name](crate::balancers::by_name) where the
/// builder has none: `etcd://10.0.0.1:2379/greeter?balancer=round_robin`, or with options of its own
/// `?balancer=ring_hash?header=user-id%26min=4096` (`%26` is the `&` between them).
///
/// A client of an [`Instancer`](crate::Instancer) that is at hand is made by `build`; so several clients share one
/// registry handle.
pub trait Connect: Sized {
    /// What is opened, on services of this type: one for each instance.
    type Client<S>;

    /// The services that are made unless others are wanted.
    type Service;

    /// The builder for a URL and the table that it is opened by.
    type Located;

    /// Opens the URL by a table of registries that knows schemes of your own.
    ///
    /// ```no_run
    /// # #[cfg(feature = "grpc")]
    /// # async fn connect(registries: fleetward::registry::Registries) -> Result<(), fleetward::Error> {
    /// use fleetward::Connect;
    /// use fleetward::grpc::Channel;
    /// let channel = Channel::builder("hosts:a.example,b.example").registries(&registries).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    fn registries(self, registries: &Registries) -> Self::Located;

    /// Opens the registry ([`connect`](crate::connect)) and starts to follow the service. Nothing
    /// is awaited from the network: a registry or an instance that is down is met by the calls.
    ///
    /// # Errors
    /// As [`discover`](crate::discover); [`Unsupported`](crate::ErrorKind::Unsupported) outside of a tokio
    /// runtime.
    fn connect(self) -> impl Future<Output = Result<Self::Client<Self::Service>, Error>> + Send;

    /// As [`connect`](Self::connect), on what `factory` makes of each instance; see the builder's `build_on`.
    ///
    /// ```
    /// # #[cfg(feature = "grpc")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use fleetward::Connect;
    /// use fleetward::grpc::Channel;
    /// use fleetward::limit::ConcurrencyLimit;
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
    ) -> impl Future<Output = Result<Self::Client<S>, Error>> + Send;
}

#[cfg(feature = "grpc")]
impl<T: Target> Connect for fleetward_grpc::ChannelBuilder<T> {
    type Client<S> = fleetward_grpc::Channel<S>;
    type Service = fleetward_grpc::Connection;
    type Located = fleetward_grpc::ChannelBuilder<Located>;

    fn registries(self, registries: &Registries) -> Self::Located {
        let located = self.target().located(registries);
        self.with_target(located)
    }

    async fn connect(self) -> Result<Self::Client<Self::Service>, Error> {
        let connector = self.connector();
        self.connect_on(connector).await
    }

    async fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> Result<Self::Client<S>, Error> {
        current_runtime("connect")?;
        let Resolved { instancer, balancer } = self.target().resolve().await?;
        let builder = self.with_target(instancer);
        Ok(match balancer {
            Some(balancer) => builder.balancer_or(|| balancer),
            None => builder,
        }
        .build_on(factory))
    }
}

#[cfg(feature = "http")]
impl<T: Target> Connect for fleetward_http::ClientBuilder<T> {
    type Client<S> = fleetward_http::Client<S>;
    type Service = fleetward_http::Origin<fleetward_http::Pooled>;
    type Located = fleetward_http::ClientBuilder<Located>;

    fn registries(self, registries: &Registries) -> Self::Located {
        let located = self.target().located(registries);
        self.with_target(located)
    }

    async fn connect(self) -> Result<Self::Client<Self::Service>, Error> {
        self.connect_on(fleetward_http::Pool::new()).await
    }

    async fn connect_on<S: Clone + Send + Sync + 'static>(
        self,
        factory: impl Factory<S>,
    ) -> Result<Self::Client<S>, Error> {
        current_runtime("connect")?;
        let Resolved { instancer, balancer } = self.target().resolve().await?;
        let builder = self.with_target(instancer);
        Ok(match balancer {
            Some(balancer) => builder.balancer_or(|| balancer),
            None => builder,
        }
        .build_on(factory))
    }
}
