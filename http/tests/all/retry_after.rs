//! How long is waited where the server says how long.

use std::time::{Duration, SystemTime};

use fleetward_http::RetryPolicy;
use http::Response;
use http::header::RETRY_AFTER;
use tokio::time::Instant;

use crate::server::Server;
use crate::support::*;

/// One reply of `status` with `Retry-After`, then 200: what came back, and when.
async fn after(status: u16, wait: &str, timeout: Duration) -> (u16, Duration) {
    let server = Server::start().await;
    let client = retrying(of([&server]).timeout(timeout), 1).await;
    server.then(Response::builder().status(status).header(RETRY_AFTER, wait));
    let started = Instant::now();
    let response = get(&client, "/").await.unwrap();
    (response.status().as_u16(), started.elapsed())
}

#[tokio::test]
async fn seconds_are_waited_out() {
    let (status, took) = after(429, "0", LONG).await;
    assert!(status == 200 && took < LATE, "{status} {took:?}");
    for alone in [429, 503] {
        let (status, took) = after(alone, "1", LONG).await;
        let second = Duration::from_secs(1);
        assert!(status == 200 && took >= second && took < second + LATE, "{status} {took:?}");
    }
}

#[tokio::test]
async fn so_is_a_date() {
    // A date has no fractions, so this one is more than one second away and at most two.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let (status, took) = after(429, &date, LONG).await;
    assert!(status == 200 && took >= Duration::from_millis(900), "{status} {took:?}");
    assert!(took < Duration::from_secs(2) + LATE, "{took:?}");
    let (status, took) = after(429, "Sun, 06 Nov 1994 08:49:37 GMT", LONG).await;
    assert!(status == 200 && took < LATE, "{status} {took:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_the_usual_backoff() {
    for garbage in ["soon", "-1", "", "1e9", "Sun, 99 Nov 1994 08:49:37 GMT"] {
        let (status, took) = after(429, garbage, LONG).await;
        assert!(status == 200 && took < LATE, "{garbage:?}: {status} {took:?}");
    }
}

#[tokio::test]
async fn what_is_too_long_for_the_policy_or_the_deadline_ends_the_call_with_that_response() {
    for (wait, timeout) in
        [("3600", LONG), ("99999999999999999999", LONG), ("2", Duration::from_secs(1))]
    {
        let (status, took) = after(429, wait, timeout).await;
        assert!(status == 429 && took < LATE, "{wait}: {status} {took:?}");
    }
    let server = Server::start().await;
    let policy = RetryPolicy::default().with_longest_wait(Duration::ZERO);
    let client = of([&server]).retry(policy).build();
    server.then(Response::builder().status(503).header(RETRY_AFTER, "1"));
    let response = get(&client, "/").await.unwrap();
    assert_eq!(response.headers()[RETRY_AFTER], "1");
}

#[tokio::test]
async fn an_instance_that_asks_for_time_sends_the_call_elsewhere_at_once() {
    let servers = [Server::start().await, Server::start().await];
    let client = retrying(of(&servers), 2).await;
    for server in &servers {
        server.then(Response::builder().status(503).header(RETRY_AFTER, "3600"));
    }
    let started = Instant::now();
    // Whoever is first, the other one has its turn; then both have asked.
    let response = get(&client, "/").await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[RETRY_AFTER], "3600");
    assert!(servers.iter().all(|server| server.seen().len() == 1));
    servers[0].then(Response::builder().status(503).header(RETRY_AFTER, "3600"));
    for _ in 0..2 {
        assert_eq!(get(&client, "/").await.unwrap().status(), 200);
    }
    assert!(started.elapsed() < 3 * LATE);
}
