//! Callers and servers that behave badly.

use std::time::Duration;

use fleetward_core::Instance;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::discovery::Publisher;
use fleetward_grpc::{Channel, ConnectionConfig, RetryPolicy};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Request;

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// Answers that come in just after their call was dropped, for as long as the connection lives.
#[tokio::test]
async fn dropped_calls_do_not_cost_the_others_their_connection() {
    // It does not take so many resets for an attack; the client must not either.
    let patient = tonic::transport::Server::builder()
        .http2_max_pending_accept_reset_streams(Some(100_000))
        .http2_max_local_error_reset_streams(None);
    let server = Server::start_with("127.0.0.1:0".parse().unwrap(), patient).await;
    let channel = builder([&server]).build();
    ready(&channel, 1).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (channel, mut rng) = (channel.clone(), rng.fork());
        calls.spawn(async move {
            for _ in 0..100 {
                let patience = Duration::from_micros(rng.u64(5_000..9_000));
                match timeout(patience, morning(&channel, "sleep 5")).await {
                    Err(_) | Ok(Ok(_)) => {}
                    Ok(Err(status)) => panic!("{status}"),
                }
            }
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert_eq!(server.seen.accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
    let member = channel.endpoints().load().ready()[0].clone();
    until("nothing is in flight", || member.in_flight() == 0).await;
    until("no task is left", || Handle::current().metrics().num_alive_tasks() <= tasks).await;
}

/// It is not a deadline of ours, and what to make of it is the server's business.
#[tokio::test]
async fn a_malformed_timeout_is_none() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    for text in ["abc", "", "1", "-1S", "99999999999S"] {
        let mut request = Request::new(named("you"));
        request.metadata_mut().append("grpc-timeout", text.parse().unwrap());
        request.metadata_mut().append("grpc-timeout", "1n".parse().unwrap());
        let answer = GreetClient::new(channel.clone()).morning(request).await;
        assert!(answer.is_ok(), "{text:?}: {answer:?}");
    }
}

/// `Duration::MAX` is how callers say "no limit".
#[tokio::test]
async fn a_time_without_end_is_no_panic() {
    let server = Server::start().await;
    let config = ConnectionConfig::default()
        .with_connect_timeout(Duration::MAX)
        .with_drain_timeout(Duration::MAX)
        .with_http2_keep_alive_interval(Duration::MAX)
        .with_keep_alive_timeout(Duration::MAX)
        .with_keep_alive_while_idle(true);
    let channel = builder([&server])
        .connection(config)
        .retry(RetryPolicy::default().with_per_attempt_timeout(Duration::MAX))
        .wait_for_ready(WaitForReady::AtMost(Duration::MAX))
        .timeout(Duration::MAX)
        .build();
    // Before there is a connection, too.
    assert_eq!(who(&channel).await.unwrap(), server.id());
    ready(&channel, 1).await;
    assert_eq!(who(&channel).await.unwrap(), server.id());
}

#[tokio::test]
async fn large_messages_at_a_concurrency_of_a_thousand() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    let big = "x".repeat(3_500_000);
    assert!(morning(&channel, &big).await.unwrap().len() > big.len());
    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        let channel = channel.clone();
        calls.spawn(async move { morning(&channel, &"y".repeat(10_000)).await.unwrap().len() });
    }
    while let Some(done) = calls.join_next().await {
        assert!(done.unwrap() > 10_000);
    }
}

#[tokio::test]
async fn addresses_of_every_form_are_dialled() {
    let v4 = Server::start().await;
    let port = v4.address.port();
    let v6 = Server::start_at("[::1]:0".parse().unwrap()).await;
    for instance in [
        Instance::new(format!("http://127.0.0.1:{port}").as_str()).unwrap(),
        Instance::new(format!("grpc://127.0.0.1:{port}").as_str()).unwrap(),
        Instance::new(format!("localhost:{port}").as_str()).unwrap(),
        Instance::new(v6.address).unwrap(),
        Instance::new(format!("http://[::1]:{}", v6.address.port()).as_str())
            .unwrap()
            .with_id("über 1")
            .unwrap(),
    ] {
        let list = Publisher::new("greeter");
        list.publish([instance.clone()]);
        let channel = Channel::new(list);
        let got = timeout(LONG, who(&channel)).await.unwrap();
        assert!(got.is_ok(), "{instance:?}: {got:?}");
    }
}

#[tokio::test]
async fn a_call_dropped_while_its_body_is_sent_is_not_in_flight() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    ready(&channel, 1).await;
    let member = channel.endpoints().load().ready()[0].clone();
    let (tell, told) = tokio::sync::mpsc::channel(1);
    let told = tokio_stream::wrappers::ReceiverStream::new(told);
    let mut client = GreetClient::new(channel.clone());
    let call = tokio::spawn(async move { client.gather(told).await });
    tell.send(named("a")).await.unwrap();
    until("it runs", || server.running() == 1 && member.in_flight() == 1).await;
    call.abort();
    until("nothing is in flight", || member.in_flight() == 0 && server.running() == 0).await;
    until("the body is dropped", || tell.is_closed()).await;
}
