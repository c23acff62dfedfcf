//! How many attempts, after which codes, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_stream::StreamExt;
use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

#[tokio::test]
async fn the_most_attempts_include_the_first_and_are_five() {
    for (asked, made) in [(1, 1), (2, 2), (3, 3), (5, 5), (6, 5), (1000, 5)] {
        let server = Scripted::always(fails(Code::Unavailable)).await;
        let channel = server.builder().retry(policy().with_max_attempts(asked)).build();
        let status = morning(&channel, "you").await.unwrap_err();
        assert_eq!((status.code(), server.calls()), (Code::Unavailable, made), "asked for {asked}");
    }
}

#[tokio::test]
async fn a_code_that_is_not_retryable_is_final() {
    let policy = policy().with_codes([Code::Unavailable, Code::Aborted]);
    for code in 1..=16 {
        let code = Code::from_i32(code);
        let server = Scripted::always(fails(code)).await;
        let channel = server.builder().retry(policy.clone()).build();
        let status = morning(&channel, "you").await.unwrap_err();
        let made = if [Code::Unavailable, Code::Aborted].contains(&code) { 4 } else { 1 };
        assert_eq!((status.code(), server.calls()), (code, made));
    }
}

#[tokio::test]
async fn a_retryable_code_may_be_followed_by_one_that_is_not() {
    let codes = [Code::Unavailable, Code::Unavailable, Code::NotFound, Code::Unavailable];
    let server = Scripted::start(move |n| fails(codes[n])).await;
    let channel = server.builder().retry(policy()).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::NotFound, 3));
}

/// What the server answers by turns, and how often it must have been asked after each call.
#[tokio::test]
async fn the_sequence_of_grpc_go_for_unary_calls() {
    let server = Scripted::start(|n| match n {
        0 | 2 | 5 => answers(),
        6 | 8 | 11 => fails(Code::Internal),
        _ => fails(Code::AlreadyExists),
    })
    .await;
    let channel = server.builder().retry(policy().with_codes([Code::AlreadyExists])).build();
    for (code, calls) in [
        (Code::Ok, 1),
        (Code::Ok, 3),
        (Code::Ok, 6),
        (Code::Internal, 7),
        (Code::Internal, 9),
        (Code::Internal, 12),
        (Code::AlreadyExists, 16),
    ] {
        let answered = morning(&channel, "you").await.map_or_else(|s| s.code(), |_| Code::Ok);
        assert_eq!((answered, server.calls()), (code, calls));
    }
}

#[tokio::test]
async fn all_four_kinds_of_calls_are_retried() {
    let server =
        Scripted::start(|n| if n % 2 == 0 { fails(Code::Unavailable) } else { answers() }).await;
    let channel = server.builder().retry(policy()).build();
    let mut client = GreetClient::new(channel.clone());
    let names = || tokio_stream::iter(["a", "b"].map(named));

    assert_eq!(client.morning(named("a")).await.unwrap().into_inner().message, "fine");
    assert_eq!(server.calls(), 2);
    let down = client.countdown(named("a")).await.unwrap().into_inner();
    let down: Vec<_> = down.map(|answer| answer.unwrap().message).collect().await;
    assert_eq!((down, server.calls()), (vec!["fine".to_owned()], 4));
    assert_eq!(client.gather(names()).await.unwrap().into_inner().message, "fine");
    assert_eq!(server.calls(), 6);
    let chat = client.chat(names()).await.unwrap().into_inner();
    let chat: Vec<_> = chat.map(|answer| answer.unwrap().message).collect().await;
    assert_eq!((chat, server.calls()), (vec!["fine".to_owned()], 8));
    for (n, names) in [(1, vec!["a"]), (3, vec!["a"]), (5, vec!["a", "b"]), (7, vec!["a", "b"])] {
        assert_eq!(server.seen()[n].names(), names);
    }
}

/// A head is the caller's: whatever comes after it is delivered, and not tried again.
#[tokio::test]
async fn a_head_commits_a_call_of_any_kind() {
    let server = Scripted::start(|n| match n % 2 {
        0 => vec![Op::Head, Op::End(Code::Unavailable, vec![])],
        _ => vec![Op::Head, Op::Say("once"), Op::End(Code::Unavailable, vec![])],
    })
    .await;
    let channel = server.builder().retry(policy()).build();
    let mut client = GreetClient::new(channel);
    for _ in 0..2 {
        assert_eq!(client.morning(named("a")).await.unwrap_err().code(), Code::Unavailable);
    }
    let one = || tokio_stream::once(named("a"));
    assert_eq!(client.gather(one()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(client.gather(one()).await.unwrap_err().code(), Code::Unavailable);
    for said in [false, true, false, true] {
        let mut down = match server.calls() {
            4 | 5 => client.countdown(named("a")).await.unwrap().into_inner(),
            _ => client.chat(one()).await.unwrap().into_inner(),
        };
        if said {
            assert_eq!(down.message().await.unwrap().unwrap().message, "once");
        }
        assert_eq!(down.message().await.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(server.calls(), 8);
}

/// A stream that is reset after its head is as final as trailers.
#[tokio::test]
async fn a_stream_that_breaks_off_after_its_head_is_not_tried_again() {
    let server = Scripted::always(vec![
        Op::Head,
        Op::Say("once"),
        Op::Sleep(50),
        Op::Reset(h2::Reason::REFUSED_STREAM),
    ])
    .await;
    let channel = server.builder().retry(policy()).build();
    let mut down = GreetClient::new(channel).countdown(named("a")).await.unwrap().into_inner();
    assert_eq!(down.message().await.unwrap().unwrap().message, "once");
    assert!(down.message().await.is_err());
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn the_attempts_before_are_counted_in_a_header() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let channel = server.builder().retry(policy()).build();
    morning(&channel, "you").await.unwrap_err();
    let headers = server.headers("grpc-previous-rpc-attempts");
    assert_eq!(headers, [None, Some("1"), Some("2"), Some("3")].map(|v| v.map(str::to_owned)));
}

#[tokio::test]
async fn without_a_policy_a_call_is_made_once() {
    let server = Scripted::always(fails(Code::Unavailable)).await;
    let channel = server.builder().build();
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn each_attempt_goes_to_an_instance_that_has_not_failed_yet() {
    let mut servers = Vec::new();
    let order = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let order = order.clone();
        servers.push(
            Scripted::start(move |_| match order.fetch_add(1, Ordering::SeqCst) % 4 {
                3 => answers(),
                _ => fails(Code::Unavailable),
            })
            .await,
        );
    }
    let channel = to(&servers).retry(policy()).build();
    ready(&channel, 4).await;
    for round in 1..=5 {
        morning(&channel, "you").await.unwrap();
        assert_eq!(servers.iter().map(Scripted::calls).collect::<Vec<_>>(), [round; 4]);
    }
}
