//! What the tests share.

use std::net::SocketAddr;
use std::time::Duration;

use fleetward_core::{Instance, Publisher};
use fleetward_grpc::{Channel, ChannelBuilder};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::greet::GreetRequest;
use crate::greet::greet_client::GreetClient;
use crate::server::Server;

/// Longer than anything may take that is to happen at all.
pub const LONG: Duration = Duration::from_secs(20);

pub fn publisher<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Publisher {
    let publisher = Publisher::new("greeter");
    publisher.publish(servers.into_iter().map(Server::instance));
    publisher
}

pub fn builder<'a>(servers: impl IntoIterator<Item = &'a Server>) -> ChannelBuilder<Publisher> {
    Channel::builder(publisher(servers))
}

/// Waits until exactly so many connections stand.
pub async fn ready(channel: &Channel, n: usize) {
    let wait = channel.endpointer().wait_for(|set| set.ready().len() == n);
    if timeout(LONG, wait).await.is_err() {
        panic!("not {n} ready: {channel:?}");
    }
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "it never came to pass that {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

pub fn named(name: impl Into<String>) -> GreetRequest {
    GreetRequest { name: name.into() }
}

pub async fn morning(channel: &Channel, name: &str) -> Result<String, Status> {
    let response = GreetClient::new(channel.clone()).morning(named(name)).await?;
    Ok(response.into_inner().message)
}

/// Who answered.
pub async fn who(channel: &Channel) -> Result<String, Status> {
    Ok(morning(channel, "you").await?.split_once(' ').unwrap().0.to_owned())
}

/// An address where nobody listens.
pub async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub async fn dead_instance() -> Instance {
    Instance::new(dead_address().await).unwrap()
}
