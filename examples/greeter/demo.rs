//! The whole of it in one process: three servers register, one dies, one joins, no call fails.

use std::time::Duration;

use fleetward::Instancer;
use fleetward::grpc::{Channel, RetryPolicy};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::Result;
use crate::client::call;
use crate::pb::greet_client::GreetClient;
use crate::server::{register, serve};
use crate::tally::Tally;

const REGISTRY: &str = "memory:greeter";
const TTL: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(20);
/// The calls of each phase.
const CALLS: u32 = 50;
/// The most further attempts, while the registry has still to notice who died.
const MORE_CALLS: u32 = 500;

pub(crate) async fn run() -> Result<bool> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start().await?);
    }
    let instancer = fleetward::discover(REGISTRY).await?;
    let mut live = instancer.subscribe();
    let channel = Channel::builder(instancer).retry(RetryPolicy::default()).build();
    let mut greeter = GreetClient::new(channel);
    let mut tally = Tally::new(&["three serve", "one died", "one joined"]);

    for phase in 0..3 {
        match phase {
            0 => live.wait_for(|set| set.instances.len() == 3).await.map(drop)?,
            1 => servers.swap_remove(0).die(),
            _ => servers.push(Server::start().await?),
        }
        let addresses: Vec<_> = servers.iter().map(|server| server.address.clone()).collect();
        let settled = || {
            let set = live.current();
            let known = |address| set.instances.iter().any(|i| i.id().as_str() == address);
            set.instances.len() == addresses.len() && addresses.iter().all(|a| known(a.as_str()))
        };
        // In the last phase, until the registry has seen the dead one's lease run out.
        let mut calls = 0;
        while calls < CALLS || (phase == 2 && !settled() && calls < MORE_CALLS) {
            call(&mut greeter, Duration::from_secs(5), &mut tally, phase).await;
            calls += 1;
            tokio::time::sleep(INTERVAL).await;
        }
    }
    print!("{tally}");
    let instances = live.current().instances.len();
    println!("calls={} failed={} instances={instances}", tally.calls(), tally.failed());
    Ok(tally.failed() == 0 && instances == 3)
}

/// A server with a runtime of its own, so that it can die as a process does: without a word.
struct Server {
    address: String,
    runtime: Option<Runtime>,
}

impl Server {
    async fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let started = runtime.spawn(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let bound = listener.local_addr()?;
            let registration = register(REGISTRY, &bound.to_string(), TTL).await?;
            println!("{bound} serves and is registered in {REGISTRY}");
            tokio::spawn(serve(listener, bound, registration, std::future::pending()));
            Result::<_>::Ok(bound)
        });
        Ok(Self { address: started.await??.to_string(), runtime: Some(runtime) })
    }

    fn die(self) {
        println!("{} dies without deregistering", self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Every task is dropped where it stands; nothing says goodbye to the registry.
            runtime.shutdown_background();
        }
    }
}
