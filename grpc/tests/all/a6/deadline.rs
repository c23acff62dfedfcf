//! One deadline over all attempts.

use fleetward_grpc::ServiceConfig;
use tokio::time::Instant;
use tonic::{Code, Request};

use super::script::*;
use super::*;
use crate::support::*;

/// What a deadline may be late by: 20 ms of ours, the rest a busy machine's.
const LATE: Duration = Duration::from_millis(20 + 130);

fn within<T>(message: T, timeout: u64) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(millis(timeout));
    request
}

fn micros(header: Option<String>) -> u64 {
    let header = header.unwrap();
    let (digits, unit) = header.split_at(header.len() - 1);
    let unit = match unit {
        "n" => 1,
        "u" => 1000,
        "m" => 1_000_000,
        _ => panic!("{header}"),
    };
    digits.parse::<u64>().unwrap() * unit / 1000
}

#[tokio::test]
async fn it_covers_all_attempts_together() {
    let server = Scripted::always([vec![Op::Sleep(70)], fails(Code::Unavailable)].concat()).await;
    let channel = server.builder().retry(policy().with_max_attempts(5)).build();
    ready(&channel, 1).await;
    let started = Instant::now();
    let mut client = GreetClient::new(channel);
    let status = client.morning(within(named("you"), 200)).await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(took >= millis(200) && took < millis(200) + LATE, "{took:?}");
    assert!((2..=3).contains(&server.calls()));
}

#[tokio::test]
async fn each_attempt_is_told_what_is_left() {
    let server = Scripted::always([vec![Op::Sleep(40)], fails(Code::Unavailable)].concat()).await;
    let channel = server.builder().retry(policy()).build();
    ready(&channel, 1).await;
    let mut client = GreetClient::new(channel);
    client.morning(within(named("you"), 5000)).await.unwrap_err();
    let left: Vec<_> = server.headers("grpc-timeout").into_iter().map(micros).collect();
    assert_eq!(left.len(), 4);
    assert!(left[0] <= 5_000_000 && left[0] > 4_500_000, "{left:?}");
    assert!(left.windows(2).all(|pair| pair[0] - pair[1] >= 40_000), "{left:?}");
}

#[tokio::test]
async fn a_wait_beyond_it_is_not_begun() {
    for server in [
        Scripted::always(fails(Code::Unavailable)).await,
        Scripted::always(pushes_back(Code::Unavailable, &["10000"])).await,
    ] {
        let slow = policy().with_backoff(Backoff::new(LONG, LONG).unwrap());
        let channel = server.builder().retry(slow).build();
        ready(&channel, 1).await;
        let started = Instant::now();
        let mut client = GreetClient::new(channel);
        let status = client.morning(within(named("you"), 1000)).await.unwrap_err();
        assert_eq!((status.code(), server.calls()), (Code::Unavailable, 1));
        assert!(started.elapsed() < SLACK, "{:?}", started.elapsed());
    }
}

/// The caller still holds its end of the request: that must not keep the server at work.
#[tokio::test]
async fn it_ends_calls_whose_request_still_comes_in() {
    let server = Scripted::start(|n| match n {
        0 => vec![Op::Read(1), Op::Hang],
        _ => vec![Op::Read(1), Op::Head, Op::Say("one"), Op::Hang],
    })
    .await;
    let channel = server.builder().retry(policy()).build();
    ready(&channel, 1).await;
    let mut client = GreetClient::new(channel.clone());
    let (tell, names) = stream();
    tell.send(named("a")).await.unwrap();
    let status = client.gather(within(names, 150)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    until("the server hears of it", || server.cancelled() == 1).await;

    let (tell_more, names) = stream();
    tell_more.send(named("a")).await.unwrap();
    let mut chat = client.chat(within(names, 150)).await.unwrap().into_inner();
    assert_eq!(chat.message().await.unwrap().unwrap().message, "one");
    assert_eq!(chat.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    until("the server hears of it", || server.cancelled() == 2).await;
    until("the caller hears of it", || tell.is_closed() && tell_more.is_closed()).await;
    assert_eq!(kept(&channel), 0);
}

#[tokio::test]
async fn the_earlier_one_of_caller_and_service_config_holds() {
    let config =
        ServiceConfig::parse(r#"{"methodConfig": [{"name": [{}], "timeout": "0.2s"}]}"#).unwrap();
    let server = Scripted::always(hangs()).await;
    let channel = server.builder().service_config(config).build();
    ready(&channel, 1).await;
    let mut client = GreetClient::new(channel.clone());
    for (asked, holds) in [(None, 200), (Some(10_000), 200), (Some(80), 80)] {
        let started = Instant::now();
        let request = match asked {
            Some(timeout) => within(named("you"), timeout),
            None => Request::new(named("you")),
        };
        let status = client.morning(request).await.unwrap_err();
        let took = started.elapsed();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(took >= millis(holds) && took < millis(holds) + LATE, "{asked:?}: {took:?}");
    }
    let told = server.headers("grpc-timeout").into_iter().map(micros).collect::<Vec<_>>();
    assert!(told[0] <= 200_000 && told[1] <= 200_000 && told[2] <= 80_000, "{told:?}");
}

#[tokio::test]
async fn one_that_has_passed_already_sends_nothing() {
    let server = Scripted::always(answers()).await;
    let channel = server.builder().retry(policy()).build();
    ready(&channel, 1).await;
    let status = GreetClient::new(channel).morning(within(named("you"), 0)).await.unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::DeadlineExceeded, 0));
}
