//! What an endpoint learns from gRPC calls, and when they are over.

use std::time::Duration;

use fleetward_core::endpoints::Member;
use fleetward_core::outlier::OutlierDetection;
use fleetward_grpc::{Channel, RetryPolicy};
use tokio::time::Instant;
use tonic::Request;

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

fn member(channel: &Channel, server: &Server) -> Member {
    let set = channel.endpoints().load();
    let mut all = set.ready().iter().chain(set.ready().not_ready());
    all.find(|member| member.instance().id().as_str() == server.id()).unwrap().clone()
}

/// One failure is enough.
fn strict() -> OutlierDetection {
    OutlierDetection::default().with_consecutive_failures(Some(1))
}

async fn two() -> ([Server; 2], Channel) {
    let servers = [Server::start().await, Server::start().await];
    let channel = builder(&servers).outlier_detection(strict()).build();
    ready(&channel, 2).await;
    (servers, channel)
}

#[tokio::test]
async fn a_stream_is_under_way_until_it_ends() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    ready(&channel, 1).await;
    let member = member(&channel, &server);
    let mut greeter = GreetClient::new(channel.clone());
    let mut stream = greeter.countdown(named("3 30")).await.unwrap().into_inner();
    let mut messages = 0;
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!(member.in_flight(), 1, "{message:?}");
        messages += 1;
    }
    assert_eq!((messages, member.in_flight()), (3, 0));
    // Its latency is the time to its head, not to its end.
    let latency = member.latency(Instant::now()).unwrap();
    assert!(latency < 0.08, "{latency}");
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_over_and_no_failure() {
    let (servers, channel) = two().await;
    let members = servers.each_ref().map(|server| member(&channel, server));
    for _ in 0..20 {
        let stream = GreetClient::new(channel.clone()).countdown(named("1000 10")).await.unwrap();
        assert_eq!(members.iter().map(Member::in_flight).sum::<usize>(), 1);
        drop(stream);
        assert_eq!(members.iter().map(Member::in_flight).sum::<usize>(), 0);
    }
    assert!(members.iter().all(Member::is_healthy));
}

#[tokio::test]
async fn the_server_s_troubles_eject_it_and_the_caller_s_mistakes_do_not() {
    let (servers, channel) = two().await;
    // NOT_FOUND, INVALID_ARGUMENT, CANCELLED, UNIMPLEMENTED, PERMISSION_DENIED, FAILED_PRECONDITION.
    for code in [5, 3, 1, 12, 7, 9] {
        for _ in 0..4 {
            morning(&channel, &format!("code {code}")).await.unwrap_err();
        }
    }
    ready(&channel, 2).await;
    morning(&channel, "code 13").await.unwrap_err();
    ready(&channel, 1).await;
    let ejected: Vec<_> =
        servers.iter().map(|server| member(&channel, server)).filter(|m| !m.is_healthy()).collect();
    assert_eq!(ejected.len(), 1);
    // It asked to be left alone for 9 s, more than the 5 s that a failure counts as.
    let latency = ejected[0].latency(Instant::now()).unwrap();
    assert!((8.0..9.1).contains(&latency), "{latency}");
}

#[tokio::test]
async fn a_failure_in_the_trailers_counts() {
    let (_servers, channel) = two().await;
    let mut greeter = GreetClient::new(channel.clone());
    let mut stream = greeter.countdown(named("2 1 14")).await.unwrap().into_inner();
    while let Ok(Some(_)) = stream.message().await {}
    ready(&channel, 1).await;
}

#[tokio::test]
async fn a_deadline_that_passes_counts_before_the_head_and_within_the_body() {
    let (_servers, channel) = two().await;
    let mut request = Request::new(named("sleep 10000"));
    request.set_timeout(Duration::from_millis(50));
    let status = GreetClient::new(channel.clone()).morning(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    ready(&channel, 1).await;

    let (_servers, channel) = two().await;
    let mut request = Request::new(named("1000 10"));
    request.set_timeout(Duration::from_millis(100));
    let mut greeter = GreetClient::new(channel.clone());
    let mut stream = greeter.countdown(request).await.unwrap().into_inner();
    while let Ok(Some(_)) = stream.message().await {}
    ready(&channel, 1).await;
}

#[tokio::test]
async fn a_server_that_dies_and_returns_is_not_ejected_for_calls_it_never_saw() {
    let server = Server::start().await;
    let other = Server::start().await;
    let channel = builder([&server, &other])
        .connection(quick())
        .retry(RetryPolicy::default())
        .outlier_detection(OutlierDetection::default())
        .build();
    ready(&channel, 2).await;
    let restarted = member(&channel, &server);
    let address = server.kill();
    for _ in 0..200 {
        who(&channel).await.unwrap();
    }
    let _server = Server::start_at(address).await;
    ready(&channel, 2).await;
    assert!(restarted.is_healthy());
}

#[tokio::test]
async fn a_metadata_entry_reaches_the_balancer() {
    use fleetward_core::Balancer;
    use fleetward_core::balancing::{PickContext, ReadySet};
    #[derive(Debug)]
    struct ByEntry;
    impl Balancer for ByEntry {
        fn pick(&self, set: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
            let wanted = context.attribute("x-instance")?;
            set.iter().position(|member| member.instance().id().as_str().as_bytes() == wanted)
        }
    }
    let servers = [Server::start().await, Server::start().await];
    let channel = builder(&servers).balancer(ByEntry).build();
    ready(&channel, 2).await;
    for server in servers.iter().cycle().take(6) {
        let mut request = Request::new(named("you"));
        request.metadata_mut().insert("x-instance", server.id().parse().unwrap());
        let answer = GreetClient::new(channel.clone()).morning(request).await.unwrap();
        assert!(answer.into_inner().message.starts_with(&server.id()));
    }
}
