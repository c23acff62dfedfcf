//! Many streams on one connection: how many, how much, and what becomes of those that wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fleetward_balancers::RoundRobin;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::{Balanced, DefaultEndpointer, Endpointer, Instance};
use fleetward_grpc::{Connection, ConnectionConfig, Connector};
use futures::{StreamExt, future, stream};
use http_body_util::StreamBody;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::body::Body;
use tower_service::Service;

use crate::support::*;

/// A server of one connection after the other: how it is set up, and what it does with a stream.
pub(crate) async fn serve<F, D>(
    server: h2::server::Builder,
    does: D,
) -> (SocketAddr, JoinHandle<()>)
where
    D: Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = server.handshake::<_, Bytes>(socket).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(does(request, respond));
            }
        }
    });
    (address, task)
}

pub(crate) async fn connected(
    address: SocketAddr,
    config: ConnectionConfig,
) -> Balanced<Connection> {
    let list = FixedInstancer::new("greeter", [Instance::new(address).unwrap()]);
    let endpointer = DefaultEndpointer::<Connection>::new(list, Connector::new(config));
    timeout(LONG, endpointer.endpoints().wait_for(|set| set.ready().len() == 1)).await.unwrap();
    Balanced::new(endpointer, RoundRobin::new()).wait_for_ready(WaitForReady::FailFast)
}

pub(crate) fn request(body: Body) -> http::Request<Body> {
    http::Request::post("/Greet/Morning").body(body).unwrap()
}

pub(crate) fn answer() -> http::Response<()> {
    http::Response::new(())
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_server_takes() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (open.clone(), most.clone());
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(2);
    let (address, _server) = serve(server, move |_, mut respond| {
        let (open, most) = counted.clone();
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            open.fetch_sub(1, Ordering::SeqCst);
            respond.send_response(answer(), true).unwrap();
        }
    })
    .await;
    let balanced = connected(address, ConnectionConfig::default()).await;
    let calls = (0..40).map(|_| balanced.clone().call(request(Body::empty())));
    let answers = timeout(LONG, future::join_all(calls)).await.expect("some call hangs");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

/// One that has its stream may have been acted on; one that waits for a stream was not, and is given back.
#[tokio::test]
async fn who_waits_for_a_stream_gets_its_request_back() {
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(1);
    let (came, mut seen) = watch::channel(0);
    let (address, server) = serve(server, move |_, respond| {
        came.send_modify(|count| *count += 1);
        async move {
            let _respond = respond;
            future::pending::<()>().await;
        }
    })
    .await;
    let balanced = connected(address, ConnectionConfig::default()).await;
    let mut picked = balanced.pick(&()).unwrap();
    let open = tokio::spawn(picked.service.call(request(Body::empty())));
    timeout(LONG, seen.wait_for(|count| *count == 1)).await.unwrap().unwrap();
    let waits = tokio::spawn(picked.service.call(request(Body::empty())));
    let given_up = picked.service.call(request(Body::empty()));
    tokio::task::yield_now().await;
    drop(given_up);
    server.abort();
    let lost = timeout(LONG, open).await.unwrap().unwrap().unwrap_err();
    assert!(!lost.is_unprocessed() && lost.take_request().is_none(), "{lost}");
    let unsent = timeout(LONG, waits).await.unwrap().unwrap().unwrap_err();
    assert!(unsent.is_unprocessed(), "{unsent}");
    assert_eq!(unsent.take_request().unwrap().uri(), "/Greet/Morning");
}

/// Gracefully: the streams that are open end as they would have.
#[tokio::test]
async fn who_waits_for_a_stream_gets_its_request_back_from_a_server_that_goes_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, mut gone) = watch::channel(false);
    let server = tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let socket = listener.accept().await.unwrap().0;
        let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = tokio::select! {
            came = connection.accept() => came,
            _ = gone.changed() => {
                connection.graceful_shutdown();
                connection.accept().await
            }
        } {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                respond.send_response(answer(), true).unwrap();
            });
        }
    });
    let balanced = connected(address, ConnectionConfig::default()).await;
    let mut connection = balanced.pick(&()).unwrap().service;
    let calls: Vec<_> = (0..5).map(|_| connection.call(request(Body::empty()))).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.send(true).unwrap();
    let answers = timeout(LONG, future::join_all(calls)).await.expect("some call hangs");
    let (ok, unsent): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((ok.len(), unsent.len()), (2, 3));
    assert!(unsent.into_iter().all(|call| call.unwrap_err().take_request().is_some()));
    timeout(LONG, server).await.expect("the connection is still open").unwrap();
}

/// What is not sent is not read from the caller either.
#[tokio::test]
async fn a_request_is_read_no_faster_than_the_server_reads_it() {
    const CHUNK: usize = 64 * 1024;
    let (go, gone) = watch::channel(false);
    let (address, _server) = serve(h2::server::Builder::new(), move |request, mut respond| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|gone| *gone).await.unwrap();
            let mut body = request.into_body();
            let mut read = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                read += data.len();
            }
            assert_eq!(read, 100 * CHUNK);
            respond.send_response(answer(), true).unwrap();
        }
    })
    .await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let counted = pulled.clone();
    let chunks = stream::iter(0..100).map(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, tonic::Status>(http_body::Frame::data(Bytes::from(vec![0; CHUNK])))
    });
    let mut balanced = connected(address, ConnectionConfig::default()).await;
    let call = tokio::spawn(balanced.call(request(Body::new(StreamBody::new(chunks)))));
    until("some of it is read", || pulled.load(Ordering::SeqCst) > 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(pulled.load(Ordering::SeqCst) < 5, "{pulled:?} chunks for a window of one");
    go.send(true).unwrap();
    timeout(LONG, call).await.unwrap().unwrap().unwrap();
    assert_eq!(pulled.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn adaptive_windows_follow_what_comes_in() {
    let (tell, mut told) = watch::channel(0);
    let (address, _server) = serve(h2::server::Builder::new(), move |_, mut respond| {
        let tell = tell.clone();
        async move {
            let mut body = respond.send_response(answer(), false).unwrap();
            // What the client lets a new stream have at once.
            body.reserve_capacity(1 << 20);
            let capacity = future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            tell.send_replace(capacity);
            body.send_data(Bytes::from(vec![0; 4 << 20]), true).unwrap();
        }
    })
    .await;
    let config = ConnectionConfig::default().with_http2_adaptive_window(true);
    let mut balanced = connected(address, config).await;
    let grows = async {
        loop {
            let response = balanced.call(request(Body::empty())).await.unwrap();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            assert_eq!(body.to_bytes().len(), 4 << 20);
            if *told.borrow_and_update() > 65_535 {
                break;
            }
        }
    };
    timeout(LONG, grows).await.expect("the windows stay as they are");
}
