//! HTTP instead of gRPC: axum servers register, a client finds them, balances over them, and tries
//! elsewhere what one of them refuses.
//!
//! `cargo run --example http --features http` shows it in one process, on the embedded registry; with
//! `--registry consul://127.0.0.1:8500/users` and the feature `consul` on a real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::serve::ListenerExt;
use axum::{Router, routing::get};
use clap::Parser;
use fleetward::balancers::RoundRobin;
use fleetward::http::{Client, Connect, RetryPolicy};
use fleetward::{Instance, InstanceId};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Calls axum servers through a registry")]
struct Args {
    /// The registry and, at the end of its path, the service's name
    #[arg(long, env = "FLEETWARD_REGISTRY", default_value = "memory:users")]
    registry: String,
    /// How many calls to make
    #[arg(long, default_value_t = 100)]
    calls: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    // One is sound, one refuses every third call, one leaves when half of the calls are made.
    let sound = Server::start(&args.registry, None).await?;
    let moody = Server::start(&args.registry, Some(3)).await?;
    let mut leaving = Some(Server::start(&args.registry, None).await?);

    let client = Client::builder(&args.registry)
        .balancer(RoundRobin::new())
        .retry(RetryPolicy::default())
        .timeout(Duration::from_secs(2))
        .connect()
        .await?;
    client.endpoints().wait_for(|set| set.ready().len() >= 3).await;

    let mut answered = BTreeMap::<String, u32>::new();
    let mut failed = 0;
    for n in 0..args.calls {
        if n == args.calls / 2
            && let Some(server) = leaving.take()
        {
            server.stop().await?;
        }
        match call(&client, n).await {
            Ok(instance) => *answered.entry(instance).or_default() += 1,
            Err(error) => {
                eprintln!("failed: {error}");
                failed += 1;
            }
        }
    }
    for (instance, calls) in &answered {
        println!("{instance} answered {calls}");
    }
    println!("{} refused {} more with 503", moody.address, moody.refused.load(Ordering::Relaxed));
    sound.stop().await?;
    moody.stop().await?;
    println!("calls={} failed={failed} instances={}", args.calls, answered.len());
    Ok(())
}

/// Which instance answered.
async fn call(client: &Client, n: u32) -> Result<String> {
    // A path is enough: which host it is, the client knows.
    let request = http::Request::get(format!("/users/{n}")).body(String::new())?;
    let response = client.send(request).await?;
    let instance = response.extensions().get::<InstanceId>().map(ToString::to_string);
    // When no attempt is left, the last response is what comes back, whatever it says.
    if response.status() != StatusCode::OK {
        return Err(format!("{instance:?}: {}", response.status()).into());
    }
    let text = response.into_body().collect().await?.to_bytes();
    if text != format!("user {n}") {
        return Err(format!("{instance:?} answered {text:?}").into());
    }
    instance.ok_or_else(|| "nobody says who answered".into())
}

/// A server that is in the registry for as long as it serves.
struct Server {
    address: SocketAddr,
    refused: Arc<AtomicU32>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Refuses every `nth` call with 503, if that is set.
    async fn start(registry: &str, nth: Option<u32>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (calls, refused) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
        let counted = refused.clone();
        let user = move |Path(id): Path<u32>| async move {
            if nth.is_some_and(|nth| calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(nth)) {
                counted.fetch_add(1, Ordering::Relaxed);
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            Ok(format!("user {id}"))
        };
        let router = Router::new().route("/users/{id}", get(user));
        let registration = fleetward::register(registry, Instance::new(address)?).await?;
        let (stop, stopped) = oneshot::channel();
        // Without it, an answer in several pieces may wait for a delayed ACK.
        let listener = listener.tap_io(|connection| {
            connection.set_nodelay(true).ok();
        });
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            stopped.await.ok();
            // Leave the registry first, then finish what is under way.
            registration.deregister().await.ok();
        });
        println!("{address} serves and is registered in {registry}");
        Ok(Self { address, refused, stop, serving: tokio::spawn(serving.into_future()) })
    }

    async fn stop(self) -> Result<()> {
        self.stop.send(()).ok();
        self.serving.await??;
        println!("{} has left", self.address);
        Ok(())
    }
}
