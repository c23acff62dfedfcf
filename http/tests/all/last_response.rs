//! Where later attempts get no response, the caller gets the last one that came.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::discovery::Publisher;
use fleetward_core::retry::RetryError;
use fleetward_core::{BoxError, Instance};
use fleetward_http::{Client, Origin, RequestBody, RetryPolicy};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::service_fn;

use crate::server::{Server, in_turn};
use crate::support::*;

const BUSY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nx-why: busy\r\ncontent-length: 10\r\n\r\nno, busy. ";
const GATEWAY: &str =
    "HTTP/1.1 502 Bad Gateway\r\nx-why: gateway\r\ncontent-length: 8\r\n\r\nno way. ";
const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const RESET: &str = "";

fn history<B>(response: &Response<B>) -> &RetryError {
    response.extensions().get().expect("a history")
}

#[tokio::test]
async fn resets_after_a_response_do_not_hide_it() {
    for (answers, why, text_of, attempts) in [
        (&[BUSY, RESET, RESET][..], "busy", "no, busy. ", 3),
        (&[BUSY, GATEWAY, RESET], "gateway", "no way. ", 3),
        (&[RESET, GATEWAY, RESET], "gateway", "no way. ", 3),
    ] {
        let client = retrying(builder([in_turn(answers).await]), 1).await;
        let response = get(&client, "/").await.unwrap();
        assert_eq!(response.headers()["x-why"], why);
        let history = history(&response);
        assert_eq!(history.attempts().len(), attempts, "{history}");
        assert!(!history.final_error().to_string().contains("HTTP 5"), "{history}");
        assert_eq!(text(response).await, text_of);
    }
    // A better response, and a call that got none at all.
    let client = retrying(builder([in_turn(&[BUSY, RESET, FINE]).await]), 1).await;
    assert_eq!(get(&client, "/").await.unwrap().status(), 200);
    let client = retrying(builder([in_turn(&[RESET]).await]), 1).await;
    get(&client, "/").await.unwrap_err();
}

#[tokio::test]
async fn a_response_of_the_only_instance_stays_when_the_instance_leaves() {
    let server = Server::start().await;
    server.then(Response::builder().status(503).header("retry-after", 3).header("x-why", "busy"));
    let list = Publisher::new("shop");
    list.publish([server.instance()]);
    let client = Client::builder(list.clone())
        .retry(RetryPolicy::default())
        .wait_for_ready(WaitForReady::AtMost(Duration::from_millis(50)))
        .build();
    ready(&client, 1).await;
    let call = tokio::spawn(client.send(request("GET", "/")));
    until("the server has answered", || server.seen().len() == 1).await;
    list.publish([]);
    let response = call.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-why"]),
        (503, &"busy".parse().unwrap())
    );
    assert!(history(&response).to_string().contains("no instance"), "{}", history(&response));
    assert_eq!(text(response).await, "no");
}

#[tokio::test]
async fn a_deadline_that_passes_after_a_response_returns_it() {
    let server = Server::start().await;
    server.then(Response::builder().status(503).header("x-why", "busy"));
    let timeout = Duration::from_secs(2);
    let client = retrying(of([&server]).timeout(timeout), 1).await;
    let started = Instant::now();
    let response = get(&client, "/hang").await.unwrap();
    assert!(started.elapsed() >= timeout);
    assert_eq!(response.headers()["x-why"], "busy");
    assert!(history(&response).is_timeout(), "{}", history(&response));
    assert_eq!(text(response).await, "no");
}

/// A body that tells when it is polled and when it is gone.
struct Watched {
    polled: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.polled.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(None)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Other calls need the connection.
#[tokio::test(start_paused = true)]
async fn the_body_of_a_response_that_is_kept_is_not_read_and_does_not_stay_for_long() {
    for (slow, is_whole) in [(5, true), (60, false)] {
        let (polled, alive) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let seen = Arc::<AtomicUsize>::default();
        let (of_polled, of_alive, of_seen) = (polled.clone(), alive.clone(), seen.clone());
        let factory = move |instance: Arc<Instance>| {
            let (polled, alive, seen) = (of_polled.clone(), of_alive.clone(), of_seen.clone());
            async move {
                Origin::new(
                    &instance,
                    service_fn(move |_: Request<RequestBody>| {
                        let (polled, alive) = (polled.clone(), alive.clone());
                        let n = seen.fetch_add(1, Ordering::SeqCst);
                        async move {
                            if n > 1 {
                                tokio::time::sleep(Duration::from_secs(slow)).await;
                                return Err(std::io::Error::other("reset"));
                            }
                            alive.fetch_add(1, Ordering::SeqCst);
                            let response = Response::builder().status(503).header("x-why", n);
                            Ok(response.body(Watched { polled, alive }).unwrap())
                        }
                    }),
                )
            }
        };
        let client = builder([Instance::new("10.0.0.1:80").unwrap()])
            .retry(RetryPolicy::default())
            .build_on(factory);
        let call = tokio::spawn(client.send(request("GET", "/")));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!((seen.load(Ordering::SeqCst), alive.load(Ordering::SeqCst)), (3, 1));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(alive.load(Ordering::SeqCst), usize::from(is_whole));
        let response = call.await.unwrap().unwrap();
        assert_eq!(polled.load(Ordering::SeqCst), 0);
        assert_eq!(response.headers()["x-why"], "1");
        let body = response.into_body().collect().await;
        assert_eq!(body.is_ok(), is_whole, "{:?}", body.err());
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}
