//! The contenders: ways to make the same call to the same three servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_balancers::{PeakEwma, RoundRobin};
use fleetward_core::Instance;
use fleetward_core::discovery::FixedInstancer;
use fleetward_grpc::{Channel as Ours, RetryPolicy};
use futures::future::BoxFuture;
use http::Uri;
use http::uri::{Authority, Scheme};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use super::load::{self, Load, Sample};
use crate::error::{Error, Result};

/// One of the contenders, connected.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    run: Runner,
}

type Runner = Box<dyn Fn(Load) -> BoxFuture<'static, Result<Sample>>>;

impl Client {
    fn new<T: load::Callable>(name: &'static str, in_turn: Vec<Grpc<T>>) -> Self {
        let run =
            move |load| -> BoxFuture<'static, _> { Box::pin(load::run(in_turn.clone(), load)) };
        Self { name, run: Box::new(run) }
    }

    pub(crate) async fn run(&self, load: Load) -> Result<Sample> {
        (self.run)(load).await
    }
}

pub(crate) const BALANCE_CHANNEL: &str = "tonic `balance_channel`";
pub(crate) const CHANNELS: &str = "three tonic `Channel`s in turn";
pub(crate) const FLOOR: &str = "three hyper `SendRequest`s in turn";
pub(crate) const ROUND_ROBIN: &str = "fleetward, round robin";
pub(crate) const OVER_HYPER: &str = "fleetward, round robin, over hyper `SendRequest`s";
pub(crate) const EVERYTHING: &str = "fleetward, Peak EWMA + retry + deadline";

pub(crate) async fn all(servers: &[SocketAddr]) -> Result<Vec<Client>> {
    let (mut channels, mut floor) = (Vec::new(), Vec::new());
    for server in servers {
        channels.push(Grpc::new(endpoint(server)?.connect().await?));
        let origin = Uri::try_from(format!("http://{server}"))?;
        floor.push(Grpc::with_origin(Floor::connect(server).await?, origin));
    }
    Ok(vec![
        Client::new(BALANCE_CHANNEL, vec![Grpc::new(balance_channel(servers).await?)]),
        Client::new(CHANNELS, channels),
        Client::new(FLOOR, floor),
        Client::new(ROUND_ROBIN, vec![Grpc::new(round_robin(servers).await?)]),
        Client::new(OVER_HYPER, vec![Grpc::new(over_hyper(servers).await?)]),
        Client::new(EVERYTHING, vec![Grpc::new(everything(servers).await?)]),
    ])
}

fn endpoint(server: &SocketAddr) -> Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("http://{server}"))?)
}

async fn balance_channel(servers: &[SocketAddr]) -> Result<Channel> {
    let (channel, changes) = Channel::balance_channel(16);
    for server in servers {
        changes.send(Change::Insert(*server, endpoint(server)?)).await?;
    }
    // The set is complete; without the sender it would end.
    Box::leak(Box::new(changes));
    Ok(channel)
}

fn list(servers: &[SocketAddr]) -> Result<FixedInstancer> {
    let instances = servers.iter().map(|server| Instance::new(*server));
    Ok(FixedInstancer::new("echo", instances.collect::<std::result::Result<Vec<_>, _>>()?))
}

async fn round_robin(servers: &[SocketAddr]) -> Result<Ours> {
    let ours = Ours::builder(list(servers)?).balancer(RoundRobin::new()).build();
    connected(ours, servers.len()).await
}

async fn everything(servers: &[SocketAddr]) -> Result<Ours> {
    let ours = Ours::builder(list(servers)?)
        .balancer(PeakEwma::new())
        .retry(RetryPolicy::default())
        .timeout(Duration::from_secs(10))
        .build();
    connected(ours, servers.len()).await
}

/// Our channel with hyper's connections in place of ours: what ours are worth.
async fn over_hyper(servers: &[SocketAddr]) -> Result<Ours<OverHyper>> {
    let connect = |instance: Arc<Instance>| async move {
        let authority = instance.address().authority();
        let floor = Floor::connect(&authority.parse()?).await?;
        Ok::<_, Error>(OverHyper { floor, authority: authority.parse()? })
    };
    let ours = Ours::builder(list(servers)?).balancer(RoundRobin::new()).build_on(connect);
    connected(ours, servers.len()).await
}

async fn connected<S>(ours: Ours<S>, count: usize) -> Result<Ours<S>>
where
    S: Clone + Send + Sync + 'static,
{
    let all = ours.endpoints().wait_for(|set| set.ready().len() == count);
    tokio::time::timeout(Duration::from_secs(10), all).await?;
    Ok(ours)
}

/// hyper's sender as a service and nothing else: what any client over hyper has to pay.
#[derive(Clone)]
struct Floor {
    sender: SendRequest<Body>,
    _connection: Arc<tokio::task::JoinHandle<()>>,
}

impl Floor {
    async fn connect(server: &SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, _connection: Arc::new(connection) })
    }
}

impl Service<http::Request<Body>> for Floor {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, hyper::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// A [`Floor`] that completes a request as our connection does.
#[derive(Clone)]
struct OverHyper {
    floor: Floor,
    authority: Authority,
}

impl Service<http::Request<Body>> for OverHyper {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, hyper::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.floor.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        // All three parts are there, so this cannot fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        self.floor.call(request)
    }
}
