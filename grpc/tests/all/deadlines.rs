//! A call's deadline covers everything, to the end of the response's body.

use std::time::Duration;

use fleetward_core::discovery::Publisher;
use fleetward_core::retry::RetryError;
use fleetward_grpc::{Channel, RetryPolicy};
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// What a deadline may be late by, and what a busy machine adds.
const LATE: Duration = Duration::from_millis(20 + 30);

fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn it_ends_a_call_that_its_instance_does_not_answer() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    ready(&channel, 1).await;
    let timeout = Duration::from_millis(150);
    let started = Instant::now();
    let mut client = GreetClient::new(channel.clone());
    let status = client.morning(within(named("sleep 5000"), timeout)).await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(took >= timeout && took < timeout + LATE, "{took:?}");
    assert!(status.message().contains("service greeter"), "{status}");
    // The server hears of it.
    until("the handler was cancelled", || server.running() == 0).await;
}

#[tokio::test]
async fn it_covers_the_response_body() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    ready(&channel, 1).await;
    let timeout = Duration::from_millis(200);
    let started = Instant::now();
    let mut client = GreetClient::new(channel);
    let mut down = client.countdown(within(named("1000 20"), timeout)).await.unwrap().into_inner();
    let status = loop {
        match down.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(took >= timeout && took < timeout + LATE, "{took:?}");
    assert!(status.message().contains("greeter"), "{status}");
    assert!(status.message().contains(&server.id()), "{status}");
    until("the stream was cancelled", || server.running() == 0).await;
}

#[tokio::test]
async fn each_attempt_carries_what_is_left_of_it() {
    let server = Server::start().await;
    let publisher = Publisher::new("greeter");
    let channel = Channel::new(publisher.clone());
    let instance = server.instance();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        publisher.publish([instance]);
        std::future::pending::<()>().await;
    });
    let request = within(named("header grpc-timeout"), Duration::from_secs(2));
    let header = GreetClient::new(channel).morning(request).await.unwrap().into_inner().message;
    let micros: u64 = header.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1_000_000..1_700_000).contains(&micros), "{header}");
}

#[tokio::test]
async fn the_default_is_for_calls_without_one_of_their_own() {
    let server = Server::start().await;
    let channel = builder([&server]).timeout(Duration::from_millis(100)).build();
    ready(&channel, 1).await;
    let status = morning(&channel, "sleep 5000").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let mut client = GreetClient::new(channel);
    let own = within(named("sleep 300"), Duration::from_secs(10));
    assert!(client.morning(own).await.is_ok());
}

#[tokio::test]
async fn it_covers_every_attempt_and_the_waits_between() {
    let server = Server::start().await;
    server.seen.failing.store(usize::MAX, std::sync::atomic::Ordering::SeqCst);
    let backoff = fleetward_core::backoff::Backoff::new(LONG, LONG).unwrap();
    let channel = builder([&server]).retry(RetryPolicy::default().with_backoff(backoff)).build();
    ready(&channel, 1).await;
    let started = Instant::now();
    let request = within(named("you"), Duration::from_millis(100));
    let status = GreetClient::new(channel).morning(request).await.unwrap_err();
    // A wait that the deadline would cut short is not begun; the last error says more.
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(started.elapsed() < Duration::from_millis(100) + LATE);
}

#[tokio::test]
async fn a_cut_off_attempt_goes_elsewhere_within_it() {
    let servers = [Server::start().await, Server::start().await];
    let policy = RetryPolicy::default().with_per_attempt_timeout(Duration::from_millis(100));
    let channel = builder(&servers).retry(policy).build();
    ready(&channel, 2).await;
    let request = within(named("sleep 5000"), Duration::from_millis(250));
    let status = GreetClient::new(channel).morning(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(servers.iter().all(|server| server.calls() > 0));
    let source = std::error::Error::source(&status).unwrap();
    let attempts = source.downcast_ref::<RetryError>().unwrap().attempts();
    assert!(attempts.len() >= 2, "{source}");
}
