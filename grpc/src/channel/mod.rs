//! What a generated client is made of: balancing, retry and deadline over the connections.

mod attempts;
mod builder;
mod cover;
mod head;
mod observer;
mod outcome;
mod policy;
mod request;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::{Balanced, Endpointer, Instancer, Retry};
use futures::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use self::attempts::Attempts;
pub use self::builder::ChannelBuilder;
use self::observer::ByStatus;
use self::policy::CallPolicy;
use self::request::Replay;
use crate::deadline::Deadline;
use crate::{Connection, RetryPolicy};

/// A load-balanced channel to one service, for any generated tonic client.
///
/// Each call goes to an instance of the balancer's choice, over a connection that stands already;
/// a call that a connection could not take goes to another one. Cloning is cheap and shares the
/// connections; they are closed when the last clone is dropped and the calls under way are done.
///
/// `poll_ready` never fails. Errors of the channel itself are [`tonic::Status`]es that name the
/// service, with a [`RetryError`](fleetward_core::RetryError) as source that lists every attempt; a
/// server's own status comes through with code, message, details and metadata as they are (after
/// several attempts their number is added to the message).
///
/// ```
/// use fleetward_core::{FixedInstancer, Instance};
/// use fleetward_grpc::{Channel, RetryPolicy};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("greeter", [Instance::new("127.0.0.1:50051")?]);
/// let channel = Channel::builder(list).retry(RetryPolicy::default()).build();
/// // A generated `GreeterClient::new(channel)` wraps just this:
/// let client = tonic::client::Grpc::new(channel);
/// # Ok::<(), fleetward_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Channel {
    /// One count to touch for each call, not one for each part.
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    balanced: Balanced<Connection, ByStatus>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    retry: Option<RetryPolicy>,
    timeout: Option<Duration>,
    replay_limit: usize,
}

impl Channel {
    /// A channel with the default settings to the instances that `instancer` names. Returns at once;
    /// calls wait for the first connection.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(instancer: impl Instancer) -> Self {
        Self::builder(instancer).build()
    }

    /// Sets up a channel to `target`: an [`Instancer`], or what will be exchanged for one.
    pub fn builder<T>(target: T) -> ChannelBuilder<T> {
        ChannelBuilder::new(target)
    }

    /// The connections, ready or not: to look at them, or to wait until some stand.
    ///
    /// ```
    /// # use fleetward_core::{FixedInstancer, Instance};
    /// # use fleetward_grpc::Channel;
    /// # async fn wait(channel: Channel) {
    /// channel.endpointer().wait_for(|set| set.ready().len() >= 2).await;
    /// # }
    /// ```
    pub fn endpointer(&self) -> &Endpointer<Connection> {
        self.shared.balanced.endpointer()
    }

    async fn run(
        self,
        request: http::Request<Body>,
        deadline: Option<Deadline>,
    ) -> Result<http::Response<Body>, Status> {
        let service = self.endpointer().service().clone();
        let replay = Replay::new(request, deadline, self.shared.settings.replay_limit)?;
        let mut attempts = self.retry(&replay).layer(Attempts::new(self.shared.clone()));
        let response = match attempts.call(replay).await {
            Ok(response) => response,
            Err(error) => {
                let no_endpoints = || self.endpointer().load().no_endpoints(&service);
                outcome::of(error, &service, deadline, no_endpoints)?
            }
        };
        Ok(match deadline {
            Some(deadline) => cover::cover(response, deadline, service),
            None => response,
        })
    }

    /// The attempts of one call: its own deadline, and what can be done with its request.
    fn retry(&self, replay: &Replay) -> Retry<CallPolicy> {
        let policy = self.shared.settings.retry.as_ref().filter(|_| replay.is_whole());
        let mut retry = Retry::with_policy(CallPolicy::new(policy.cloned(), replay.is_whole()))
            .max_attempts(policy.map_or(1, RetryPolicy::max_attempts));
        if let Some(policy) = policy {
            retry = retry.backoff(policy.backoff().clone());
        }
        if let Some(timeout) = policy.and_then(RetryPolicy::per_attempt_timeout) {
            retry = retry.per_attempt_timeout(timeout);
        }
        match replay.deadline() {
            Some(deadline) => retry.timeout(deadline.left()),
            None => retry,
        }
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // From here on, not from the first poll: the caller's clock runs already.
        let deadline = Deadline::of(request.headers(), self.shared.settings.timeout);
        Box::pin(self.clone().run(request, deadline))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("balanced", &self.shared.balanced)
            .field("settings", &self.shared.settings)
            .finish()
    }
}
