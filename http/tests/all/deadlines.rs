//! A call's deadline covers everything, to the end of the response's body.

use std::time::Duration;

use fleetward_core::ErrorKind;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::retry::RetryError;
use fleetward_http::{RetryPolicy, Timeout};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::server::Server;
use crate::support::*;

const TIMEOUT: Duration = Duration::from_millis(200);

fn in_time(started: Instant) {
    let took = started.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
}

#[tokio::test]
async fn it_ends_a_call_that_its_instance_does_not_answer() {
    let server = Server::start().await;
    let client = retrying(of([&server]).timeout(TIMEOUT), 1).await;
    let started = Instant::now();
    let error = get(&client, "/hang").await.unwrap_err();
    in_time(started);
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.context("service"), Some("shop"));
    assert_eq!(error.context("instance"), Some(server.id().as_str()));
    assert_eq!(server.seen().len(), 1);
    assert_eq!(in_flight(&client), 0);
}

#[tokio::test]
async fn it_covers_the_response_s_body() {
    let server = Server::start().await;
    let client = retrying(of([&server]).timeout(TIMEOUT), 1).await;
    let started = Instant::now();
    let mut body = get(&client, "/slow").await.unwrap().into_body();
    let mut frames = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(_) => frames += 1,
            Err(error) => break error,
        }
    };
    in_time(started);
    assert!(frames > 3);
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.context("instance"), Some(server.id().as_str()));
    assert_eq!(error.context("service"), Some("shop"));
    assert_eq!(in_flight(&client), 0);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn it_covers_a_body_that_is_silent() {
    let silent = crate::server::silent().await;
    let client = retrying(builder([silent]).timeout(TIMEOUT), 1).await;
    let started = Instant::now();
    let mut body = get(&client, "/").await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    let error = body.frame().await.unwrap().unwrap_err();
    in_time(started);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_call_may_bring_its_own() {
    let server = Server::start().await;
    let client = of([&server]).timeout(LONG).build();
    let mut own = request("GET", "/hang");
    own.extensions_mut().insert(Timeout(TIMEOUT));
    let started = Instant::now();
    assert!(client.send(own).await.unwrap_err().is_timeout());
    in_time(started);
}

#[tokio::test]
async fn it_covers_the_wait_for_an_instance() {
    let wait = WaitForReady::AtMost(LONG);
    let client = builder([]).timeout(TIMEOUT).wait_for_ready(wait).build();
    let started = Instant::now();
    let error = get(&client, "/").await.unwrap_err();
    in_time(started);
    assert!(error.is_timeout() && error.message().contains("no instance"), "{error}");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_goes_elsewhere_if_it_may_run_twice() {
    let servers = [Server::start().await, Server::start().await];
    let policy = RetryPolicy::default().with_per_attempt_timeout(Duration::from_millis(100));
    let client = of(&servers).retry(policy).timeout(Duration::from_millis(250)).build();
    ready(&client, 2).await;
    let error = get(&client, "/hang").await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(servers.iter().all(|server| !server.seen().is_empty()));
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<RetryError>().unwrap().attempts().len() >= 2, "{error}");

    let error = client.send(request("POST", "/hang")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(servers.iter().map(|server| server.seen().len()).sum::<usize>(), 1);
}

#[tokio::test]
async fn one_that_has_passed_already_says_that_nothing_was_sent() {
    let server = Server::start().await;
    let client = retrying(of([&server]), 1).await;
    let mut late = request("GET", "/");
    late.extensions_mut().insert(Timeout(Duration::ZERO));
    let error = client.send(late).await.unwrap_err();
    assert!(error.is_timeout() && error.message() == "nothing was sent", "{error}");
    assert!(server.seen().is_empty());
}
