//! What is sent again whatever its method, and what is not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::endpoints::Member;
use fleetward_core::limit::ConcurrencyLimit;
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{Balancer, Instance, InstanceId};
use fleetward_http::{Client, Origin, Pool, RequestBody, RetryPolicy};
use futures::future::join_all;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

use crate::http2::{REFUSED_STREAM, Step, go_away, ok, reset, scripted};
use crate::server::{Server, dead_instance};
use crate::support::*;

/// Goes to one instance while it may.
#[derive(Debug)]
struct Prefer(InstanceId);

impl Prefer {
    fn the(instance: &Instance) -> Self {
        Self(instance.id().clone())
    }
}

impl Balancer for Prefer {
    fn pick(&self, set: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(set.iter().position(|member| member.instance().id() == &self.0).unwrap_or(0))
    }
}

fn strict() -> OutlierDetection {
    OutlierDetection::default().with_consecutive_failures(Some(1))
}

type Hyper = legacy::Client<HttpConnector, RequestBody>;

fn hyper() -> Hyper {
    legacy::Client::builder(TokioExecutor::new()).build_http()
}

/// As most clients do unless told otherwise.
async fn following(
    client: Hyper,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, legacy::Error> {
    let response = client.request(request).await?;
    let Some(location) = response.headers().get("location") else { return Ok(response) };
    let next = Request::get(location.to_str().unwrap()).body(RequestBody::empty()).unwrap();
    client.request(next).await
}

#[tokio::test]
async fn a_redirect_to_a_dead_host_neither_repeats_the_request_nor_blames_its_instance() {
    let servers = [Server::start().await, Server::start().await];
    let dead = dead_instance().await;
    let http = hyper();
    let in_turn = fleetward_balancers::RoundRobin::new();
    let client = of(&servers)
        .balancer(in_turn)
        .outlier_detection(strict())
        .retry(RetryPolicy::default())
        .build_on(move |instance: Arc<Instance>| {
            let http = http.clone();
            async move { Origin::new(&instance, service_fn(move |r| following(http.clone(), r))) }
        });
    ready(&client, 2).await;
    for body in ["", "one, please"] {
        for server in &servers {
            for status in [303, 302, 307] {
                let to = format!("http://{}/", dead.address());
                server.then(Response::builder().status(status).header("location", to));
            }
        }
        for _ in 0..6 {
            let request = Request::post("/orders").body(body.to_owned()).unwrap();
            client.send(request).await.unwrap_err();
        }
        let seen: usize = servers.iter().map(|server| server.seen().len()).sum();
        assert_eq!(seen, 6, "each once: {body:?}");
    }
    let set = client.endpointer().load();
    assert!(set.ready().iter().all(Member::is_healthy) && set.ready().len() == 2);
}

#[tokio::test]
async fn a_client_without_redirects_is_believed_and_blamed() {
    let server = Server::start().await;
    let http = hyper();
    let dead = dead_instance().await;
    let prefer = Prefer::the(&dead);
    let client = builder([dead, server.instance()])
        .outlier_detection(strict())
        .balancer(prefer)
        .build_on(move |instance: Arc<Instance>| {
            let http = http.clone();
            async move {
                let send = service_fn(move |request| http.clone().oneshot(request));
                Ok::<_, fleetward_core::Error>(Origin::new(&instance, send)?.without_redirects())
            }
        });
    ready(&client, 2).await;
    for _ in 0..4 {
        assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
    }
    assert_eq!(server.seen().len(), 4);
    ready(&client, 1).await;
}

/// Speaks HTTP/2, and prefers the first.
async fn http2(first: Instance, second: &Server) -> Client {
    let prefer = Prefer::the(&first);
    let builder = builder([first, second.instance()]).balancer(prefer);
    let client = builder.build_on(Pool::new().with_http2_only());
    ready(&client, 2).await;
    client
}

/// Nothing of it has come in when it is sent.
fn late() -> StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>>> {
    StreamBody::new(futures::stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Frame::data(Bytes::from_static(b"late")))
    }))
}

#[tokio::test]
async fn a_refused_stream_is_tried_elsewhere_whatever_the_method_and_body() {
    let (full, refused) = scripted(100, |id| Step::Write(reset(id, REFUSED_STREAM))).await;
    let server = Server::start().await;
    let client = http2(full, &server).await;
    for body in ["", "one"] {
        let request = Request::post("/").body(body.to_owned()).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
    }
    for _ in 0..10 {
        let response = client.send(Request::post("/").body(late()).unwrap()).await;
        assert_eq!(response.unwrap().status(), 200);
    }
    assert!(refused.load(Ordering::SeqCst) >= 12);
    let seen = server.seen();
    assert_eq!(seen.len(), 12);
    assert!(seen[2..].iter().all(|seen| seen.body == "late"), "{seen:?}");
}

#[tokio::test]
async fn a_stream_above_a_goaway_is_tried_elsewhere_and_one_below_is_not() {
    for answers in [true, false] {
        // The first is taken and answered or not; the second is above the last stream.
        let (leaving, requests) = scripted(100, move |id| match id {
            1 => Step::Write(Vec::new()),
            _ if answers => Step::Last([go_away(1), ok(1)].concat()),
            _ => Step::Last(go_away(1)),
        })
        .await;
        let server = Server::start().await;
        let client = http2(leaving, &server).await;
        let first = tokio::spawn(client.send(request("POST", "/first")));
        until("the first is there", || requests.load(Ordering::SeqCst) == 1).await;
        let second = client.send(request("POST", "/second")).await;
        assert_eq!(second.unwrap().status(), 200);
        assert_eq!(first.await.unwrap().is_ok(), answers);
        let seen = server.seen();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].uri.ends_with("/second"), "{seen:?}");
    }
}

/// One call at a time to each of four instances, of which the balancer likes the first.
async fn crowd<S>(client: Client<S>, servers: &[Server])
where
    S: tower::Service<
            Request<RequestBody>,
            Response = Response<fleetward_http::ResponseBody<Incoming>>,
        > + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<fleetward_core::BoxError>,
    S::Future: Send + 'static,
{
    ready(&client, servers.len()).await;
    let calls = (0..servers.len()).map(|_| client.send(request("POST", "/later")));
    let responses = join_all(calls).await;
    assert!(responses.iter().all(Result::is_ok), "{responses:?}");
    let set = client.endpointer().load();
    assert!(set.ready().iter().all(Member::is_healthy));
}

#[tokio::test]
async fn a_full_instance_s_calls_go_elsewhere_wherever_the_limit_stands() {
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Server::start().await);
    }
    let builder =
        || of(&servers).balancer(Prefer::the(&servers[0].instance())).outlier_detection(strict());
    let limit = ConcurrencyLimit::new(1);
    crowd(builder().build_on(limit.per_instance(Pool::new())), &servers).await;
    let http = hyper();
    let below = move |instance: Arc<Instance>| {
        let http = http.clone();
        async move { Origin::new(&instance, limit.layer(http)) }
    };
    crowd(builder().build_on(below), &servers).await;
    for server in &servers {
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn an_attempt_that_times_out_before_it_is_sent_goes_elsewhere_whatever_its_method() {
    // Accepts connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Instance::new(listener.local_addr().unwrap()).unwrap();
    let server = Server::start().await;
    let policy = RetryPolicy::default().with_per_attempt_timeout(Duration::from_millis(500));
    let prefer = Prefer::the(&silent);
    let client = builder([silent, server.instance()])
        .balancer(prefer)
        .retry(policy)
        .build_on(Pool::new().with_http2_only().with_connect_timeout(LONG));
    ready(&client, 2).await;
    for _ in 0..2 {
        assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
    }
    assert_eq!(server.seen().len(), 2);
}
