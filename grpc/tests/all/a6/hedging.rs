//! When hedges are sent, and what becomes of the others.

use fleetward_core::retry::RetryError;
use fleetward_grpc::HedgingPolicy;
use tokio::time::Instant;
use tonic::Code;

use super::script::*;
use super::*;
use crate::server::Server;
use crate::support::*;

const DELAY: u64 = 120;

fn hedging(attempts: u32) -> HedgingPolicy {
    HedgingPolicy::new(millis(DELAY)).with_max_attempts(attempts)
}

#[track_caller]
fn came_at(times: &[Duration], expected: &[u64]) {
    assert_eq!(times.len(), expected.len(), "{times:?}");
    for (time, expected) in times.iter().zip(expected) {
        let least = millis(*expected).saturating_sub(EARLY);
        assert!((least..millis(*expected) + SLACK).contains(time), "{times:?}, {expected:?}");
    }
}

#[tokio::test]
async fn they_are_sent_one_delay_after_the_other_up_to_the_most_attempts() {
    let server = Scripted::always(answers_after(5 * DELAY)).await;
    let channel = server.builder().hedge(hedging(3)).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    came_at(&server.times(), &[0, DELAY, 2 * DELAY]);
    let headers = server.headers("grpc-previous-rpc-attempts");
    assert_eq!(headers, [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test]
async fn the_most_attempts_are_five() {
    let server = Scripted::always(answers_after(200)).await;
    let policy = HedgingPolicy::new(Duration::ZERO).with_max_attempts(100);
    let channel = server.builder().hedge(policy).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    assert_eq!(server.calls(), 5);
}

#[tokio::test]
async fn an_answer_within_the_delay_is_not_hedged() {
    let server = Scripted::always(answers()).await;
    let channel = server.builder().hedge(hedging(5)).build();
    ready(&channel, 1).await;
    for _ in 0..20 {
        morning(&channel, "you").await.unwrap();
    }
    assert_eq!(server.calls(), 20);
}

#[tokio::test]
async fn a_failure_that_is_not_fatal_sends_the_next_at_once() {
    let server = Scripted::start(|n| match n {
        0 => [vec![Op::Sleep(40)], fails(Code::Unavailable)].concat(),
        _ => answers_after(3 * DELAY),
    })
    .await;
    let channel = server.builder().hedge(hedging(3)).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    // The third comes its delay after the second.
    came_at(&server.times(), &[0, 40, 40 + DELAY]);
}

#[tokio::test]
async fn when_all_have_failed_so_has_the_call() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let channel = server.builder().hedge(hedging(4)).build();
    ready(&channel, 1).await;
    let started = Instant::now();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::Unavailable, 4));
    assert!(started.elapsed() < millis(DELAY), "no wait between them");
    assert!(status.message().contains("4 attempts"), "{status}");
}

#[tokio::test]
async fn a_fatal_failure_ends_the_call_and_all_others() {
    let servers = [
        Scripted::always(hangs()).await,
        Scripted::always(hangs()).await,
        Scripted::always(hangs()).await,
    ];
    let fatal = Scripted::start(|_| fails(Code::InvalidArgument)).await;
    let list: Vec<_> = servers.iter().chain([&fatal]).collect();
    let channel = to(list).hedge(hedging(4)).build();
    ready(&channel, 4).await;
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let others: usize = servers.iter().map(Scripted::calls).sum();
    until("the others were reset", || {
        servers.iter().map(Scripted::cancelled).sum::<usize>() == others
    })
    .await;
}

#[tokio::test]
async fn the_first_success_ends_the_others_and_their_servers_stop() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let hedging = HedgingPolicy::new(millis(30)).with_max_attempts(3);
    let channel = builder(&servers).hedge(hedging).build();
    ready(&channel, 3).await;
    let members: Vec<_> = channel.endpoints().load().ready().iter().cloned().collect();
    for _ in 0..2 {
        let before: usize = servers.iter().map(Server::calls).sum();
        morning(&channel, "sleep 900").await.unwrap();
        assert_eq!(servers.iter().map(Server::calls).sum::<usize>() - before, 3);
        until("no handler runs", || servers.iter().all(|server| server.running() == 0)).await;
        until("nothing is in flight", || members.iter().all(|m| m.in_flight() == 0)).await;
    }
}

#[tokio::test]
async fn each_goes_to_an_instance_that_has_none_of_the_others() {
    let mut servers = Vec::new();
    for _ in 0..4 {
        // Long enough for all of them to be sent, however busy the machine.
        servers.push(Scripted::always(answers_after(700)).await);
    }
    let policy = HedgingPolicy::new(millis(15)).with_max_attempts(4);
    let channel = to(&servers).balancer(fleetward_balancers::Random::new()).hedge(policy).build();
    ready(&channel, 4).await;
    for round in 1..=3 {
        morning(&channel, "you").await.unwrap();
        assert_eq!(servers.iter().map(Scripted::calls).collect::<Vec<_>>(), [round; 4]);
    }
}

/// The server says when the next may come; after it they come at the delay again.
#[tokio::test]
async fn pushback_puts_the_next_one_off() {
    let server = Scripted::start(|n| match n {
        0 => pushes_back(Code::Unavailable, &["300"]),
        _ => answers_after(2 * DELAY),
    })
    .await;
    let channel = server.builder().hedge(hedging(3)).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    came_at(&server.times(), &[0, 300, 300 + DELAY]);
}

#[tokio::test]
async fn pushback_that_forbids_lets_those_under_way_finish() {
    for value in ["-1", "no number"] {
        let server = Scripted::start(move |n| match n {
            0 => answers_after(4 * DELAY),
            _ => pushes_back(Code::Unavailable, vec![value].leak()),
        })
        .await;
        let channel = server.builder().hedge(hedging(4)).build();
        ready(&channel, 1).await;
        assert_eq!(morning(&channel, "you").await.unwrap(), "fine");
        assert_eq!(server.calls(), 2);
    }
    // With none under way it is the call's end.
    let server = Scripted::always(pushes_back(Code::Unavailable, &["-1"])).await;
    let channel = server.builder().hedge(hedging(4)).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::Unavailable, 1));
}

#[tokio::test]
async fn pushback_does_not_make_a_fatal_code_less_fatal() {
    for value in ["-1", "0"] {
        let server = Scripted::start(move |n| match n {
            0 => hangs(),
            _ => pushes_back(Code::NotFound, vec![value].leak()),
        })
        .await;
        let channel = server.builder().hedge(hedging(4)).build();
        ready(&channel, 1).await;
        let status = morning(&channel, "you").await.unwrap_err();
        assert_eq!((status.code(), server.calls()), (Code::NotFound, 2), "{value}");
        until("the first was reset", || server.cancelled() == 1).await;
    }
}

/// Hedges are not sent again for what happened to another one.
#[tokio::test]
async fn a_refused_hedge_is_sent_again_uncounted() {
    let server = Scripted::start(|n| match n {
        1 => vec![Op::Reset(h2::Reason::REFUSED_STREAM)],
        _ => answers_after(5 * DELAY),
    })
    .await;
    let channel = server.builder().hedge(hedging(2)).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    came_at(&server.times(), &[0, DELAY, DELAY]);
    let headers = server.headers("grpc-previous-rpc-attempts");
    assert_eq!(headers, [None, Some("1".to_owned()), Some("1".to_owned())]);
}

#[tokio::test]
async fn the_deadline_covers_all_of_them() {
    let servers = [Scripted::always(hangs()).await, Scripted::always(hangs()).await];
    let channel = to(&servers).hedge(hedging(2)).timeout(millis(2 * DELAY)).build();
    ready(&channel, 2).await;
    let started = Instant::now();
    let status = morning(&channel, "you").await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(took >= millis(2 * DELAY) && took < millis(2 * DELAY) + SLACK, "{took:?}");
    until("both were reset", || servers.iter().all(|server| server.cancelled() == 1)).await;
    let source = std::error::Error::source(&status).unwrap();
    let error = source.downcast_ref::<RetryError>().unwrap();
    let mut went: Vec<_> =
        error.attempts().iter().map(|a| a.instance.as_ref().unwrap().to_string()).collect();
    let mut ids: Vec<_> = servers.iter().map(Scripted::id).collect();
    went.sort();
    ids.sort();
    assert_eq!(went, ids);
}
