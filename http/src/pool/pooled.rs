//! The client of one instance: which version its connections speak, and where a request goes.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::endpoints::Readiness;
use fleetward_core::{BoxError, Error, ErrorKind};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::{Request, Response, Uri};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use tokio::time::Instant;
use tower_service::Service;

use super::body::PooledBody;
use super::call::{Http2Call, Peer};
use super::dial::{Dialer, Dialled};
use super::link::{InUse, Link};
use crate::request_body::RequestBody;

/// The client of one instance that a [`Pool`](super::Pool) makes: hyper's pooled client for HTTP/1.1, and one
/// connection that all calls share for HTTP/2.
pub struct Pooled<C = HttpConnector>
where
    C: Service<Uri>,
{
    instance: Arc<Instance<C>>,
    http1: legacy::Client<Http1Connector<C>, RequestBody>,
}

/// What is known of an instance's connections, and the one that is shared.
struct Instance<C: Service<Uri>> {
    dialer: Dialer<C>,
    speaks: Speaks,
    link: Arc<Link>,
    idle_timeout: Duration,
    /// The dial that calls wait for together.
    dial: Mutex<Option<Dial>>,
    /// A connection of HTTP/1 that was made to find out, and when.
    waiting: Mutex<Option<(C::Response, Instant)>>,
    peer: Arc<Peer>,
}

type Dial = Shared<BoxFuture<'static, Result<Version, Error>>>;

/// Which version to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// It takes a connection to know.
    Unknown,
    Http1,
    Http2,
}

/// The version that an instance spoke last.
struct Speaks(AtomicU8);

impl Speaks {
    fn get(&self) -> Version {
        match self.0.load(Ordering::Acquire) {
            1 => Version::Http1,
            2 => Version::Http2,
            _ => Version::Unknown,
        }
    }

    fn set(&self, version: Version) {
        self.0.store(version as u8, Ordering::Release);
    }
}

/// A connection that was made to find out what the server speaks is taken by the next request, unless it has
/// waited for so long: then the server may be about to close it.
const FRESH: Duration = Duration::from_secs(1);

impl<C> Instance<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    /// Connects, or waits for who does so already. The dial goes on when its caller gives up: the next one profits.
    fn dial(self: &Arc<Self>) -> Dial {
        let mut dial = self.lock_dial();
        if let Some(under_way) = &*dial {
            return under_way.clone();
        }
        let instance = self.clone();
        let task = tokio::spawn(async move {
            let over = DialOver(&instance);
            let dialled = instance.dialer.dial().await;
            let version = dialled.map(|dialled| instance.keep(dialled));
            drop(over);
            version
        });
        let begun = async move {
            task.await.map_err(|cut_off| {
                let what =
                    if cut_off.is_panic() { "the connector panicked" } else { "the runtime ends" };
                Error::new(ErrorKind::Closed, what).with_nothing_sent()
            })?
        };
        dial.insert(begun.boxed().shared()).clone()
    }

    fn lock_dial(&self) -> MutexGuard<'_, Option<Dial>> {
        self.dial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a connection where the calls find it.
    fn keep(&self, dialled: Dialled<C::Response>) -> Version {
        let version = match dialled {
            Dialled::Http1(io) => {
                let before = self.lock_waiting().replace((io, Instant::now()));
                drop(before);
                Version::Http1
            }
            Dialled::Http2(established) => {
                let in_use = self.link.connect(established, self.idle_timeout);
                drop(in_use);
                Version::Http2
            }
        };
        self.speaks.set(version);
        version
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Option<(C::Response, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_waiting(&self) -> Option<C::Response> {
        let waiting = self.lock_waiting().take();
        waiting.filter(|(_, since)| since.elapsed() < FRESH).map(|(io, _)| io)
    }
}

/// The dial of an instance is over, however it ended: the next call that needs a connection begins another.
struct DialOver<'a, C: Service<Uri>>(&'a Instance<C>);

impl<C: Service<Uri>> Drop for DialOver<'_, C> {
    fn drop(&mut self) {
        let over = self.0.dial.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(over);
    }
}

impl<C> Pooled<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    pub(super) fn new(
        dialer: Dialer<C>,
        known: Version,
        readiness: Readiness,
        idle_timeout: Duration,
        http1: &legacy::Builder,
    ) -> Self {
        let instance = Arc::new(Instance {
            dialer,
            speaks: Speaks(AtomicU8::new(known as u8)),
            link: Arc::default(),
            idle_timeout,
            dial: Mutex::new(None),
            waiting: Mutex::new(None),
            peer: Arc::new(Peer { readiness }),
        });
        let connector = Http1Connector { instance: instance.clone() };
        Self { instance, http1: http1.build(connector) }
    }

    /// Connects first, and sends the request by what the connection speaks.
    async fn dial_and_send(
        self,
        request: Request<RequestBody>,
    ) -> Result<Response<PooledBody>, BoxError> {
        for _ in 0..2 {
            match self.instance.dial().await? {
                Version::Http2 => {
                    // None if the server has closed it already.
                    if let Some(connection) = self.instance.link.current() {
                        return self.over_http2(connection, request).await;
                    }
                }
                Version::Http1 | Version::Unknown => return self.over_http1(request).await,
            }
        }
        let error = "the server closes each new connection; the request was not sent";
        Err(Error::new(ErrorKind::Unavailable, error).with_nothing_sent().into())
    }

    fn over_http2(&self, connection: InUse, request: Request<RequestBody>) -> Http2Call {
        Http2Call::new(&self.instance.peer, connection, request)
    }

    async fn over_http1(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<PooledBody>, BoxError> {
        Ok(self.http1.request(request).await?.map(PooledBody::http1))
    }
}

impl<C> Service<Request<RequestBody>> for Pooled<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = Response<PooledBody>;
    type Error = BoxError;
    type Future = PooledFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> PooledFuture {
        PooledFuture(match self.instance.speaks.get() {
            Version::Http1 => Sending::Http1(self.http1.request(request)),
            Version::Http2 | Version::Unknown => match self.instance.link.current() {
                Some(connection) => Sending::Http2(self.over_http2(connection, request)),
                None => Sending::Dialling(Box::pin(self.clone().dial_and_send(request))),
            },
        })
    }
}

impl<C: Service<Uri> + Clone> Clone for Pooled<C> {
    fn clone(&self) -> Self {
        Self { instance: self.instance.clone(), http1: self.http1.clone() }
    }
}

impl<C: Service<Uri>> fmt::Debug for Pooled<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("target", &self.instance.dialer.target)
            .field("speaks", &self.instance.speaks.get())
            .finish_non_exhaustive()
    }
}

/// The response of a [`Pooled`] client.
#[must_use = "futures do nothing unless polled"]
pub struct PooledFuture(Sending);

enum Sending {
    Http1(legacy::ResponseFuture),
    Http2(Http2Call),
    Dialling(BoxFuture<'static, Result<Response<PooledBody>, BoxError>>),
}

impl Future for PooledFuture {
    type Output = Result<Response<PooledBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Sending::Http1(response) => Pin::new(response).poll(cx).map(|result| match result {
                Ok(response) => Ok(response.map(PooledBody::http1)),
                Err(error) => Err(error.into()),
            }),
            Sending::Http2(call) => Pin::new(call).poll(cx),
            Sending::Dialling(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for PooledFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledFuture").finish_non_exhaustive()
    }
}

/// Makes the connections of hyper's pool.
struct Http1Connector<C: Service<Uri>> {
    instance: Arc<Instance<C>>,
}

impl<C: Service<Uri>> Clone for Http1Connector<C> {
    fn clone(&self) -> Self {
        Self { instance: self.instance.clone() }
    }
}

impl<C> Service<Uri> for Http1Connector<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let instance = self.instance.clone();
        Box::pin(async move {
            if let Some(io) = instance.take_waiting() {
                return Ok(io);
            }
            match instance.dialer.dial().await? {
                Dialled::Http1(io) => Ok(io),
                other => {
                    // TLS agrees on another version than before: the next request finds it.
                    instance.keep(other);
                    let error = "the server has changed to HTTP/2; the request was not sent";
                    Err(Error::new(ErrorKind::Unavailable, error).with_nothing_sent().into())
                }
            }
        })
    }
}
