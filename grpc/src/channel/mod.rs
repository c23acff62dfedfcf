//! What a generated client is made of: balancing, retry and deadline over the connections.

mod body;
mod builder;
mod head;
mod observed;
mod observer;
mod outcome;
mod plan;
mod policy;
mod pushback;
mod rejected;
mod replay;
mod tail;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fleetward_client::{Attempts, Deadline, RequestHead};
use fleetward_core::context::{ContextCarrier, WithContext};
use fleetward_core::endpoints::Endpoints;
use fleetward_core::retry::RetryError;
use fleetward_core::{Balanced, BoxError};
use futures::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

pub use self::builder::ChannelBuilder;
pub(crate) use self::head::{Head, describe_foreign};
use self::observer::ByStatus;
use self::plan::{Defaults, Plans};
use self::policy::CallPolicy;
use self::replay::Replay;
use self::tail::Tail;
use self::waiting::is_waiting;
use crate::{Connection, ServiceConfig, deadline};

/// A load-balanced channel to one service, for any generated tonic client.
///
/// Each call goes to an instance of the balancer's choice, over a connection that stands already;
/// a call that a connection could not take goes to another one. Cloning is cheap and shares the
/// connections; they are closed when the last clone is dropped and the calls under way are done.
///
/// `poll_ready` never fails. Errors of the channel itself are [`tonic::Status`]es that name the
/// service, with a [`RetryError`](fleetward_core::retry::RetryError) as source that lists every attempt; a
/// server's own status comes through with code, message, details and metadata as they are (after
/// several attempts their number is added to the message).
///
/// ```
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
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
pub struct Channel<S = Connection> {
    /// One count to touch for each call, not one for each part.
    shared: Arc<ChannelParts<S>>,
}

#[derive(Debug)]
struct ChannelParts<S> {
    balanced: Balanced<S, ByStatus>,
    defaults: Defaults,
    /// What the defaults and the service config make of each method.
    plans: ArcSwap<Plans>,
}

impl<S> Channel<S> {
    /// The connections, ready or not: to look at them, or to wait until some stand.
    ///
    /// ```
    /// # use fleetward_core::Instance;
    /// # use fleetward_core::discovery::FixedInstancer;
    /// # use fleetward_grpc::Channel;
    /// # async fn wait(channel: Channel) {
    /// channel.endpoints().wait_for(|set| set.ready().len() >= 2).await;
    /// # }
    /// ```
    pub fn endpoints(&self) -> &Endpoints<S> {
        self.shared.balanced.endpoints()
    }

    /// Takes a service config for all calls from now on: what it says about methods and about
    /// throttling. Its balancer, outlier detection and health check are for who builds a channel.
    ///
    /// A text that cannot be read makes no [`ServiceConfig`], so the one before stays in force.
    pub fn set_service_config(&self, config: &ServiceConfig) {
        let ChannelParts { balanced, defaults, plans, .. } = &*self.shared;
        let service = balanced.endpoints().service();
        let new = Plans::new(service, config, defaults, Some(&plans.load()));
        plans.store(Arc::new(new));
    }

    /// What a call comes to that failed.
    fn failed(
        &self,
        error: RetryError,
        deadline: Option<Deadline>,
    ) -> Result<http::Response<Body>, Status> {
        let endpoints = self.endpoints();
        let service = endpoints.service();
        outcome::of(error, service, deadline, || endpoints.load().no_endpoints(service))
    }
}

impl<S> Clone for Channel<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S, B> Service<http::Request<Body>> for Channel<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // From here on, not from the first poll: the caller's clock runs already.
        let plan = self.shared.plans.load().of(request.uri().path()).clone();
        let (default, at_most) = (plan.timeout.as_ref(), plan.at_most.as_ref());
        let deadline = deadline::of(request.headers_mut(), default, at_most);
        let channel = self.clone();
        let context = request.replace_context(None);
        let (head, body) = request.into_parts();
        let head = RequestHead::new(head);
        // A block, for the future of a function holds its arguments twice.
        Box::pin(async move {
            let ChannelParts { balanced, defaults, .. } = &*channel.shared;
            let replay = Replay::new(&head, body, deadline, &defaults.common)?;
            let attempts = Attempts::new(balanced, plan.wait, is_waiting);
            let policy = CallPolicy::new(&plan, &replay);
            let at = deadline.map(|deadline| deadline.at());
            let exchange = WithContext::within(context, &replay);
            match plan.retry.call_with(attempts, &policy, at, exchange).await {
                Ok(mut response) => {
                    let head = response.body().head();
                    response.body_mut().follow(Tail::new(head, deadline, plan));
                    Ok(response.map(Body::new))
                }
                Err(error) => channel.failed(error, deadline),
            }
        })
    }
}

impl<S> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("balanced", &self.shared.balanced)
            .field("defaults", &self.shared.defaults)
            .field("throttle", &self.shared.plans.load().throttle())
            .field("replay_bytes", &self.shared.defaults.common.replay_buffer.used())
            .finish_non_exhaustive()
    }
}
