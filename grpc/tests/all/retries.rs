//! What is sent again, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetward_core::balancing::{PickContext, ReadySet, WaitForReady};
use fleetward_core::context::{CallContext, ContextCarrier as _, WithContext};
use fleetward_core::retry::{RatioBudget, RetryError};
use fleetward_core::{Balancer, Retry};
use fleetward_grpc::RetryPolicy;
use tonic::Code;
use tower::{Layer, ServiceExt};

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

fn policy() -> RetryPolicy {
    let quick =
        fleetward_core::backoff::Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    RetryPolicy::default().with_backoff(quick.unwrap())
}

#[tokio::test]
async fn a_failed_call_goes_to_another_instance() {
    let servers = [Server::start().await, Server::start().await];
    servers[0].seen.failing.store(usize::MAX, Ordering::SeqCst);
    // One that goes on choosing what fails.
    let balancer = fleetward_balancers::RoundRobin::new();
    let channel = builder(&servers).balancer(balancer).retry(policy()).build();
    ready(&channel, 2).await;
    for _ in 0..50 {
        assert_eq!(who(&channel).await.unwrap(), servers[1].id());
    }
    assert!(servers[0].calls() > 10);
}

#[tokio::test]
async fn without_a_policy_a_status_is_final() {
    let server = Server::start().await;
    server.seen.failing.store(1, Ordering::SeqCst);
    let channel = builder([&server]).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), format!("{} is 100% out of order", server.id()));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn only_the_codes_of_the_policy() {
    let server = Server::start().await;
    let channel = builder([&server]).retry(policy()).build();
    let status = morning(&channel, "fail now").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "not now – später");
    assert_eq!(server.calls(), 1);

    let channel = builder([&server]).retry(policy().with_codes([Code::FailedPrecondition])).build();
    let status = morning(&channel, "fail now").await.unwrap_err();
    assert_eq!(server.calls(), 1 + 3);
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.details(), b"details");
    let message =
        format!("not now – später (service greeter: 3 attempts, the last on {})", server.id());
    assert_eq!(status.message(), message);
}

#[tokio::test]
async fn attempts_are_capped() {
    let server = Server::start().await;
    server.seen.failing.store(usize::MAX, Ordering::SeqCst);
    let channel = builder([&server]).retry(policy().with_max_attempts(100)).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 5);
    assert!(status.message().starts_with(&format!("{} is 100% out of order (", server.id())));
}

#[tokio::test]
async fn attempts_that_all_take_too_long_are_deadline_exceeded() {
    let server = Server::start().await;
    let policy = policy().with_per_attempt_timeout(Duration::from_millis(50));
    let channel = builder([&server]).retry(policy).build();
    ready(&channel, 1).await;
    let status = morning(&channel, "sleep 5000").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(server.calls(), 3);
    assert!(status.message().contains(&format!("instance {}: ", server.id())), "{status}");
    assert!(status.message().contains("(3 attempts; before: "), "{status}");
}

/// Chooses an instance for one pick, and then none: as if it had left.
#[derive(Debug, Default)]
struct Once(AtomicBool);

impl Balancer for Once {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        (!self.0.swap(true, Ordering::SeqCst)).then_some(0)
    }
}

#[tokio::test]
async fn a_caller_can_learn_which_instance_a_call_went_to() {
    let (fails, answers) = (Server::start().await, Server::start().await);
    fails.seen.failing.store(1, Ordering::SeqCst);
    let channel = builder([&fails, &answers])
        .retry(policy())
        .balancer(fleetward_balancers::RoundRobin::new())
        .build();
    ready(&channel, 2).await;
    for _ in 0..4 {
        let context = CallContext::new();
        let mut request = tonic::Request::new(named("you"));
        request.extensions_mut().insert(context.clone());
        let answer = GreetClient::new(channel.clone()).morning(request).await.unwrap();
        let who = answer.into_inner().message.split_once(' ').unwrap().0.to_owned();
        assert_eq!(context.instance().unwrap().as_str(), who);
    }
}

/// A layer above the channel that shares its budget: a call is counted once.
#[tokio::test]
async fn a_call_through_a_layer_above_the_channel_counts_once_for_their_budget() {
    const CALLS: usize = 200;
    let server = Server::start().await;
    server.seen.failing.store(usize::MAX, Ordering::SeqCst);
    let budget = Arc::new(RatioBudget::default().with_floor_per_second(0));
    let channel = builder([&server]).retry(policy()).retry_budget(budget.clone()).build();
    ready(&channel, 1).await;
    let quick = policy().backoff().clone();
    let above = Retry::new(3, LONG).backoff(quick).budget(budget);
    let client = above.layer(tower::service_fn(move |call: WithContext<&'static str>| {
        let mut client = GreetClient::new(channel.clone());
        let mut request = tonic::Request::new(named(call.request));
        // A layer above a generated client hands its context on like this.
        request.extensions_mut().insert(call.context().cloned().unwrap());
        async move { client.morning(request).await }
    }));
    for _ in 0..CALLS {
        client.clone().oneshot(WithContext::from("you")).await.unwrap_err();
    }
    let load = server.calls() as f64 / CALLS as f64;
    assert!((1.15..=1.2).contains(&load), "{load}");
}

/// The server that answered says more than those that did not.
#[tokio::test]
async fn the_last_status_of_a_server_is_not_hidden_by_attempts_without_one() {
    let server = Server::start().await;
    server.seen.failing.store(1, Ordering::SeqCst);
    let channel = builder([&server])
        .balancer(Once::default())
        .retry(policy())
        .wait_for_ready(WaitForReady::FailFast)
        .build();
    ready(&channel, 1).await;
    let status = morning(&channel, "you").await.unwrap_err();
    let answer = format!("{} is 100% out of order (", server.id());
    assert!(status.message().starts_with(&answer), "{status}");
    assert!(status.message().contains("2 attempts"), "{status}");

    // The attempt's own time is up, and no other attempt is left.
    let server = Server::start().await;
    server.seen.failing.store(1, Ordering::SeqCst);
    let twice = policy().with_max_attempts(2);
    let timed = twice.clone().with_per_attempt_timeout(Duration::from_secs(1));
    let channel = builder([&server]).retry(timed).build();
    ready(&channel, 1).await;
    let status = morning(&channel, "sleep 3600000").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("out of order"), "{status}");

    // By gRFC A6 the call's deadline is DEADLINE_EXCEEDED whatever came before.
    server.seen.failing.store(1, Ordering::SeqCst);
    let channel = builder([&server]).retry(twice).timeout(Duration::from_secs(2)).build();
    ready(&channel, 1).await;
    let status = morning(&channel, "sleep 3600000").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("before: instance"), "{status}");
}

/// No attempt is left for what was sent; what waits for a stream was not.
#[tokio::test]
async fn an_attempt_that_waits_for_a_stream_when_its_time_is_up_goes_elsewhere() {
    let one_stream = || tonic::transport::Server::builder().max_concurrent_streams(1);
    let anywhere = || ([127, 0, 0, 1], 0).into();
    let servers = [
        Server::start_with(anywhere(), one_stream()).await,
        Server::start_with(anywhere(), one_stream()).await,
    ];
    let policy = policy().with_max_attempts(1).with_per_attempt_timeout(Duration::from_secs(1));
    let in_turn = fleetward_balancers::RoundRobin::new();
    let channel = builder(&servers).balancer(in_turn).retry(policy).build();
    ready(&channel, 2).await;
    let connection = {
        let set = channel.endpoints().load();
        let full = servers[0].id();
        let at = set.ready().iter().position(|member| member.instance().id().as_str() == full);
        set.service(at.unwrap()).unwrap().clone()
    };
    let occupied =
        tokio::spawn(
            async move { GreetClient::new(connection).morning(named("sleep 3600000")).await },
        );
    until("the place is taken", || servers[0].running() == 1).await;
    for _ in 0..4 {
        assert_eq!(who(&channel).await.unwrap(), servers[1].id());
    }
    occupied.abort();
}

#[tokio::test]
async fn a_body_that_comes_in_over_time_is_sent_again_from_its_beginning() {
    let servers = [Server::start().await, Server::start().await];
    for server in &servers {
        server.seen.failing.store(1, Ordering::SeqCst);
    }
    let channel = builder(&servers).retry(policy()).build();
    ready(&channel, 2).await;
    let (tell, told) = tokio::sync::mpsc::channel(1);
    let told = tokio_stream::wrappers::ReceiverStream::new(told);
    let call = tokio::spawn(async move { GreetClient::new(channel).gather(told).await });
    tell.send(named("a")).await.unwrap();
    until("both have failed and one has it", || {
        servers.iter().map(Server::calls).sum::<usize>() == 3
    })
    .await;
    tell.send(named("b")).await.unwrap();
    drop(tell);
    let answer = call.await.unwrap().unwrap().into_inner().message;
    assert!(answer.ends_with("greets a and b"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_sent_once() {
    let server = Server::start().await;
    server.seen.failing.store(1, Ordering::SeqCst);
    let channel = builder([&server]).retry(policy()).replay_limit(10).build();
    assert!(morning(&channel, "a name of more than ten bytes").await.is_err());
    assert_eq!(server.calls(), 1);
    assert!(morning(&channel, "a name of more than ten bytes").await.is_ok());
}

/// The connection breaks while the server has the call: the code says so, the message says where.
#[tokio::test]
async fn a_lost_connection_is_unavailable_and_retried_by_policy_only() {
    for retry in [false, true] {
        let servers = [Server::start().await, Server::start().await];
        let mut builder = builder(&servers);
        if retry {
            builder = builder.retry(policy());
        }
        let channel = builder.build();
        ready(&channel, 2).await;
        let call = tokio::spawn(async move { morning(&channel, "sleep 400").await });
        until("the call arrived", || servers.iter().any(|s| s.running() == 1)).await;
        let mut servers = Vec::from(servers);
        let hit = servers.iter().position(|server| server.running() == 1).unwrap();
        let killed = servers.remove(hit).kill().to_string();
        match call.await.unwrap() {
            Ok(answer) => {
                assert!(retry);
                assert!(answer.starts_with(&servers[0].id()));
            }
            Err(status) => {
                assert!(!retry, "{status:?}");
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert!(status.message().contains(&killed), "{status}");
                assert!(status.message().contains("service greeter"), "{status}");
                let source = std::error::Error::source(&status).unwrap();
                assert_eq!(source.downcast_ref::<RetryError>().unwrap().attempts().len(), 1);
            }
        }
    }
}
