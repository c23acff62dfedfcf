//! Requests' bodies, and how often they are sent.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::ErrorKind;
use fleetward_core::endpoints::Member;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::time::sleep;
use tokio_stream::StreamExt;

use crate::server::{Server, dead_instance};
use crate::support::*;

type Stream<E> =
    StreamBody<std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Frame<Bytes>, E>> + Send>>>;

/// Comes in over time.
fn stream<E: Send + 'static>(parts: Vec<Result<&'static str, E>>) -> Stream<E> {
    let frames = tokio_stream::iter(parts).then(|part| async {
        sleep(Duration::from_millis(5)).await;
        part.map(|text| Frame::data(Bytes::from_static(text.as_bytes())))
    });
    StreamBody::new(Box::pin(frames))
}

#[tokio::test]
async fn a_body_is_the_same_in_every_attempt() {
    let server = Server::start().await;
    let client = retrying(of([&server]), 1).await;
    for body in [Vec::new(), b"\0\xff\r\n".to_vec(), vec![7; 1 << 20]] {
        server.then(Response::builder().status(503));
        server.then(Response::builder().status(503));
        let request = Request::put("/file?v=1").header("etag", "x").body(Full::from(body.clone()));
        assert_eq!(client.send(request.unwrap()).await.unwrap().status(), 200);
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        for seen in &seen {
            assert!(
                seen.body == body
                    && seen.method == "PUT"
                    && seen.uri == "/file?v=1"
                    && seen.headers["etag"] == "x"
            );
            let length = seen.headers["content-length"].to_str().unwrap();
            assert_eq!(length, body.len().to_string());
            assert!(!seen.headers.contains_key("transfer-encoding"));
        }
    }
}

#[tokio::test]
async fn one_over_the_limit_is_sent_once_and_whole() {
    let server = Server::start().await;
    let client = retrying(of([&server]).replay_limit(9), 1).await;
    server.then(Response::builder().status(503));
    let put = || Request::put("/").body("0123456789".to_owned()).unwrap();
    assert_eq!(client.send(put()).await.unwrap().status(), 503);
    assert_eq!(client.send(put()).await.unwrap().status(), 200);
    for seen in server.seen() {
        assert_eq!(seen.body, "0123456789");
        assert_eq!(seen.headers["content-length"], "10");
    }
}

#[tokio::test]
async fn one_that_streams_is_sent_again_within_the_limits() {
    let server = Server::start().await;
    for (limit, buffer, sent) in [(1 << 20, 1 << 20, 2), (12, 1 << 20, 1), (1 << 20, 12, 1)] {
        let client = retrying(of([&server]).replay_limit(limit).replay_buffer(buffer), 1).await;
        server.then(Response::builder().status(503));
        let body = stream::<Infallible>(vec![Ok("one "), Ok("two "), Ok("three")]);
        let response = client.send(Request::put("/").body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), if sent == 2 { 200 } else { 503 });
        let seen = server.seen();
        assert_eq!(seen.len(), sent, "limit {limit}, buffer {buffer}");
        assert!(seen.iter().all(|seen| seen.body == "one two three"), "{seen:?}");
    }
}

#[tokio::test]
async fn one_that_streams_is_not_lost_to_a_refused_connection() {
    let server = Server::start().await;
    let client = builder([dead_instance().await, server.instance()]).build();
    ready(&client, 2).await;
    for _ in 0..6 {
        let body = stream::<Infallible>(vec![Ok("one "), Ok("two")]);
        let request = Request::post("/").body(body).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
    }
    let seen = server.seen();
    assert!(seen.len() == 6 && seen.iter().all(|seen| seen.body == "one two"), "{seen:?}");
}

#[tokio::test]
async fn one_that_fails_is_the_caller_s_own_error() {
    let server = Server::start().await;
    let detection =
        fleetward_core::outlier::OutlierDetection::default().with_consecutive_failures(Some(1));
    let client =
        retrying(of([&server, &Server::start().await]).outlier_detection(detection), 2).await;
    for _ in 0..4 {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let body = stream(vec![Ok("one"), Err(refused)]);
        let error = client.send(Request::put("/").body(body).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{error}");
        assert!(error.to_string().contains("the request's body failed"), "{error}");
        assert!(!error.to_string().contains("before:"), "one attempt: {error}");
    }
    assert!(members(&client).iter().all(Member::is_healthy));
}

#[tokio::test]
async fn many_that_are_there_are_all_tried_again() {
    let server = Server::start().await;
    server.always(503);
    let policy = fleetward_http::RetryPolicy::default();
    let budget = std::sync::Arc::new(Unlimited);
    let client = of([&server]).retry(policy).retry_budget(budget).build();
    ready(&client, 1).await;
    // In one task, whose calls together use up what tokio lets a task do at a time.
    let puts = (0..30).map(|_| {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..10 {
            sender.send(Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part ")))).unwrap();
        }
        let body = StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(receiver));
        client.send(Request::put("/").body(body).unwrap())
    });
    for response in futures::future::join_all(puts).await {
        assert_eq!(response.unwrap().status(), 503);
    }
    assert_eq!(server.seen().len(), 90);
}

#[derive(Debug)]
struct Unlimited;

impl fleetward_core::retry::RetryBudget for Unlimited {
    fn allows(&self) -> bool {
        true
    }
}
