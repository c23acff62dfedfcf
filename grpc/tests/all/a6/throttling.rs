//! Few further attempts for a service that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleetward_core::retry::RatioBudget;
use fleetward_grpc::{MethodConfig, RetryThrottling, ServiceConfig};
use tokio_stream::StreamExt;
use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

fn config(ratio: f64) -> ServiceConfig {
    ServiceConfig::builder()
        .retry_throttling(RetryThrottling::new(10, ratio).unwrap())
        .build()
        .unwrap()
}

/// A server that fails while the switch is on.
async fn switched() -> (Scripted, Arc<AtomicUsize>) {
    let failing = Arc::new(AtomicUsize::new(1));
    let switch = failing.clone();
    let server = Scripted::start(move |_| match switch.load(Ordering::SeqCst) {
        0 => answers(),
        _ => fails(Code::Unavailable),
    })
    .await;
    (server, failing)
}

#[tokio::test]
async fn the_fifth_failure_in_a_row_is_the_last_and_51_successes_end_it() {
    let (server, failing) = switched().await;
    let policy = policy().with_max_attempts(2);
    let channel = server.builder().retry(policy).service_config(config(0.1)).build();
    // 10, 9, 8 | 8, 7, 6 | 5: no more than half are left.
    for made in [2, 4, 5, 6] {
        morning(&channel, "you").await.unwrap_err();
        assert_eq!(server.calls(), made);
    }
    // Down to none, and not below.
    for _ in 0..10 {
        morning(&channel, "you").await.unwrap_err();
    }
    assert_eq!(server.calls(), 16);
    failing.store(0, Ordering::SeqCst);
    for _ in 0..50 {
        morning(&channel, "you").await.unwrap();
    }
    // 5.0 - 1, throttled; and again as many successes for the one that was lost.
    failing.store(1, Ordering::SeqCst);
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 16 + 50 + 1);
    failing.store(0, Ordering::SeqCst);
    for _ in 0..21 {
        morning(&channel, "you").await.unwrap();
    }
    // 6.1 - 1 is 5.1, above half.
    failing.store(1, Ordering::SeqCst);
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 67 + 21 + 2);
}

#[tokio::test]
async fn the_sequence_of_grpc_go() {
    let server = Scripted::start(|n| match n {
        0 | 3 | 6 | 10 | 11 | 12 | 13 | 14 | 16 | 18 => answers(),
        _ => fails(Code::Unavailable),
    })
    .await;
    let channel = server.builder().retry(policy()).service_config(config(0.5)).build();
    for (ok, last) in [
        (true, 0),
        (true, 3),
        (true, 6),
        (false, 8),
        (false, 9),
        (true, 10),
        (true, 11),
        (true, 12),
        (true, 13),
        (true, 14),
        (true, 16),
        (false, 17),
    ] {
        let answer = morning(&channel, "you").await;
        assert_eq!((answer.is_ok(), server.calls() - 1), (ok, last));
    }
}

/// How a call went is known by its trailers, whatever its head promised.
#[tokio::test]
async fn a_success_is_counted_by_its_trailers() {
    let server = Scripted::start(|n| match n {
        0 => fails(Code::Unavailable),
        1 => vec![Op::Head, Op::Say("one"), Op::Read(1), Op::Sleep(50), Op::End(Code::Ok, vec![])],
        2 => vec![Op::Head, Op::Say("one"), Op::End(Code::Internal, vec![])],
        _ => vec![Op::End(Code::Ok, vec![])],
    })
    .await;
    let channel = server.builder().retry(policy()).service_config(config(0.5)).build();
    let tokens = |n: &str| format!("{channel:?}").contains(&format!("tokens: {n}"));
    let mut client = GreetClient::new(channel.clone());
    let mut down = client.countdown(named("a")).await.unwrap().into_inner();
    assert_eq!(down.message().await.unwrap().unwrap().message, "one");
    assert!(tokens("9.0"), "one failure, no success yet: {channel:?}");
    assert!(down.message().await.unwrap().is_none());
    assert!(tokens("9.5"), "{channel:?}");
    // Broken off after its head: neither, for it would not have been tried again.
    let down = client.countdown(named("a")).await.unwrap().into_inner();
    assert!(down.collect::<Result<Vec<_>, _>>().await.is_err());
    assert!(tokens("9.5"), "{channel:?}");
    let mut down = client.countdown(named("a")).await.unwrap().into_inner();
    assert!(down.message().await.unwrap().is_none());
    assert!(tokens("10.0"), "a head that is all of a success: {channel:?}");
}

/// Every call of the service counts, whatever its method's policy.
#[tokio::test]
async fn calls_of_methods_without_a_policy_earn_tokens_and_cost_none() {
    let (server, failing) = switched().await;
    let config = ServiceConfig::builder()
        .method("/Greet/Gather", MethodConfig::new().with_retry(policy().with_max_attempts(5)))
        .retry_throttling(RetryThrottling::new(10, 1.0).unwrap())
        .build()
        .unwrap();
    let channel = server.builder().service_config(config).build();
    let one = || tokio_stream::once(named("a"));
    for _ in 0..3 {
        morning(&channel, "you").await.unwrap_err();
    }
    assert!(format!("{channel:?}").contains("tokens: 10.0"));
    GreetClient::new(channel.clone()).gather(one()).await.unwrap_err();
    assert_eq!(server.calls(), 3 + 5);
    assert!(format!("{channel:?}").contains("tokens: 5.0"));
    failing.store(0, Ordering::SeqCst);
    morning(&channel, "you").await.unwrap();
    assert!(format!("{channel:?}").contains("tokens: 6.0"));
}

#[tokio::test]
async fn codes_that_are_not_retryable_cost_nothing() {
    let server = Scripted::always(fails(Code::InvalidArgument)).await;
    let channel = server.builder().retry(policy()).service_config(config(0.1)).build();
    for _ in 0..20 {
        morning(&channel, "you").await.unwrap_err();
    }
    assert!(format!("{channel:?}").contains("tokens: 10.0"));
}

/// What the default budget promises of an outage: a fifth more, and ten a second.
#[tokio::test]
async fn an_outage_costs_a_fifth_more_and_a_floor() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let budget = RatioBudget::default();
    let reserve = budget.reserve();
    let channel = server.builder().retry(policy()).retry_budget(Arc::new(budget)).build();
    ready(&channel, 1).await;
    let started = tokio::time::Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    let offered = 2000;
    for _ in 0..20 {
        let channel = channel.clone();
        calls.spawn(async move {
            for _ in 0..offered / 20 {
                morning(&channel, "you").await.unwrap_err();
            }
        });
    }
    while calls.join_next().await.is_some() {}
    let floor = 10.0 * started.elapsed().as_secs_f64() + reserve;
    let most = 1.2 * f64::from(offered) + floor;
    let made = server.calls() as f64;
    assert!(made <= most, "{made} of {most}");
    assert!(made >= 1.15 * f64::from(offered), "{made}: what is promised is there as well");
}

#[tokio::test]
async fn hedges_are_throttled_as_retries_are_and_never_wait() {
    let hedging = fleetward_grpc::HedgingPolicy::new(millis(20)).with_max_attempts(3);
    let server = Scripted::start(|n| match n {
        0..5 => fails(Code::Unavailable),
        // Long enough for every hedge that is allowed.
        _ => answers_after(150),
    })
    .await;
    let channel = server.builder().hedge(hedging).service_config(config(0.1)).build();
    ready(&channel, 1).await;
    // Three failures leave 7, two more 5.
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 3);
    let started = tokio::time::Instant::now();
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 5, "the third one is not sent, and nobody waits for it");
    assert!(started.elapsed() < SLACK);
    morning(&channel, "you").await.unwrap();
    assert_eq!(server.calls(), 6, "a slow answer is not hedged either");
}
