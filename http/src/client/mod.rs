//! Balancing, retry and deadline over the clients of the instances.

mod builder;
mod call;
mod outcome;
mod policy;
mod rejected;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleetward_client::{Attempts, Deadline};
use fleetward_core::context::{ContextCarrier, WithContext};
use fleetward_core::endpoints::Endpoints;
use fleetward_core::{Balanced, BoxError, Error, Retry};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

pub use self::builder::ClientBuilder;
use self::call::Call;
use self::policy::CallPolicy;
use self::settings::Settings;
use crate::{ByStatus, Origin, Pooled, RequestBody, ResponseBody, deadline};

/// A load-balanced HTTP client of one service.
///
/// Each request goes to an instance of the balancer's choice and, by the [`RetryPolicy`](crate::RetryPolicy), to other ones.
/// A URI needs no more than a path. It is a tower service for requests with any body of bytes, always
/// ready; cloning is cheap and shares everything.
///
/// A server's response is returned as it came, whatever its status; the [`InstanceId`] that sent it is in
/// its extensions, and so is the [`RetryError`] with every attempt, if all attempts have failed. Where later
/// attempts fail without a response, or the deadline passes meanwhile, that is the last response that came; its body may
/// be read for a second more then, and is lost if another attempt went on for ten. An error
/// means that there is no response at all. It names the service, says by its
/// [`kind`](fleetward_core::Error::kind) whether a deadline passed, no endpoint was found or the instances
/// could not be reached, and has the [`RetryError`] as its source.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
/// use fleetward_http::{Client, RetryPolicy};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("shop", [Instance::new("10.0.0.1:80")?]);
/// let client = Client::builder(list)
///     .retry(RetryPolicy::default())
///     .timeout(Duration::from_secs(2))
///     .build();
/// let request = http::Request::get("/users/7").body(String::new())?;
/// # if false {
/// let response = client.send(request).await?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// [`InstanceId`]: fleetward_core::InstanceId
/// [`RetryError`]: fleetward_core::retry::RetryError
pub struct Client<S = Origin<Pooled>> {
    /// One count to touch for each call, not one for each part.
    shared: Arc<ClientParts<S>>,
}

struct ClientParts<S> {
    balanced: Balanced<S, ByStatus>,
    settings: Settings,
    /// For requests that are sent again by policy, and for those that are not.
    retried: Retry<()>,
    once: Retry<()>,
}

/// How long the body may be read of a response that is returned because the deadline has passed.
const GRACE: Duration = Duration::from_secs(1);

impl<S> Client<S> {
    /// The instances' clients, ready or not: to look at them, or to wait until there are some.
    pub fn endpoints(&self) -> &Endpoints<S> {
        self.shared.balanced.endpoints()
    }
}

impl<S, B> Client<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody<B>>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request; the same as calling it as a service.
    ///
    /// # Errors
    /// When there is no response: see [`Client`].
    pub fn send<R>(
        &self,
        request: Request<R>,
    ) -> impl Future<Output = Result<Response<ResponseBody<B>>, Error>> + Send + 'static + use<S, B, R>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        // From here on, not from the first poll: the caller's clock runs already.
        let timeout = self.shared.settings.common.timeout;
        let deadline = deadline::of(request.extensions(), timeout);
        self.clone().run(request, deadline)
    }

    async fn run<R>(
        self,
        mut request: Request<R>,
        mut deadline: Option<Deadline>,
    ) -> Result<Response<ResponseBody<B>>, Error>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let service = self.endpoints().service().clone();
        let context = request.replace_context(None);
        let ClientParts { balanced, settings, retried, once } = &*self.shared;
        let call = Call::new(request, settings)
            .map_err(|error| outcome::caller(error).with_context("service", &service))?;
        let retry = if call.policy().is_some() { retried } else { once };
        // How far a request has come is seen by its body.
        let attempts = Attempts::new(balanced, settings.common.wait_for_ready, |_| false);
        let policy = CallPolicy::new(&call, self.endpoints());
        let at = deadline.as_ref().map(Deadline::at);
        let exchange = WithContext::within(context, &call);
        let mut response = match call.run(retry.call_with(attempts, &policy, at, exchange)).await {
            Ok(response) => response,
            Err(error) => match call.take_rejected() {
                Some(mut response) => {
                    deadline = deadline.map(|deadline| deadline.or_in(GRACE));
                    response.extensions_mut().insert(error);
                    response
                }
                None => {
                    let no_endpoints = || self.endpoints().load().no_endpoints(&service);
                    return Err(outcome::of(error, &service, no_endpoints));
                }
            },
        };
        if let Some(deadline) = deadline {
            response.body_mut().cover(deadline, service);
        }
        Ok(response)
    }
}

impl<S, B, R> Service<Request<R>> for Client<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody<B>>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<ResponseBody<B>>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("balanced", &self.shared.balanced)
            .field("settings", &self.shared.settings)
            .finish()
    }
}
