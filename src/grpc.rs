//! Load-balanced, retrying channels for tonic's generated clients.

use fleetward_core::Error;
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
/// A channel to an [`Instancer`](crate::Instancer) that is at hand is made by
/// [`build`](ChannelBuilder::build); so several channels share one registry handle.
pub trait Connect {
    /// Opens the registry ([`connect`](crate::connect)) and starts to follow the service. Nothing
    /// is awaited from the network: a registry or an instance that is down is met by the calls.
    ///
    /// # Errors
    /// As [`discover`](crate::discover).
    fn connect(self) -> impl Future<Output = Result<Channel, Error>> + Send;
}

impl<T: AsRef<str> + Send> Connect for ChannelBuilder<T> {
    async fn connect(self) -> Result<Channel, Error> {
        let instancer = crate::discover(self.target().as_ref()).await?;
        Ok(self.with_target(instancer).build())
    }
}
