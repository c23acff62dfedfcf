//! Instances that come and go under traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_grpc::{Channel, ConnectionConfig, RetryPolicy};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// Calls without a pause, from several tasks, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: JoinSet<Option<Status>>,
}

impl Load {
    fn start(channel: &Channel, tasks: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut set = JoinSet::new();
        for _ in 0..tasks {
            let (channel, stop, done) = (channel.clone(), stop.clone(), done.clone());
            set.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    if let Err(status) = morning(&channel, "sleep 1").await {
                        return Some(status);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                None
            });
        }
        Self { stop, done, tasks: set }
    }

    /// Lets so many more calls pass.
    async fn pass(&self, calls: usize) {
        let enough = self.done.load(Ordering::SeqCst) + calls;
        until("enough calls passed", || self.done.load(Ordering::SeqCst) >= enough).await;
    }

    async fn none_failed(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(failed) = self.tasks.join_next().await {
            assert!(failed.as_ref().unwrap().is_none(), "{failed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_removed_instance_finishes_its_stream_and_takes_no_new_call() {
    let servers = [Server::start().await, Server::start().await];
    let publisher = publisher(&servers);
    let channel = Channel::new(publisher.clone());
    ready(&channel, 2).await;
    let mut down =
        GreetClient::new(channel.clone()).countdown(named("20 20")).await.unwrap().into_inner();
    let first = down.message().await.unwrap().unwrap().message;
    let gone = servers.iter().position(|server| first.starts_with(&server.id())).unwrap();
    publisher.publish([servers[1 - gone].instance()]);
    ready(&channel, 1).await;
    for _ in 0..20 {
        assert_eq!(who(&channel).await.unwrap(), servers[1 - gone].id());
    }
    let mut left = 0;
    while down.message().await.unwrap().is_some() {
        left += 1;
    }
    assert_eq!(left, 19);
    assert_eq!(servers[gone].calls(), 1);
    until("its connection is closed", || servers[gone].connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn draining_has_an_end() {
    let server = Server::start().await;
    let publisher = publisher([&server]);
    let config = ConnectionConfig::default().with_drain_timeout(Duration::from_millis(100));
    let channel = Channel::builder(publisher.clone()).connection(config).build();
    let mut down =
        GreetClient::new(channel.clone()).countdown(named("10000 10")).await.unwrap().into_inner();
    publisher.publish([]);
    let status = loop {
        match down.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains(&server.id()), "{status}");
    until("its connection is closed", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stream_outlives_the_channel() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    let mut down = GreetClient::new(channel).countdown(named("10 10")).await.unwrap().into_inner();
    let mut left = 0;
    while down.message().await.unwrap().is_some() {
        left += 1;
    }
    assert_eq!(left, 10);
    // Though the caller still holds the finished response.
    until("its connection is closed", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn instances_come_and_go_under_load_without_a_failed_call() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let publisher = publisher(&servers);
    let channel = Channel::new(publisher.clone());
    ready(&channel, 3).await;
    let load = Load::start(&channel, 8);
    for round in 0..12 {
        let left_out = round % 3;
        let stay = servers.iter().enumerate().filter(|(i, _)| *i != left_out);
        publisher.publish(stay.map(|(_, server)| server.instance()));
        load.pass(40).await;
        publisher.publish(servers.iter().map(Server::instance));
        load.pass(40).await;
    }
    load.none_failed().await;
}

/// No policy: what GOAWAY turns away was never looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn servers_going_away_under_load_cost_no_call() {
    let mut servers = vec![Server::start().await, Server::start().await, Server::start().await];
    let channel = builder(&servers).build();
    ready(&channel, 3).await;
    let load = Load::start(&channel, 8);
    for round in 0..9 {
        load.pass(50).await;
        let mut leaving = servers.remove(round % 3);
        leaving.go_away();
        until("it has closed its connection", || leaving.connections() == 0).await;
        let back = Server::start_at(leaving.kill()).await;
        servers.insert(round % 3, back);
        ready(&channel, 3).await;
    }
    load.none_failed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_single_server_that_restarts_gracefully_costs_no_call() {
    let mut server = Server::start().await;
    let channel = builder([&server]).build();
    ready(&channel, 1).await;
    let load = Load::start(&channel, 4);
    for _ in 0..3 {
        load.pass(50).await;
        server.go_away();
        until("it has closed its connection", || server.connections() == 0).await;
        sleep(Duration::from_millis(20)).await;
        server = Server::start_at(server.kill()).await;
    }
    load.pass(50).await;
    load.none_failed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn killed_servers_under_load_cost_no_call_with_a_retry_policy() {
    let mut servers = vec![Server::start().await, Server::start().await, Server::start().await];
    let channel = builder(&servers).retry(RetryPolicy::default()).build();
    ready(&channel, 3).await;
    let load = Load::start(&channel, 8);
    for round in 0..6 {
        load.pass(50).await;
        let address = servers.remove(round % 3).kill();
        load.pass(50).await;
        servers.insert(round % 3, Server::start_at(address).await);
        ready(&channel, 3).await;
    }
    load.none_failed().await;
}
