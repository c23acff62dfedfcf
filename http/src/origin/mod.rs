//! One instance as a client sees it.

mod chain;
mod error;
mod sent;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_core::{BoxError, Error, Instance, InstanceId};
use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use tower_service::Service;

pub(crate) use self::chain::chain;
pub use self::error::OriginError;
pub(crate) use self::sent::Kind;
use crate::request_body::RequestBody;
use crate::response_body::ResponseBody;

/// An HTTP client `S`, pointed at one instance: what an endpoint of a [`Client`](crate::Client) is.
///
/// Each request gets the instance's scheme, host and port. An authority that its URI has already becomes
/// the `Host` header (unless there is one), so `http://shop/users` asks the instance for the host `shop`. The
/// response's extensions hold the [`InstanceId`]; an error names it.
///
/// A [`Pool`](crate::Pool) makes them. Any other client whose requests are
/// [`http::Request`]s will do. Switch its redirects off, so that the calls stay with the live instances, and
/// say so by [`without_redirects`](Self::without_redirects):
///
/// ```
/// use std::sync::Arc;
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
/// use fleetward_http::{Client, Origin, RequestBody};
/// use tower::service_fn;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("shop", [Instance::new("10.0.0.1:80")?]);
/// let client = Client::builder(list).build_on(|instance: Arc<Instance>| async move {
///     let send = service_fn(|request: http::Request<RequestBody>| async move {
///         // Here a client of yours sends it to `request.uri()`.
///         Ok::<_, std::io::Error>(http::Response::new(request.uri().to_string()))
///     });
///     Ok::<_, fleetward_core::Error>(Origin::new(&instance, send)?.without_redirects())
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

#[derive(Clone)]
struct Target {
    instance: InstanceId,
    scheme: Scheme,
    authority: Authority,
    kind: Kind,
}

impl<S> Origin<S> {
    /// Points `service` at `instance`; the scheme is the address's own, or else `http`.
    ///
    /// Nothing is known of `service`, and most clients follow redirects unless they are told not to. So no
    /// error of it is taken as proof that a request never left: the server may have carried it out, and
    /// only what it redirected to was unreachable. For the same reason no error of it counts against the
    /// instance in outlier detection. See [`without_redirects`](Self::without_redirects); or let `service` say
    /// so itself where a request never left, by an [`Error`]
    /// [`with_nothing_sent`](Error::with_nothing_sent).
    ///
    /// `service` dials by the URI, so where it speaks HTTP/2 the `:authority` is the instance's own. For
    /// requests that ask for another host over HTTP/2 use a [`Pool`](crate::Pool).
    ///
    /// # Errors
    /// [`InvalidData`](fleetward_core::ErrorKind::InvalidData) if the address makes no URI.
    pub fn new(instance: &Instance, service: S) -> Result<Self, Error> {
        Self::with(instance, Kind::Any, service)
    }

    /// Says that the service sends each request once, and to this instance: it follows no redirect and has
    /// no retry of its own.
    ///
    /// Then each of its errors counts against the instance, and a request goes elsewhere, whatever its method,
    /// if the error or one of its sources is a failure to connect: that of hyper-util's client, which reqwest
    /// keeps as a source, or an [`io::Error`](std::io::Error) of kind `ConnectionRefused`. So does one that
    /// the server refused to look at by HTTP/2's REFUSED_STREAM or GOAWAY.
    #[must_use]
    pub fn without_redirects(mut self) -> Self {
        let target = Arc::make_mut(&mut self.target);
        if matches!(target.kind, Kind::Any) {
            target.kind = Kind::OneLeg;
        }
        self
    }

    pub(crate) fn with(instance: &Instance, kind: Kind, service: S) -> Result<Self, Error> {
        let (scheme, authority) = target(instance)?;
        let instance = instance.id().clone();
        Ok(Self { target: Arc::new(Target { instance, scheme, authority, kind }), service })
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
        let given = parts.authority.take().and_then(without_userinfo);
        parts.authority = Some(match self.kind {
            Kind::Any | Kind::OneLeg => {
                let host = given.and_then(|given| HeaderValue::from_str(given.as_str()).ok());
                if let Some(host) = host {
                    headers.entry(header::HOST).or_insert(host);
                }
                self.authority.clone()
            }
            // It depends on the version that the connection speaks: hyper makes `Host` of the URI's authority in
            // HTTP/1; it is `:authority` in HTTP/2, which allows no `Host` that differs (RFC 9113, 8.3.1).
            Kind::Pooled => {
                let host = headers.remove(header::HOST);
                let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                let asked = host.and_then(without_userinfo).or(given);
                asked.unwrap_or_else(|| self.authority.clone())
            }
        });
        parts.scheme = Some(self.scheme.clone());
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        // All three parts are there, so this cannot fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// Neither `Host` nor `:authority` has userinfo (RFC 9110, section 7.2; RFC 9113, section 8.3.1).
fn without_userinfo(authority: Authority) -> Option<Authority> {
    match authority.as_str().rsplit_once('@') {
        None => Some(authority),
        Some((_, host)) => host.parse().ok(),
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
        ready.map_err(|error| {
            let error = error.into();
            OriginError::new(&self.target.instance, Kind::early(&error), error)
        })
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        self.target.direct(&mut request);
        let progress = request.body().progress().clone();
        if !matches!(self.target.kind, Kind::Pooled) {
            progress.asked();
        }
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
                Err(error) => {
                    let error = error.into();
                    let sent = target.kind.was_sent(&error, &progress);
                    Err(OriginError::new(instance, sent, error))
                }
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
