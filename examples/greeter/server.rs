//! A server that is in the registry for as long as it serves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use fleetward::{Instance, RegisterOptions, Registration};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::Result;
use crate::pb::greet_server::{Greet, GreetServer};
use crate::pb::{GreetRequest, GreetResponse};

/// How long calls under way may take once the server has left the registry.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct ServerArgs {
    /// The registry and, at the end of its path, the service's name
    #[arg(long, env = "FLEETWARD_REGISTRY")]
    registry: String,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The address to register, host:port, if clients reach this server by another one
    #[arg(long)]
    advertise: Option<String>,
    /// How long the registration outlives a server that dies
    #[arg(long, default_value = "10s")]
    ttl: humantime::Duration,
}

pub(crate) async fn run(args: ServerArgs) -> Result<()> {
    let listening = (args.host, args.port);
    let listener = TcpListener::bind(listening).await.map_err(|error| {
        format!("cannot listen on {}:{} ({error}); try another --port", args.host, args.port)
    })?;
    let bound = listener.local_addr()?;
    let advertised = match args.advertise {
        Some(advertised) => advertised,
        None if bound.ip().is_unspecified() => {
            return Err(format!("nobody can call {bound}; give the address that clients reach: --advertise 10.0.0.1:{}", bound.port()).into());
        }
        None => bound.to_string(),
    };
    let registration = register(&args.registry, &advertised, *args.ttl).await?;
    println!("serving on {bound}, registered as {advertised}");
    serve(listener, bound, registration, signalled()).await?;
    println!("deregistered and drained");
    Ok(())
}

pub(crate) async fn register(url: &str, address: &str, ttl: Duration) -> Result<Registration> {
    let registry = fleetward::connect(url).await?;
    let service = registry.default_service().cloned();
    let service = service.ok_or("the URL names no service; end it with /greeter")?;
    let options = RegisterOptions::default().with_ttl(ttl);
    Ok(registry.register_with(service, Instance::new(address)?, options).await?)
}

/// Serves until `stop` completes; then leaves the registry first and drains after that.
pub(crate) async fn serve(
    listener: TcpListener,
    bound: SocketAddr,
    registration: Registration,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<GreetServer<Greeter>>().await;
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    // Without it, answers to calls that overlap may wait for a delayed ACK.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .add_service(health)
        .add_service(GreetServer::new(Greeter { from: bound.to_string() }))
        .serve_with_incoming_shutdown(incoming, async {
            stop.await;
            reporter.set_not_serving::<GreetServer<Greeter>>().await;
            if let Err(error) = registration.deregister().await {
                eprintln!("could not deregister ({error}); the registration ends with its TTL");
            }
            let _ = stopping.send(());
        });
    let mut server = std::pin::pin!(server);
    tokio::select! {
        served = &mut server => served?,
        _ = stopped => match tokio::time::timeout(DRAIN, server).await {
            Ok(served) => served?,
            Err(_) => eprintln!("some calls were still under way after {DRAIN:?}"),
        },
    }
    Ok(())
}

struct Greeter {
    from: String,
}

impl Greeter {
    fn greet(&self, time: &str, request: Request<GreetRequest>) -> Response<GreetResponse> {
        let message = format!("Good {time}, {}!", request.into_inner().name);
        Response::new(GreetResponse { message, from: self.from.clone() })
    }
}

#[tonic::async_trait]
impl Greet for Greeter {
    async fn morning(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        Ok(self.greet("morning", request))
    }

    async fn night(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        Ok(self.greet("night", request))
    }
}

/// SIGTERM (what an orchestrator sends) or ctrl-c.
async fn signalled() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = terminated => {}
    }
}
