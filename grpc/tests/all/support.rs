//! What the tests share.

use std::net::SocketAddr;
use std::time::Duration;

use fleetward_core::Instance;
use fleetward_core::backoff::Backoff;
use fleetward_core::discovery::Publisher;
use fleetward_grpc::{Channel, ChannelBuilder, ConnectionConfig};
use fleetward_testkit::HeldAddress;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::greet::GreetRequest;
use crate::greet::greet_client::GreetClient;
use crate::server::Server;

/// Longer than anything may take that is to happen at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn publisher<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Publisher {
    let publisher = Publisher::new("greeter");
    publisher.publish(servers.into_iter().map(Server::instance));
    publisher
}

pub(crate) fn builder<'a>(
    servers: impl IntoIterator<Item = &'a Server>,
) -> ChannelBuilder<Publisher> {
    Channel::builder(publisher(servers))
}

/// Notices soon that a server is down, and that it is back.
pub(crate) fn quick() -> ConnectionConfig {
    let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
    ConnectionConfig::default()
        .with_connect_timeout(Duration::from_millis(300))
        .with_backoff(backoff.unwrap())
}

/// Waits until exactly so many connections stand.
pub(crate) async fn ready(channel: &Channel, n: usize) {
    let wait = channel.endpoints().wait_for(|set| set.ready().len() == n);
    if timeout(LONG, wait).await.is_err() {
        panic!("not {n} ready: {channel:?}");
    }
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "it never came to pass that {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn named(name: impl Into<String>) -> GreetRequest {
    GreetRequest { name: name.into() }
}

pub(crate) async fn morning(channel: &Channel, name: &str) -> Result<String, Status> {
    let response = GreetClient::new(channel.clone()).morning(named(name)).await?;
    Ok(response.into_inner().message)
}

/// Who answered.
pub(crate) async fn who(channel: &Channel) -> Result<String, Status> {
    Ok(morning(channel, "you").await?.split_once(' ').unwrap().0.to_owned())
}

/// An address where nobody listens, nor will.
pub(crate) async fn dead_address() -> SocketAddr {
    HeldAddress::at("127.0.0.1:0".parse().unwrap()).unwrap().until_exit()
}

pub(crate) async fn dead_instance() -> Instance {
    Instance::new(dead_address().await).unwrap()
}
