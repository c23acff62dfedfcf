//! What tonic's own balancing gets wrong, each as a test of ours.

use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::balancing::{PickContext, ReadySet, WaitForReady};
use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::{Balancer, Instance};
use fleetward_grpc::{Channel, ConnectionConfig, RetryPolicy};
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// tonic #273, #1506: the choice is uniform random, whatever is asked for.
#[tokio::test]
async fn tonic_fault_the_policy_is_the_callers_choice() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let channel = builder(&servers).balancer(RoundRobin::starting_at(0)).build();
    ready(&channel, 3).await;
    let mut order = servers.iter().map(Server::id).collect::<Vec<_>>();
    order.sort();
    for turn in 0..30 {
        assert_eq!(who(&channel).await.unwrap(), order[turn % 3], "call {turn}");
    }

    #[derive(Debug)]
    struct Last;
    impl Balancer for Last {
        fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
            let request = context.request::<http::Request<tonic::body::Body>>().unwrap();
            assert_eq!(request.uri().path(), "/Greet/Morning");
            endpoints.len().checked_sub(1)
        }
    }
    let channel = builder(&servers).balancer(Last).build();
    ready(&channel, 3).await;
    for _ in 0..10 {
        assert_eq!(who(&channel).await.unwrap(), order[2]);
    }
}

/// tonic #2839, #1147, #643: a dead endpoint counts as ready; 78 of 200 calls fail.
#[tokio::test]
async fn tonic_fault_a_dead_endpoint_is_never_picked() {
    let server = Server::start().await;
    let publisher = Publisher::new("greeter");
    publisher.publish([server.instance(), dead_instance().await]);
    let channel = Channel::new(publisher);
    for call in 0..200 {
        morning(&channel, "you").await.unwrap_or_else(|status| panic!("call {call}: {status}"));
    }
    assert_eq!(server.calls(), 200);
    assert_eq!(channel.endpoints().load().known(), 2);
}

/// tonic: an empty balancer hangs past a `grpc-timeout`.
#[tokio::test]
async fn tonic_fault_an_empty_set_ends_by_the_deadline() {
    let channel = Channel::new(FixedInstancer::new("greeter", []));
    let mut client = GreetClient::new(channel);
    let mut request = Request::new(named("you"));
    request.set_timeout(Duration::from_millis(200));
    let started = Instant::now();
    let status = client.morning(request).await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("service greeter"), "{status}");
    assert!(status.message().contains("no instance is registered"), "{status}");
    let limits = Duration::from_millis(200)..Duration::from_millis(200 + 20 + 30);
    assert!(limits.contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn tonic_fault_an_empty_set_without_a_deadline_ends_too() {
    let channel = Channel::new(FixedInstancer::new("greeter", []));
    let started = Instant::now();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("service greeter"), "{status}");
    assert_eq!(started.elapsed().as_secs(), 3);

    let channel = Channel::builder(FixedInstancer::new("greeter", []))
        .wait_for_ready(WaitForReady::FailFast)
        .build();
    let started = Instant::now();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(started.elapsed() < Duration::from_millis(10));
}

/// tonic #1581: updates are taken only while requests flow; 4 of 10 went in.
#[tokio::test]
async fn tonic_fault_updates_are_applied_without_traffic() {
    let servers = [Server::start().await, Server::start().await];
    let publisher = Publisher::new("greeter");
    let channel = Channel::new(publisher.clone());
    for update in 0..10 {
        let server = &servers[update % 2];
        publisher.publish([server.instance()]);
        until("the update is applied", || {
            let set = channel.endpoints().load();
            set.ready().iter().map(|m| m.instance().id().to_string()).eq([server.id()])
        })
        .await;
    }
    assert!(servers.iter().all(|server| server.calls() == 0));
}

/// tonic: `Endpoint::timeout` surfaces as CANCELLED.
#[tokio::test]
async fn tonic_fault_a_timeout_is_deadline_exceeded() {
    let server = Server::start().await;
    let channel = builder([&server]).timeout(Duration::from_millis(100)).build();
    let status = morning(&channel, "sleep 5000").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

/// tonic: `balance_list` panics above 1,024 endpoints.
#[tokio::test]
async fn tonic_fault_more_than_1024_endpoints() {
    let server = Server::start().await;
    let dead = dead_address().await.port();
    // Different loopback addresses, one port that nobody listens on.
    let instances = (0..1499u32).map(|i| {
        let ip = std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(127, 1, 0, 1)) + i);
        Instance::new(std::net::SocketAddr::from((ip, dead))).unwrap()
    });
    let publisher = Publisher::new("greeter");
    publisher.publish(instances.chain([server.instance()]));
    let channel = Channel::new(publisher);
    ready(&channel, 1).await;
    assert_eq!(channel.endpoints().load().known(), 1500);
    for _ in 0..50 {
        assert_eq!(who(&channel).await.unwrap(), server.id());
    }
}

/// tonic #1552: the error does not name the endpoint.
#[tokio::test]
async fn tonic_fault_the_error_names_the_endpoint() {
    let instance = dead_instance().await;
    let id = instance.id().to_string();
    let channel = Channel::builder(FixedInstancer::new("greeter", [instance]))
        .wait_for_ready(WaitForReady::AtMost(Duration::from_millis(200)))
        .build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&id), "{status}");
    assert!(status.message().contains("Connection refused"), "{status}");
}

/// tonic #2182: an endpoint's state is nobody's business.
#[tokio::test]
async fn tonic_fault_an_endpoint_that_is_down_is_not_offered() {
    let servers = [Server::start().await, Server::start().await];
    let config = ConnectionConfig::default().with_connect_timeout(Duration::from_millis(500));
    let channel = builder(&servers).connection(config).build();
    ready(&channel, 2).await;
    let [first, second] = servers;
    first.kill();
    ready(&channel, 1).await;
    for _ in 0..50 {
        assert_eq!(who(&channel).await.unwrap(), second.id());
    }
}

/// tonic #733: there is no retry.
#[tokio::test]
async fn tonic_fault_there_is_retry() {
    let server = Server::start().await;
    server.seen.failing.store(2, std::sync::atomic::Ordering::SeqCst);
    let channel = builder([&server]).retry(RetryPolicy::default()).build();
    assert!(morning(&channel, "you").await.is_ok());
    assert_eq!(server.calls(), 3);
}
