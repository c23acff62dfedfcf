//! What is sent again whatever its method, and what is not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    let set = client.endpoints().load();
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

#[tokio::test]
async fn calls_that_wait_for_a_stream_are_tried_elsewhere_when_the_connection_goes() {
    for body in ["", "one, please"] {
        // One at a time, and the first is answered when the others wait.
        let (go, mut gone) = tokio::sync::mpsc::unbounded_channel::<()>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leaving = Instance::new(listener.local_addr().unwrap()).unwrap();
        let (seen, mut first) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut connection = h2::server::Builder::new()
                .max_concurrent_streams(1)
                .handshake::<_, Bytes>(stream)
                .await
                .unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            seen.send(()).unwrap();
            while gone.try_recv().is_err() {
                let wait = tokio::time::timeout(Duration::from_millis(5), connection.accept());
                assert!(wait.await.is_err());
            }
            connection.graceful_shutdown();
            respond.send_response(Response::new(()), true).unwrap();
            while connection.accept().await.is_some() {}
        });
        let server = Server::start().await;
        let client = http2(leaving, &server).await;
        let post = || Request::post("/").body(body.to_owned()).unwrap();
        let held = tokio::spawn(client.send(post()));
        first.recv().await.unwrap();
        let others: Vec<_> = (0..10).map(|_| tokio::spawn(client.send(post()))).collect();
        // They wait in hyper, which shows nowhere.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        assert_eq!(held.await.unwrap().unwrap().status(), 200);
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().status(), 200, "{body:?}");
        }
        assert_eq!(server.seen().len(), 10);
    }
}

/// One call at a time to each of four instances, of which the balancer likes the first.
async fn crowd<S, B>(client: Client<S>, servers: &[Server])
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<fleetward_core::BoxError>,
    S: tower::Service<Request<RequestBody>, Response = Response<fleetward_http::ResponseBody<B>>>
        + Clone
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
    let set = client.endpoints().load();
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

/// A server that takes no new connection and finishes its streams when it is told to leave.
struct Leaving {
    instance: Instance,
    handled: Arc<AtomicUsize>,
    leave: tokio::sync::watch::Sender<bool>,
}

impl Leaving {
    /// With a delay of small packets its last GOAWAY is often lost in a reset, for it closes with unread data.
    async fn start(nodelay: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
        let handled = Arc::new(AtomicUsize::new(0));
        let (leave, leaves) = tokio::sync::watch::channel(false);
        let counted = handled.clone();
        tokio::spawn(async move {
            let mut stop = leaves.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.wait_for(|leave| *leave) => return,
                };
                let stream = accepted.unwrap().0;
                stream.set_nodelay(nodelay).unwrap();
                tokio::spawn(serve(stream, counted.clone(), leaves.clone()));
            }
        });
        Self { instance, handled, leave }
    }
}

async fn serve(
    stream: tokio::net::TcpStream,
    handled: Arc<AtomicUsize>,
    mut leave: tokio::sync::watch::Receiver<bool>,
) {
    // Fewer than there are callers, so that some wait.
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(8);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            _ = leave.wait_for(|leave| *leave), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((_, mut respond))) = accepted else { return };
        handled.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let _ = respond.send_response(Response::new(()), true);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_post_fails_or_is_carried_out_twice_while_servers_restart_in_good_order() {
    restarts(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_post_fails_or_is_carried_out_twice_though_a_last_goaway_is_lost() {
    restarts(false).await;
}

async fn restarts(nodelay: bool) {
    let publisher = fleetward_core::discovery::Publisher::new("shop");
    let mut servers = [Leaving::start(nodelay).await, Leaving::start(nodelay).await];
    publisher.publish(servers.iter().map(|server| server.instance.clone()));
    let client = Client::builder(publisher.clone()).build_on(Pool::new().with_http2_only());
    ready(&client, 2).await;
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..32)
        .map(|n| {
            let (client, over) = (client.clone(), over.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !over.load(Ordering::SeqCst) {
                    let body = if n % 2 == 0 { "" } else { "one, please" };
                    let request = Request::post("/orders").body(body.to_owned()).unwrap();
                    client.send(request).await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut handled = Vec::new();
    for _ in 0..20 {
        // The new one is there before the old one leaves, which stays listed for a while.
        let new = Leaving::start(nodelay).await;
        let old = std::mem::replace(&mut servers[0], new);
        servers.swap(0, 1);
        handled.push(old.handled.clone());
        let all = servers.iter().map(|server| &server.instance).chain([&old.instance]);
        publisher.publish(all.cloned());
        ready(&client, 3).await;
        until("the old one has calls", || old.handled.load(Ordering::SeqCst) > 0).await;
        old.leave.send_replace(true);
        tokio::time::sleep(Duration::from_millis(20)).await;
        publisher.publish(servers.iter().map(|server| server.instance.clone()));
    }
    over.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    handled.extend(servers.iter().map(|server| server.handled.clone()));
    let handled: usize = handled.iter().map(|handled| handled.load(Ordering::SeqCst)).sum();
    assert_eq!(handled, calls, "each once");
}
