//! A request that comes in over time, read by several attempts at once.

use fleetward_grpc::HedgingPolicy;
use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

fn hedging(attempts: u32) -> HedgingPolicy {
    HedgingPolicy::new(millis(30)).with_max_attempts(attempts)
}

#[tokio::test]
async fn every_hedge_gets_the_request_from_its_beginning() {
    let server = Scripted::always(answers()).await;
    let channel = server.builder().hedge(hedging(3)).build();
    let (tell, names) = stream();
    tell.send(named("a")).await.unwrap();
    let called = channel.clone();
    let call = tokio::spawn(async move { gather(&called, names).await });
    until("all have the first", || {
        let seen = server.seen();
        seen.len() == 3 && seen.iter().all(|stream| stream.names() == ["a"])
    })
    .await;
    tell.send(named("b")).await.unwrap();
    until("all have the second", || {
        server.seen().iter().all(|stream| stream.names() == ["a", "b"])
    })
    .await;
    drop(tell);
    call.await.unwrap().unwrap();
    assert_eq!(kept(&channel), 0);
}

/// The caller still holds its end of the request: the losers must stop all the same.
#[tokio::test]
async fn the_first_head_ends_the_others_and_the_rest_goes_to_it_alone() {
    let server = Scripted::start(|n| match n {
        1 => vec![Op::Read(1), Op::Sleep(150), Op::Head, Op::ReadAll, Op::End(Code::Ok, vec![])],
        _ => vec![Op::ReadAll],
    })
    .await;
    let channel = server.builder().hedge(hedging(3)).build();
    ready(&channel, 1).await;
    let (tell, names) = stream();
    tell.send(named("a")).await.unwrap();
    let mut answers = GreetClient::new(channel.clone()).chat(names).await.unwrap().into_inner();
    until("the others were reset", || server.cancelled() == 2).await;
    assert_eq!(kept(&channel), 0);
    tell.send(named("b")).await.unwrap();
    drop(tell);
    assert!(answers.message().await.unwrap().is_none());
    let names: Vec<_> = server.seen().iter().map(|stream| stream.names().concat()).collect();
    assert_eq!(names, ["a", "ab", "a"]);
}

/// Over the limit: the call goes on with the attempt that has come furthest.
#[tokio::test]
async fn more_than_the_limit_ends_all_but_one() {
    let server = Scripted::always(answers()).await;
    let channel = server.builder().hedge(hedging(3)).replay_limit(1000).build();
    let (tell, names) = stream();
    tell.send(named("a")).await.unwrap();
    let called = channel.clone();
    let call = tokio::spawn(async move { gather(&called, names).await });
    until("all are there", || server.calls() == 3).await;
    tell.send(named("b".repeat(2000))).await.unwrap();
    until("the others were reset", || server.cancelled() == 2).await;
    assert_eq!(kept(&channel), 0);
    tell.send(named("c")).await.unwrap();
    drop(tell);
    call.await.unwrap().unwrap();
    let seen = server.seen();
    let whole: Vec<_> = seen.iter().filter(|stream| stream.names().len() == 3).collect();
    assert_eq!((whole.len(), seen.len()), (1, 3));
}

#[tokio::test]
async fn a_committed_call_is_not_hedged_and_its_failure_is_final() {
    let server =
        Scripted::always(vec![Op::Read(2), Op::Sleep(150), Op::End(Code::Unavailable, vec![])])
            .await;
    let channel = server.builder().hedge(hedging(3)).replay_limit(10).build();
    ready(&channel, 1).await;
    let (tell, names) = stream();
    for name in ["one of a few", "and another one"] {
        tell.send(named(name)).await.unwrap();
    }
    drop(tell);
    let status = gather(&channel, names).await.unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::Unavailable, 1));
}
