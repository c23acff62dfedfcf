//! What is tried again, and what the caller gets in the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fleetward_core::retry::RetryError;
use fleetward_core::{ErrorKind, InstanceId};
use fleetward_http::RetryPolicy;
use http::{Method, Response, StatusCode};

use crate::server::{Server, dead_instance, raw};
use crate::support::*;

#[tokio::test]
async fn a_503_is_followed_by_the_next_instance_s_200() {
    for status in [429, 502, 503, 504] {
        let servers = [Server::start().await, Server::start().await];
        servers[0].always(status);
        let client = retrying(of(&servers), 2).await;
        for _ in 0..10 {
            let response = get(&client, "/users").await.unwrap();
            assert_eq!(response.status(), 200, "after {status}");
            assert_eq!(text(response).await, servers[1].id());
        }
    }
}

#[tokio::test]
async fn other_statuses_are_the_caller_s_at_once() {
    let server = Server::start().await;
    let client = retrying(of([&server]), 1).await;
    for status in [201, 304, 400, 404, 408, 500, 501, 505] {
        server.then(Response::builder().status(status));
        assert_eq!(get(&client, "/").await.unwrap().status(), status);
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn methods_are_tried_again_if_they_are_idempotent() {
    let server = Server::start().await;
    server.always(503);
    let client = retrying(of([&server]), 1).await;
    for (method, times) in [
        ("GET", 3),
        ("HEAD", 3),
        ("OPTIONS", 3),
        ("TRACE", 3),
        ("PUT", 3),
        ("DELETE", 3),
        ("POST", 1),
        ("PATCH", 1),
        ("PURGE", 1),
    ] {
        let response = client.send(request(method, "/")).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(server.seen().len(), times, "{method}");
    }
}

#[tokio::test]
async fn the_policy_may_say_otherwise() {
    let server = Server::start().await;
    let policy = RetryPolicy::default()
        .with_max_attempts(2)
        .with_methods([Method::POST])
        .with_statuses([StatusCode::CONFLICT]);
    let client = of([&server]).retry(policy).build();
    server.then(Response::builder().status(409));
    assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
    for (method, status) in [("GET", 409), ("POST", 503)] {
        server.then(Response::builder().status(status));
        assert_eq!(client.send(request(method, "/")).await.unwrap().status(), status);
    }
    server.always(409);
    server.seen();
    assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 409);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn without_a_policy_a_response_is_a_response() {
    let server = Server::start().await;
    server.always(503);
    let client = of([&server]).build();
    let response = get(&client, "/").await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.extensions().get::<RetryError>().is_none());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn when_no_attempt_is_left_the_caller_gets_the_last_response_whole() {
    let server = Server::start().await;
    server.then(Response::builder().status(503).header("n", 1));
    server.then(Response::builder().status(502).header("n", 2));
    server.then(Response::builder().status(503).header("n", 3));
    let client = retrying(of([&server]), 1).await;
    let response = get(&client, "/").await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["n"], "3");
    assert_eq!(response.extensions().get::<InstanceId>().unwrap().as_str(), server.id());
    let history = response.extensions().get::<RetryError>().unwrap();
    assert_eq!(history.attempts().len(), 3);
    assert!(history.to_string().contains("HTTP 502 Bad Gateway"), "{history}");
    assert_eq!(text(response).await, "no");
}

#[tokio::test]
async fn a_refused_connection_sends_any_request_elsewhere_without_a_policy() {
    let server = Server::start().await;
    let client = builder([dead_instance().await, server.instance(), dead_instance().await]).build();
    ready(&client, 3).await;
    for _ in 0..10 {
        let mut request = request("POST", "/orders");
        *request.body_mut() = "one, please".to_owned();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|seen| seen.body == "one, please"));
}

#[tokio::test]
async fn where_nobody_listens_the_error_says_so() {
    let client = retrying(builder([dead_instance().await]), 1).await;
    let error = get(&client, "/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.context("service"), Some("shop"));
    let id = members(&client)[0].instance().id().to_string();
    assert_eq!(error.context("instance"), Some(id.as_str()));
    assert!(error.to_string().contains("onnection refused"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<RetryError>().unwrap().attempts().len() >= 3);
    assert_eq!(in_flight(&client), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_is_another_attempt_to_a_get_and_an_error_to_a_post() {
    let (broken, requests) = raw("").await;
    let server = Server::start().await;
    let in_turn = fleetward_balancers::RoundRobin::new();
    let client = retrying(builder([broken, server.instance()]).balancer(in_turn), 2).await;
    for _ in 0..6 {
        assert_eq!(get(&client, "/").await.unwrap().status(), 200);
    }
    assert!(requests.swap(0, Ordering::SeqCst) >= 3);
    let mut errors = 0;
    for _ in 0..6 {
        match client.send(request("POST", "/")).await {
            Ok(response) => assert_eq!(response.status(), 200),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                errors += 1;
            }
        }
    }
    assert_eq!((errors, requests.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test]
async fn no_instance_is_an_error_that_names_the_service() {
    let wait = fleetward_core::balancing::WaitForReady::AtMost(Duration::from_millis(50));
    let client = builder([]).retry(RetryPolicy::default()).wait_for_ready(wait).build();
    let error = get(&client, "/").await.unwrap_err();
    assert!(error.is_no_endpoints(), "{error}");
    assert_eq!(error.context("service"), Some("shop"));
}
