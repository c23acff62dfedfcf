//! One instance as a client sees it.

mod error;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_core::{BoxError, Error, Instance, InstanceId};
use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use tower_service::Service;

pub use self::error::OriginError;
pub(crate) use self::error::chain;
use crate::request_body::RequestBody;
use crate::response_body::ResponseBody;

/// An HTTP client `S`, pointed at one instance: what an endpoint of a [`Client`](crate::Client) is.
///
/// Each request gets the instance's scheme, host and port. An authority that its URI has already becomes
/// the `Host` header (unless there is one), so `http://shop/users` asks the instance for the host `shop`. The
/// response's extensions hold the [`InstanceId`]; an error names it.
///
/// A [`Pool`](crate::Pool) makes them on hyper's pooled client. Any other client whose requests are
/// [`http::Request`]s will do:
///
/// ```
/// use std::sync::Arc;
/// use fleetward_core::{FixedInstancer, Instance};
/// use fleetward_http::{Client, Origin, RequestBody};
/// use tower::service_fn;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("shop", [Instance::new("10.0.0.1:80")?]);
/// let client = Client::builder(list).build_on(|instance: Arc<Instance>| async move {
///     Origin::new(&instance, service_fn(|request: http::Request<RequestBody>| async move {
///         // Here a client of yours sends it to `request.uri()`.
///         Ok::<_, std::io::Error>(http::Response::new(request.uri().to_string()))
///     }))
/// });
/// let request = http::Request::get("/users/7").body(String::new())?;
/// let response = client.send(request).await?;
/// # use http_body_util::BodyExt;
/// # let text = response.into_body().collect().await?.to_bytes();
/// # assert_eq!(text, "http://10.0.0.1:80/users/7");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Origin<S> {
    target: Arc<Target>,
    service: S,
}

struct Target {
    instance: InstanceId,
    scheme: Scheme,
    authority: Authority,
    dialling: Dialling,
}

/// Who finds the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialling {
    /// The service, by the request's URI.
    ByUri,
    /// The service knows; the URI only says what to ask for.
    Known { http2: bool },
}

impl<S> Origin<S> {
    /// Points `service` at `instance`; the scheme is the address's own, or else `http`.
    ///
    /// # Errors
    /// [`InvalidData`](fleetward_core::ErrorKind::InvalidData) if the address makes no URI.
    pub fn new(instance: &Instance, service: S) -> Result<Self, Error> {
        Self::with(instance, Dialling::ByUri, service)
    }

    pub(crate) fn with(instance: &Instance, dialling: Dialling, service: S) -> Result<Self, Error> {
        let (scheme, authority) = target(instance)?;
        let instance = instance.id().clone();
        Ok(Self { target: Arc::new(Target { instance, scheme, authority, dialling }), service })
    }
}

/// The scheme and the authority of an instance's address.
pub(crate) fn target(instance: &Instance) -> Result<(Scheme, Authority), Error> {
    let address = instance.address();
    let bad = |error: http::uri::InvalidUri| {
        Error::invalid_data("the address makes no URI")
            .with_context("address", address)
            .with_source(error)
    };
    let scheme = address.scheme().unwrap_or("http").parse().map_err(bad)?;
    Ok((scheme, address.authority().parse().map_err(bad)?))
}

impl Target {
    fn direct(&self, request: &mut Request<RequestBody>) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        let headers = request.headers_mut();
        let given = parts.authority.take();
        parts.authority = Some(match self.dialling {
            Dialling::ByUri => {
                // Without userinfo, which a Host has not (RFC 9110, section 7.2).
                let host = given.as_ref().map(|given| match given.as_str().rsplit_once('@') {
                    Some((_, host)) => host,
                    None => given.as_str(),
                });
                if let Some(Ok(host)) = host.map(HeaderValue::from_str) {
                    headers.entry(header::HOST).or_insert(host);
                }
                self.authority.clone()
            }
            // HTTP/2 has the authority in the URI's place, and no other one beside it (RFC 9113,
            // section 8.3.1).
            Dialling::Known { http2: true } => {
                let host = headers.remove(header::HOST);
                let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                host.or(given).unwrap_or_else(|| self.authority.clone())
            }
            // hyper makes the Host of it.
            Dialling::Known { http2: false } => given.unwrap_or_else(|| self.authority.clone()),
        });
        parts.scheme = Some(self.scheme.clone());
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        // All three parts are there, so this cannot fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

impl<S, B> Service<Request<RequestBody>> for Origin<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body,
{
    type Response = Response<ResponseBody<B>>;
    type Error = OriginError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody<B>>, OriginError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OriginError>> {
        let ready = self.service.poll_ready(cx);
        ready.map_err(|error| OriginError::early(&self.target.instance, error.into()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        self.target.direct(&mut request);
        let response = self.service.call(request);
        let target = self.target.clone();
        Box::pin(async move {
            let instance = &target.instance;
            match response.await {
                Ok(response) => {
                    let mut response =
                        response.map(|body| ResponseBody::new(body, instance.clone()));
                    response.extensions_mut().insert(instance.clone());
                    Ok(response)
                }
                Err(error) => Err(OriginError::late(instance, error.into())),
            }
        })
    }
}

impl<S> fmt::Debug for Origin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("instance", &self.target.instance)
            .field("scheme", &self.target.scheme)
            .field("authority", &self.target.authority)
            .finish_non_exhaustive()
    }
}
