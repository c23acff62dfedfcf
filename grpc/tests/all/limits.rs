//! How many streams a server takes, and how many bytes a client: whatever becomes of them, both come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fleetward_balancers::RoundRobin;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::{Balanced, DefaultEndpointer, Instance};
use fleetward_grpc::{Channel, Connection, ConnectionConfig, Connector};
use futures::future;
use h2::Reason;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::server::Server;
use crate::streams::{answer, connected, request, serve};
use crate::support::*;

/// A server that says `first`, counts HEADERS, and never answers; and how to say more.
async fn silent(
    first: &'static [u8],
) -> (SocketAddr, Arc<AtomicUsize>, watch::Receiver<Option<Write>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(AtomicUsize::new(0));
    let (tell, told) = watch::channel(None);
    let counted = heads.clone();
    tokio::spawn(async move {
        let (mut from, mut to) = listener.accept().await.unwrap().0.into_split();
        to.write_all(first).await.unwrap();
        tell.send_replace(Some(Arc::new(tokio::sync::Mutex::new(to))));
        from.read_exact(&mut [0; 24]).await.unwrap();
        let mut head = [0; 9];
        while from.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            from.read_exact(&mut payload).await.unwrap();
            counted.fetch_add(usize::from(kind == 1), Ordering::SeqCst);
        }
    });
    (address, heads, told)
}

type Write = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

/// The head of a SETTINGS frame with one setting in it, and the limit of streams as that setting.
const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0];
const NONE: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];
const TWO: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2];

#[tokio::test]
async fn a_hundred_streams_are_opened_before_the_server_has_said_how_many() {
    let (address, heads, _said) = silent(SETTINGS).await;
    let balanced = connected(address, ConnectionConfig::default()).await;
    let calls = future::join_all((0..200).map(|_| balanced.clone().call(request(Body::empty()))));
    assert!(timeout(Duration::from_millis(300), calls).await.is_err());
    assert_eq!(heads.load(Ordering::SeqCst), 100);
}

/// As long as it takes none, it is none of those that take calls; a call waits for it only if there is no other.
#[tokio::test]
async fn a_server_that_takes_no_streams_may_come_to_take_some() {
    let (address, heads, said) = silent(NONE).await;
    let list = FixedInstancer::new("greeter", [Instance::new(address).unwrap()]);
    let endpointer =
        DefaultEndpointer::<Connection>::new(list, Connector::new(ConnectionConfig::default()));
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    let mut at_once = balanced.clone().wait_for_ready(WaitForReady::FailFast);
    let none = timeout(LONG, async {
        loop {
            let failed = at_once.call(request(Body::empty())).await.unwrap_err().to_string();
            if failed.contains("takes no calls") {
                break;
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    none.await.expect("nobody says why");
    let balanced = balanced.wait_for_ready(WaitForReady::AtMost(LONG));
    let calls = future::join_all((0..5).map(|_| balanced.clone().call(request(Body::empty()))));
    let calls = tokio::spawn(calls);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(heads.load(Ordering::SeqCst), 0);
    let to = said.borrow().clone().unwrap();
    to.lock().await.write_all(TWO).await.unwrap();
    until("two have left", || heads.load(Ordering::SeqCst) == 2).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(heads.load(Ordering::SeqCst), 2);
    calls.abort();
}

#[tokio::test]
async fn who_waits_at_a_server_that_comes_to_take_no_streams_goes_elsewhere() {
    let (address, heads, said) = silent(TWO).await;
    let publisher = Publisher::new("greeter");
    publisher.publish([Instance::new(address).unwrap()]);
    let channel = Channel::builder(publisher.clone()).build();
    ready(&channel, 1).await;
    let open: Vec<_> = (0..2).map(|_| call(&channel)).collect();
    until("two have left", || heads.load(Ordering::SeqCst) == 2).await;
    let waits: Vec<_> = (0..3).map(|_| call(&channel)).collect();
    tokio::task::yield_now().await;
    let other = Server::start().await;
    publisher.publish([Instance::new(address).unwrap(), other.instance()]);
    ready(&channel, 2).await;
    let to = said.borrow().clone().unwrap();
    to.lock().await.write_all(NONE).await.unwrap();
    for waits in waits {
        assert_eq!(timeout(LONG, waits).await.unwrap().unwrap().unwrap(), other.id());
    }
    ready(&channel, 1).await;
    assert_eq!(heads.load(Ordering::SeqCst), 2);
    assert!(open.iter().all(|call| !call.is_finished()), "what is open goes on");
    to.lock().await.write_all(TWO).await.unwrap();
    ready(&channel, 2).await;
}

fn call(channel: &Channel) -> JoinHandle<Result<String, Status>> {
    let channel = channel.clone();
    tokio::spawn(async move { who(&channel).await })
}

/// Far sooner than the instance is drained: what is open there may take long.
#[tokio::test]
async fn who_waits_at_an_instance_that_leaves_goes_elsewhere() {
    for draining in [false, true] {
        let mut server = h2::server::Builder::new();
        server.max_concurrent_streams(1);
        let (came, mut seen) = watch::channel(0);
        let (address, _server) = serve(server, move |_, respond| {
            came.send_modify(|count| *count += 1);
            async move {
                let _respond = respond;
                future::pending::<()>().await;
            }
        })
        .await;
        let other = Server::start().await;
        let full = Instance::new(address).unwrap();
        let publisher = Publisher::new("greeter");
        publisher.publish([full.clone()]);
        let config = ConnectionConfig::default().with_drain_timeout(10 * LONG);
        let channel = Channel::builder(publisher.clone()).connection(config).build();
        ready(&channel, 1).await;
        let open = call(&channel);
        timeout(LONG, seen.wait_for(|count| *count == 1)).await.unwrap().unwrap();
        let waits: Vec<_> = (0..20).map(|_| call(&channel)).collect();
        tokio::task::yield_now().await;
        match draining {
            true => publisher.publish([full.with_weight(0), other.instance()]),
            false => publisher.publish([other.instance()]),
        };
        for waits in waits {
            let answer = timeout(LONG, waits).await.expect("still waiting");
            assert_eq!(answer.unwrap().unwrap(), other.id());
        }
        assert!(!open.is_finished(), "what is open goes on");
        assert_eq!(*seen.borrow(), 1);
    }
}

/// Answered, refused, failed, dropped while they wait or are open, or their responses are.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn however_calls_end_there_is_room_for_as_many_as_before() {
    const LIMIT: usize = 3;
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(LIMIT as u32).max_pending_accept_reset_streams(10_000);
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    let (address, _server) = serve(server, move |_, mut respond| {
        let open = counted.clone();
        async move {
            match fastrand::u8(..4) {
                _ if open.load(Ordering::SeqCst) > 0 || fastrand::u8(..20) == 0 => {
                    open.fetch_add(1, Ordering::SeqCst);
                    let _ = future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                }
                0 => respond.send_reset(Reason::REFUSED_STREAM),
                1 => drop(respond.send_response(answer(), true)),
                _ => {
                    let Ok(mut body) = respond.send_response(answer(), false) else { return };
                    let _ = body.send_data(Bytes::from(vec![0; 10_000]), true);
                }
            }
        }
    })
    .await;
    let balanced = connected(address, ConnectionConfig::default()).await;
    let calls = (0..3000).map(|i| {
        let call = balanced.clone().call(request(Body::empty()));
        tokio::spawn(async move {
            sleep(Duration::from_millis(i / 10)).await;
            let taken_back = Duration::from_micros(fastrand::u64(..20_000));
            if let Ok(Ok(response)) = timeout(taken_back, call).await
                && fastrand::bool()
            {
                let _ = timeout(taken_back, response.into_body().collect()).await;
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        timeout(LONG, call).await.expect("some call hangs").unwrap();
    }
    // From here on all stay open.
    until("none is open", || open.load(Ordering::SeqCst) == 0).await;
    open.store(1, Ordering::SeqCst);
    let calls = future::join_all((0..20).map(|_| balanced.clone().call(request(Body::empty()))));
    let calls = tokio::spawn(calls);
    until("all room is taken", || open.load(Ordering::SeqCst) == LIMIT + 1).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(open.load(Ordering::SeqCst), LIMIT + 1);
    calls.abort();
}

#[tokio::test]
async fn the_windows_come_back_though_bodies_are_dropped() {
    const BODY: usize = 1 << 20;
    let (address, _server) = serve(h2::server::Builder::new(), |_, mut respond| async move {
        let mut body = respond.send_response(answer(), false).unwrap();
        let _ = body.send_data(Bytes::from(vec![0; BODY]), true);
        let _ = future::poll_fn(|cx| body.poll_reset(cx)).await;
    })
    .await;
    let config = ConnectionConfig::default().with_initial_windows(1 << 20, 1 << 20).unwrap();
    let mut balanced = connected(address, config).await;
    for i in 0..50 {
        let response = timeout(LONG, balanced.call(request(Body::empty()))).await.unwrap();
        let mut body = response.unwrap().into_body();
        if i % 2 == 0 {
            timeout(LONG, body.frame()).await.expect("no window is left").unwrap().unwrap();
        }
    }
    let response = timeout(LONG, balanced.call(request(Body::empty()))).await.unwrap().unwrap();
    let all = timeout(LONG, response.into_body().collect()).await.expect("no window is left");
    assert_eq!(all.unwrap().to_bytes().len(), BODY);
}

/// Heads with a reset right behind them are what an attack looks like: h2's server ends the connection at twenty.
#[tokio::test]
async fn calls_given_up_before_they_are_sent_do_not_cost_the_others_their_connection() {
    let (address, _server) = serve(h2::server::Builder::new(), |_, mut respond| async move {
        let _ = respond.send_response(answer(), true);
    })
    .await;
    let mut balanced = connected(address, ConnectionConfig::default()).await;
    let mut picked = balanced.pick(&()).unwrap();
    for round in 0..3 {
        drop((0..100).map(|_| picked.service.call(request(Body::empty()))).collect::<Vec<_>>());
        let others = (0..50).map(|_| balanced.call(request(Body::empty())));
        for answer in timeout(LONG, future::join_all(others)).await.unwrap() {
            assert!(answer.is_ok(), "round {round}: {answer:?}");
        }
    }
}
