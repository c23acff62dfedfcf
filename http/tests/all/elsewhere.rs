//! A request that never left goes elsewhere whatever its method, and only that.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::BoxError;
use fleetward_core::balancing::WaitForReady;
use fleetward_http::{Client, Origin, Pool, Pooled, RetryPolicy};
use futures::future::BoxFuture;
use http::Uri;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_stream::StreamExt;
use tower::Service;

use crate::server::{Server, dead_instance};
use crate::support::*;

/// Long enough for a server on a busy machine.
const ATTEMPT: Duration = Duration::from_secs(1);

/// What becomes of a connection.
#[derive(Clone, Copy)]
enum Way {
    Stands,
    Refused,
    Hangs,
}

#[derive(Clone)]
struct Connector {
    /// By port.
    way: Arc<dyn Fn(u16) -> Way + Send + Sync>,
    http: HttpConnector,
}

impl Connector {
    fn new(way: impl Fn(u16) -> Way + Send + Sync + 'static) -> Self {
        Self { way: Arc::new(way), http: HttpConnector::new() }
    }
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let way = (self.way)(uri.port_u16().unwrap());
        let connecting = self.http.call(uri);
        Box::pin(async move {
            match way {
                Way::Stands => connecting.await.map_err(Into::into),
                Way::Refused => Err(std::io::Error::from(ErrorKind::ConnectionRefused).into()),
                Way::Hangs => std::future::pending().await,
            }
        })
    }
}

/// Over two servers, to the second of which there is no way.
async fn half_reachable(http2: bool) -> ([Server; 2], Client<Origin<Pooled<Connector>>>) {
    let servers = [Server::start().await, Server::start().await];
    let hangs = servers[1].address.port();
    let way = move |port| if port == hangs { Way::Hangs } else { Way::Stands };
    let pool = Pool::with_connector(Connector::new(way));
    let pool = if http2 { pool.with_http2_only() } else { pool };
    let policy = RetryPolicy::default().with_per_attempt_timeout(ATTEMPT);
    let in_turn = fleetward_balancers::RoundRobin::new();
    let client = of(&servers).balancer(in_turn).retry(policy).build_on(pool);
    ready(&client, 2).await;
    (servers, client)
}

#[tokio::test]
async fn an_attempt_that_ends_while_it_connects_goes_elsewhere_whatever_its_method() {
    for http2 in [false, true] {
        let (servers, client) = half_reachable(http2).await;
        for _ in 0..2 {
            let mut whole = request("POST", "/");
            *whole.body_mut() = "one, please".to_owned();
            assert_eq!(client.send(whole).await.unwrap().status(), 200);
            // Comes in over time: it cannot be sent twice.
            let parts = tokio_stream::iter(["one, ", "please"]).then(|part| async move {
                tokio::task::yield_now().await;
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(part.as_bytes())))
            });
            let streamed = http::Request::post("/").body(StreamBody::new(parts)).unwrap();
            assert_eq!(client.send(streamed).await.unwrap().status(), 200);
        }
        let seen = servers[0].seen();
        assert!(seen.len() == 4 && seen.iter().all(|seen| seen.body == "one, please"));
    }
}

/// With or without a body: the server has it, and may have acted on it.
#[tokio::test]
async fn an_attempt_that_ends_after_it_left_is_not_repeated() {
    let servers = [Server::start().await, Server::start().await];
    let policy = RetryPolicy::default().with_per_attempt_timeout(ATTEMPT);
    for pool in [Pool::new(), Pool::new().with_http2_only()] {
        let client = of(&servers).retry(policy.clone()).build_on(pool);
        ready(&client, 2).await;
        for body in ["", "one, please"] {
            // So that there is a connection already, or not.
            for _ in 0..2 {
                let mut hangs = request("POST", "/hang");
                *hangs.body_mut() = body.to_owned();
                let error = client.send(hangs).await.unwrap_err();
                assert!(error.is_timeout(), "{error}");
                let seen: usize = servers.iter().map(|server| server.seen().len()).sum();
                assert!(seen <= 1, "{body:?} was sent {seen} times");
            }
        }
    }
}

#[tokio::test]
async fn as_long_as_an_untried_instance_is_left_no_call_fails() {
    for live in [5, 2] {
        let mut servers = Vec::new();
        let mut instances = Vec::new();
        for _ in 0..live {
            servers.push(Server::start().await);
            instances.push(servers.last().unwrap().instance());
        }
        while instances.len() < 20 {
            instances.push(dead_instance().await);
        }
        // No latency is known that would lead to the live ones.
        let random = fleetward_balancers::Random::new();
        let client = builder(instances).balancer(random).build();
        ready(&client, 20).await;
        for _ in 0..100 {
            assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
        }
        assert_eq!(servers.iter().map(|server| server.seen().len()).sum::<usize>(), 100);
    }
}

#[tokio::test]
async fn the_only_instance_is_waited_for_while_it_starts_anew() {
    let server = Server::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let way = move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0..6 => Way::Refused,
        _ => Way::Stands,
    };
    let client = of([&server])
        .wait_for_ready(WaitForReady::AtMost(LONG))
        .build_on(Pool::with_connector(Connector::new(way)));
    assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
    assert_eq!((server.seen().len(), asked.load(Ordering::SeqCst)), (1, 7));
}
