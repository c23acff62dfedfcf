//! Instances that are not the service, and answer at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use fleetward_balancers::{HashKey, RingHash};
use fleetward_core::Instance;
use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::Member;
use fleetward_core::outlier::OutlierDetection;
use fleetward_grpc::{Channel, ChannelBuilder, GrpcHealth, RetryPolicy};
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status};

use crate::greet::GreetResponse;
use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// What it answers to everything.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// A status, in the head.
    Code(Code),
    /// A head, and a status in the trailers.
    Late(Code),
    Http(u16),
    /// HTTP 200 with a page.
    Page,
    /// A head of gRPC, and no status.
    NoStatus,
    /// The same, with an end that is not even a body.
    BareHead,
    /// It knows one method only, as an old version would.
    Old,
}

const REFUSALS: [Says; 8] = [
    Says::Code(Code::Unimplemented),
    Says::Code(Code::PermissionDenied),
    Says::Code(Code::Unauthenticated),
    Says::Code(Code::NotFound),
    Says::Code(Code::Cancelled),
    Says::Code(Code::Aborted),
    Says::Late(Code::PermissionDenied),
    Says::Late(Code::Unimplemented),
];

const FOREIGN: [Says; 7] = [
    Says::Http(401),
    Says::Http(403),
    Says::Http(404),
    Says::Http(200),
    Says::Page,
    Says::NoStatus,
    Says::BareHead,
];

struct Wrong {
    instance: Instance,
    calls: Arc<AtomicUsize>,
}

impl Wrong {
    async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let counted = counted.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        counted.fetch_add(1, Ordering::SeqCst);
                        answer(says, request.uri().path(), respond);
                    }
                });
            }
        });
        Self { instance, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn answer(says: Says, path: &str, mut respond: h2::server::SendResponse<Bytes>) {
    let grpc = || http::Response::builder().header("content-type", "application/grpc");
    let code = |code: Code| grpc().header("grpc-status", code as i32).body(()).unwrap();
    let status = |code: Code| {
        http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from(code as i32),
        )])
    };
    // What its client does to it is nothing to it.
    let _ = (|| {
        match says {
            Says::Code(wanted) => drop(respond.send_response(code(wanted), true)?),
            Says::Late(wanted) => {
                let mut stream = respond.send_response(grpc().body(()).unwrap(), false)?;
                stream.send_trailers(status(wanted))?;
            }
            Says::Http(wanted) => {
                let head = http::Response::builder().status(wanted).body(()).unwrap();
                respond.send_response(head, true)?;
            }
            Says::Page => {
                let head = http::Response::builder().header("content-type", "text/html");
                let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
                stream.send_data(Bytes::from_static(b"<html>Welcome</html>"), true)?;
            }
            Says::NoStatus => {
                let mut stream = respond.send_response(grpc().body(()).unwrap(), false)?;
                stream.send_data(Bytes::new(), true)?;
            }
            Says::BareHead => drop(respond.send_response(grpc().body(()).unwrap(), true)?),
            Says::Old if path.ends_with("/Morning") => {
                let mut stream = respond.send_response(grpc().body(()).unwrap(), false)?;
                let message = GreetResponse { message: "old greets".into() }.encode_to_vec();
                let mut framed = BytesMut::new();
                framed.put_u8(0);
                framed.put_u32(message.len() as u32);
                framed.put_slice(&message);
                stream.send_data(framed.freeze(), false)?;
                stream.send_trailers(status(Code::Ok))?;
            }
            Says::Old => drop(respond.send_response(code(Code::Unimplemented), true)?),
        }
        Ok::<_, h2::Error>(())
    })();
}

fn channel<'a>(
    servers: impl IntoIterator<Item = &'a Server>,
    wrong: impl IntoIterator<Item = &'a Wrong>,
) -> ChannelBuilder<Publisher> {
    let publisher = Publisher::new("greeter");
    let servers = servers.into_iter().map(Server::instance);
    publisher.publish(servers.chain(wrong.into_iter().map(|wrong| wrong.instance.clone())));
    Channel::builder(publisher)
}

/// How many of so many calls in a row fail.
async fn failures(channel: &Channel, calls: usize) -> usize {
    let mut failed = 0;
    for _ in 0..calls {
        failed += usize::from(who(channel).await.is_err());
    }
    failed
}

/// Another method, whose response is a stream.
async fn countdown(channel: &Channel) -> Result<(), Status> {
    let mut client = GreetClient::new(channel.clone());
    let mut stream = client.countdown(named("1 0")).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

async fn four() -> [Server; 4] {
    [Server::start().await, Server::start().await, Server::start().await, Server::start().await]
}

async fn gets_few_calls(kinds: &[Says]) {
    let servers = four().await;
    for &says in kinds {
        let wrong = Wrong::start(says).await;
        for detecting in [false, true] {
            let mut builder = channel(&servers, [&wrong]);
            if detecting {
                builder = builder.outlier_detection(OutlierDetection::default());
            }
            let channel = builder.build();
            ready(&channel, 5).await;
            let first = failures(&channel, 100).await;
            assert!(first <= 20, "{says:?}, {detecting}: {first} of the first 100");
            let later = failures(&channel, 400).await;
            assert!(later <= 6, "{says:?}, {detecting}: {later} of 400");
        }
    }
}

#[tokio::test]
async fn one_that_refuses_everything_gets_few_calls() {
    gets_few_calls(&REFUSALS).await;
}

#[tokio::test]
async fn one_that_is_no_grpc_server_gets_few_calls() {
    gets_few_calls(&FOREIGN).await;
}

#[tokio::test]
async fn the_only_good_one_of_three_gets_the_calls() {
    let good = Server::start().await;
    for says in REFUSALS.into_iter().chain(FOREIGN) {
        let wrong = [Wrong::start(says).await, Wrong::start(says).await];
        let channel = channel([&good], &wrong).build();
        ready(&channel, 3).await;
        failures(&channel, 100).await;
        let later = failures(&channel, 300).await;
        assert!(later <= 9, "{says:?}: {later} of 300");
    }
}

/// Whatever the balancer; its load says nothing of it.
#[tokio::test]
async fn no_balancer_feeds_it() {
    let servers = four().await;
    let wrong = Wrong::start(Says::Code(Code::PermissionDenied)).await;
    for name in
        ["round_robin", "p2c", "least_request?choices=all", "random", "weighted_round_robin"]
    {
        let balancer = fleetward_balancers::by_name(name).unwrap();
        let channel = channel(&servers, [&wrong]).balancer(balancer).build();
        ready(&channel, 5).await;
        failures(&channel, 150).await;
        let later = failures(&channel, 300).await;
        assert!(later <= 4, "{name}: {later} of 300");
    }
}

/// All its calls go to one instance by its key, and are refused.
#[tokio::test]
async fn a_bad_caller_under_ring_hash_leaves_its_instance_to_the_others() {
    let servers = four().await;
    let channel = builder(&servers)
        .balancer(RingHash::new(HashKey::attribute("user")))
        .outlier_detection(OutlierDetection::default())
        .build();
    ready(&channel, 4).await;
    let as_user = |user: String, name: &str| {
        let mut request = Request::new(named(name));
        request.metadata_mut().insert("user", user.parse().unwrap());
        let mut client = GreetClient::new(channel.clone());
        async move {
            let answer: Result<_, Status> = client.morning(request).await;
            answer.map(|answer| answer.into_inner().message)
        }
    };
    let mut home = BTreeMap::new();
    for user in 0..16 {
        home.insert(user, as_user(user.to_string(), "you").await.unwrap());
    }
    let (mut away, mut calls) = (0, 0);
    for round in 0..600 {
        for code in ["code 16", "code 7"] {
            as_user("bad".into(), code).await.unwrap_err();
        }
        let user = round % 16;
        let answer = as_user(user.to_string(), "you").await.unwrap();
        calls += 1;
        away += u32::from(answer != home[&user]);
    }
    assert!(away <= 12, "{away} of {calls} calls of good users left their instance");
    let set = channel.endpoints().load();
    assert!(set.ready().len() == 4 && set.ready().iter().all(Member::is_healthy), "{set:?}");
}

#[tokio::test]
async fn a_method_that_old_instances_do_not_know_goes_to_new_ones_and_the_others_to_all() {
    let new = [Server::start().await, Server::start().await];
    let old = [Wrong::start(Says::Old).await, Wrong::start(Says::Old).await];
    for balancer in ["peak_ewma", "round_robin"] {
        let channel = channel(&new, &old)
            .balancer(fleetward_balancers::by_name(balancer).unwrap())
            .outlier_detection(OutlierDetection::default())
            .build();
        ready(&channel, 4).await;
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut failed, mut mornings) = (0, BTreeMap::<String, u32>::new());
        for i in 0..1500 {
            if rng.u8(..3) == 0 {
                *mornings.entry(who(&channel).await.unwrap()).or_default() += u32::from(i >= 300);
            } else {
                let counted = countdown(&channel).await;
                failed += usize::from(counted.is_err() && i >= 300);
            }
        }
        assert!(failed <= 16, "{balancer}: {failed} of about 800");
        let all: u32 = mornings.values().sum();
        assert!(mornings["old"] * 10 > all * 3, "{balancer}: {mornings:?}");
        let set = channel.endpoints().load();
        assert!(set.ready().iter().all(Member::is_healthy), "{set:?}");
    }
}

#[tokio::test]
async fn one_that_refuses_every_method_is_ejected() {
    let servers = [Server::start().await, Server::start().await];
    let wrong = Wrong::start(Says::Code(Code::Unauthenticated)).await;
    let channel =
        channel(&servers, [&wrong]).outlier_detection(OutlierDetection::default()).build();
    ready(&channel, 3).await;
    let begin = Instant::now();
    while channel.endpoints().load().ready().len() == 3 {
        assert!(begin.elapsed() < LONG, "{channel:?}");
        let _ = morning(&channel, "you").await;
        let _ = countdown(&channel).await;
    }
    let set = channel.endpoints().load();
    assert_eq!(set.ready().not_ready()[0].instance().id(), wrong.instance.id());
}

/// The caller sees what has answered; it is tried elsewhere only where the policy has its code.
#[tokio::test]
async fn what_is_not_grpc_is_said_to_be_that() {
    for (says, code, text) in [
        (Says::Page, Code::Unknown, "the answer is not gRPC: HTTP 200 OK, content-type text/html"),
        (Says::Http(404), Code::Unimplemented, "the answer is not gRPC: HTTP 404 Not Found"),
        (Says::Http(401), Code::Unauthenticated, "the answer is not gRPC: HTTP 401 Unauthorized"),
    ] {
        let wrong = Wrong::start(says).await;
        let channel = channel([], [&wrong]).retry(RetryPolicy::default()).build();
        ready(&channel, 1).await;
        let status = morning(&channel, "you").await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
        assert!(status.message().contains(wrong.instance.id().as_str()), "{status:?}");
        assert_eq!(wrong.calls(), 1, "{says:?}");
    }
}

/// HTTP 404 is no server that knows nothing of health checks.
#[tokio::test]
async fn what_is_not_grpc_does_not_pass_a_health_check() {
    for (says, healthy) in
        [(Says::Http(404), false), (Says::Page, false), (Says::Code(Code::Unimplemented), true)]
    {
        let wrong = Wrong::start(says).await;
        let channel = channel([], [&wrong]).health_check(GrpcHealth::new()).build();
        let decided = channel
            .endpoints()
            .wait_for(|set| !set.ready().is_empty() && set.ready()[0].is_healthy() == healthy);
        assert!(timeout(LONG, decided).await.is_ok(), "{says:?}: {channel:?}");
    }
}
