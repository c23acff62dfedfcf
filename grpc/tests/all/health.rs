//! gRPC's health protocol (gRFC A17) against tonic's own server side of it, and against worse ones.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_core::DefaultEndpointer;
use fleetward_core::backoff::Backoff;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::endpoints::EndpointerBuilder;
use fleetward_grpc::{Channel, ChannelBuilder, GrpcHealth};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::server::Server;
use crate::support::*;

const SERVICE: &str = "greet.Greet";

async fn start(serving: ServingStatus) -> (Server, HealthReporter) {
    start_at("127.0.0.1:0".parse().unwrap(), serving).await
}

async fn start_at(address: SocketAddr, serving: ServingStatus) -> (Server, HealthReporter) {
    let (reporter, service) = health_reporter();
    reporter.set_service_status(SERVICE, serving).await;
    let builder = tonic::transport::Server::builder();
    (Server::start_beside(address, builder, Routes::new(service)).await, reporter)
}

fn check() -> GrpcHealth {
    let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
    GrpcHealth::service(SERVICE)
        .with_timeout(Duration::from_millis(300))
        .with_backoff(backoff.unwrap())
}

fn checked<'a>(
    servers: impl IntoIterator<Item = &'a Server>,
) -> ChannelBuilder<fleetward_core::discovery::Publisher> {
    builder(servers).connection(quick()).health_check(check())
}

fn never_panicking() -> EndpointerBuilder {
    DefaultEndpointer::builder().panic_threshold(0.0)
}

async fn nobody(channel: &Channel, why: &str) {
    let wait = channel.endpoints().wait_for(|set| {
        set.ready().is_empty() && set.no_endpoints("greeter").to_string().contains(why)
    });
    if timeout(LONG, wait).await.is_err() {
        panic!("not for the reason {why:?}: {channel:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_server_that_stops_serving_takes_no_call_until_it_serves_again() {
    let (a, reporter) = start(ServingStatus::Serving).await;
    let (b, _b) = start(ServingStatus::Serving).await;
    let channel = checked([&a, &b]).build();
    ready(&channel, 2).await;
    for state in [ServingStatus::NotServing, ServingStatus::Unknown] {
        reporter.set_service_status(SERVICE, state).await;
        ready(&channel, 1).await;
        let before = a.calls();
        for _ in 0..10 {
            assert_eq!(who(&channel).await.unwrap(), b.id());
        }
        assert_eq!(a.calls(), before);
        reporter.set_service_status(SERVICE, ServingStatus::Serving).await;
        ready(&channel, 2).await;
    }
    let set = channel.endpoints().load();
    for member in set.ready().iter() {
        assert_eq!(member.in_flight(), 0, "the stream is no call");
    }
    let checked = set.ready().iter().find(|member| member.instance().id().to_string() == a.id());
    assert_eq!(checked.unwrap().latency(tokio::time::Instant::now()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_server_without_the_health_service_counts_as_well() {
    let server = Server::start().await;
    let channel = checked([&server]).endpointer(never_panicking()).build();
    assert_eq!(who(&channel).await.unwrap(), server.id());
    // On the next connection too.
    let server = Server::start_at(server.kill()).await;
    until("it answers again", || server.connections() == 1).await;
    ready(&channel, 1).await;
    assert_eq!(who(&channel).await.unwrap(), server.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn where_none_serves_all_are_called_unless_that_is_switched_off() {
    let (a, _a) = start(ServingStatus::NotServing).await;
    let (b, _b) = start(ServingStatus::NotServing).await;
    let channel = checked([&a, &b]).build();
    ready(&channel, 2).await;
    assert!(channel.endpoints().load().is_panicking());
    who(&channel).await.unwrap();
    let channel = checked([&a, &b])
        .endpointer(never_panicking())
        .wait_for_ready(WaitForReady::AtMost(Duration::from_millis(100)))
        .build();
    nobody(&channel, "the server says NOT_SERVING").await;
    let status = who(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = status.message();
    assert!(text.contains("NOT_SERVING") && text.contains(SERVICE), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_service_that_is_registered_later_is_found_by_asking_again() {
    let (server, reporter) = start(ServingStatus::Serving).await;
    let channel = builder([&server])
        .endpointer(never_panicking())
        .health_check(GrpcHealth::service("late").with_backoff(
            Backoff::new(Duration::from_millis(20), Duration::from_millis(100)).unwrap(),
        ))
        .build();
    nobody(&channel, "NotFound: service not registered").await;
    reporter.set_service_status("late", ServingStatus::Serving).await;
    ready(&channel, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_restarted_server_takes_no_call_before_it_says_that_it_serves() {
    let (server, _r) = start(ServingStatus::Serving).await;
    let channel = checked([&server]).endpointer(never_panicking()).build();
    ready(&channel, 1).await;
    let (back, reporter) = start_at(server.kill(), ServingStatus::NotServing).await;
    nobody(&channel, "NOT_SERVING").await;
    assert_eq!(back.calls(), 0);
    reporter.set_service_status(SERVICE, ServingStatus::Serving).await;
    ready(&channel, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_stream_ends_with_the_instance_and_with_the_channel() {
    let (a, _a) = start(ServingStatus::Serving).await;
    let (b, _b) = start(ServingStatus::Serving).await;
    let publisher = publisher([&a, &b]);
    let channel = Channel::builder(publisher.clone()).health_check(check()).build();
    ready(&channel, 2).await;
    publisher.publish([b.instance()]);
    until("the removed one is let go", || a.connections() == 0).await;
    drop(channel);
    until("the other one too", || b.connections() == 0).await;
}

/// Its graceful shutdown waits for every stream to end, and this one never does by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_idle_channel_lets_a_server_go_that_goes_away() {
    let (mut server, _r) = start(ServingStatus::Serving).await;
    let channel = checked([&server]).build();
    ready(&channel, 1).await;
    let start = Instant::now();
    server.go_away();
    until("it has closed its connection", || server.connections() == 0).await;
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    ready(&channel, 0).await;
}

/// Answers the watch as it is told, and counts how often it was asked.
#[derive(Clone)]
struct Worse {
    watches: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    how: How,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// Not even the response's head.
    Silent,
    /// The head, and nothing.
    Empty,
    /// `SERVING`, and the end a moment later.
    Brief(Duration),
    /// More than an answer has.
    Huge,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Worse {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Err(Status::internal("nobody asks"))
    }

    type WatchStream = Answers;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Answers>, Status> {
        assert_eq!(request.get_ref().service, SERVICE);
        assert!(request.metadata().get("grpc-timeout").is_none(), "no deadline");
        self.watches.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(self.open.clone());
        let serving = HealthCheckResponse { status: 1 };
        Ok(Response::new(match self.how {
            How::Silent => std::future::pending().await,
            How::Empty => Box::pin(futures::stream::once(async move {
                let _open = open;
                std::future::pending().await
            })),
            How::Brief(stands) => Box::pin(async_stream(open, stands, serving)),
            How::Huge => return Err(Status::internal("x".repeat(1 << 12))),
        }))
    }
}

fn async_stream(
    open: Open,
    stands: Duration,
    answer: HealthCheckResponse,
) -> impl Stream<Item = Result<HealthCheckResponse, Status>> {
    futures::stream::unfold((open, 0), move |(open, n)| async move {
        if n == 0 {
            return Some((Ok(answer), (open, 1)));
        }
        sleep(stands).await;
        None
    })
}

async fn worse(how: How) -> (Server, Worse) {
    let worse = Worse { watches: Arc::default(), open: Arc::default(), how };
    let routes = Routes::new(HealthServer::new(worse.clone()));
    let (at, builder) = ("127.0.0.1:0".parse().unwrap(), tonic::transport::Server::builder());
    (Server::start_beside(at, builder, routes).await, worse)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_server_that_never_answers_is_not_called_while_others_are() {
    for how in [How::Silent, How::Empty] {
        let (good, _r) = start(ServingStatus::Serving).await;
        let (silent, asked) = worse(how).await;
        let channel = checked([&good, &silent]).build();
        ready(&channel, 1).await;
        until("it was asked", || asked.watches.load(Ordering::SeqCst) == 1).await;
        let end = Instant::now() + Duration::from_millis(600);
        while Instant::now() < end {
            assert_eq!(who(&channel).await.unwrap(), good.id());
        }
        assert_eq!(silent.calls(), 0);
        assert_eq!(asked.watches.load(Ordering::SeqCst), 1, "the stream is still open");
        // Alone, it is called after the timeout, and not before.
        let start = Instant::now();
        let channel = checked([&silent]).build();
        assert_eq!(who(&channel).await.unwrap(), silent.id());
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        let channel = checked([&silent]).endpointer(never_panicking()).build();
        nobody(&channel, "no answer within 300ms").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stream_that_ends_is_opened_again_at_once_but_never_in_a_loop() {
    // Each stands for more than a second: the next one follows at once.
    let (server, asked) = worse(How::Brief(Duration::from_millis(1100))).await;
    let channel = builder([&server])
        .health_check(GrpcHealth::service(SERVICE))
        .endpointer(never_panicking())
        .build();
    ready(&channel, 1).await;
    let start = Instant::now();
    until("it is asked again", || asked.watches.load(Ordering::SeqCst) == 3).await;
    assert!(start.elapsed() < Duration::from_millis(2700), "{:?}", start.elapsed());
    ready(&channel, 1).await;
    // Each ends right after its answer: backoff from 1 s on.
    let (_server, asked) = {
        let (server, asked) = worse(How::Brief(Duration::ZERO)).await;
        let channel = builder([&server])
            .health_check(GrpcHealth::service(SERVICE))
            .endpointer(never_panicking())
            .build();
        nobody(&channel, "the server ended the health stream").await;
        sleep(Duration::from_secs(2)).await;
        drop(channel);
        (server, asked)
    };
    let watches = asked.watches.load(Ordering::SeqCst);
    assert!((1..=20).contains(&watches), "{watches}");
    until("every stream is closed", || asked.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_failing_watch_is_named_in_one_bounded_line() {
    let (server, _asked) = worse(How::Huge).await;
    let channel = checked([&server]).endpointer(never_panicking()).build();
    nobody(&channel, "Watch failed: Internal").await;
    let error = channel.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.len() < 4000, "{}", error.len());
}
