//! How the body of a request ends, and what becomes of the call.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::Instance;
use fleetward_core::discovery::FixedInstancer;
use fleetward_grpc::{Channel, Connection, ConnectionConfig};
use futures::{StreamExt, future, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::ServiceExt;
use tower_service::Service;

use crate::reentry::on_one_thread;
use crate::streams::{answer, connected, request, serve};
use crate::support::*;

fn data(bytes: usize) -> Result<Frame<Bytes>, Status> {
    Ok(Frame::data(Bytes::from(vec![0; bytes])))
}

fn body(frames: impl stream::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static) -> Body {
    Body::new(StreamBody::new(frames))
}

/// A server that reads all of a request, answers at once, or never, by the path.
async fn server() -> (std::net::SocketAddr, JoinHandle<()>) {
    serve(h2::server::Builder::new(), |request, mut respond| async move {
        match request.uri().path() {
            "/never" => {
                let _kept = (request, respond);
                future::pending::<()>().await;
            }
            // With RST_STREAM(NO_ERROR) behind it, or without.
            path @ ("/at-once" | "/at-once-and-reads") => {
                let kept = (path == "/at-once-and-reads").then_some(request);
                let mut answer = respond.send_response(answer(), false).unwrap();
                answer.send_data(Bytes::from_static(b"hello"), false).unwrap();
                answer.send_trailers(HeaderMap::new()).unwrap();
                if kept.is_some() {
                    future::pending::<()>().await;
                }
            }
            _ => {
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                if body.trailers().await.is_ok() {
                    respond.send_response(answer(), true).unwrap();
                }
            }
        }
    })
    .await
}

async fn ends(connection: &mut Connection, frames: Body) -> Status {
    let call = timeout(LONG, connection.call(request(frames)));
    let status = call.await.expect("the call hangs").unwrap_err().status().clone();
    // It is the only one to end.
    timeout(LONG, connection.call(request(body(stream::iter([data(9)]))))).await.unwrap().unwrap();
    status
}

#[tokio::test]
async fn a_body_that_goes_wrong_ends_its_call() {
    let (address, _server) = server().await;
    let balanced = connected(address, ConnectionConfig::default()).await;
    let mut connection = balanced.pick(&()).unwrap().service;

    // What HTTP/2 has no place for.
    let mut trailers = HeaderMap::new();
    trailers.insert("connection", "close".parse().unwrap());
    let refused = [data(9), Ok(Frame::trailers(trailers.clone()))];
    let status = ends(&mut connection, body(stream::iter(refused))).await;
    assert_eq!(status.code(), Code::Internal, "{status}");
    let refused = stream::iter([Ok(Frame::trailers(trailers))]);
    assert_eq!(ends(&mut connection, body(refused)).await.code(), Code::Internal);

    let failed = || stream::iter([Err(Status::data_loss("no more"))]);
    assert_eq!(ends(&mut connection, body(failed())).await.code(), Code::Internal);
    let failed = stream::iter([data(9)]).chain(stream::once(yield_now()).then(|()| async {
        sleep(Duration::from_millis(10)).await;
        Err(Status::data_loss("no more"))
    }));
    assert_eq!(ends(&mut connection, body(failed)).await.code(), Code::Internal);

    let panics = stream::iter([data(9)]).chain(stream::once(async {
        sleep(Duration::from_millis(10)).await;
        panic!("on purpose")
    }));
    let status = ends(&mut connection, body(panics)).await;
    assert_eq!(status.code(), Code::Cancelled, "{status}");
}

/// A body of which there is never any more, and who is told when nobody reads it.
fn endless(held: &Arc<()>) -> Body {
    let held = held.clone();
    let never = async move {
        let _held = held;
        match future::pending::<Infallible>().await {}
    };
    body(stream::iter([data(9)]).chain(stream::once(never)))
}

fn to(path: &str, body: Body) -> http::Request<Body> {
    let mut request = request(body);
    *request.uri_mut() = path.parse().unwrap();
    request
}

#[tokio::test]
async fn nobody_reads_the_body_of_a_call_that_is_over() {
    let (address, server) = server().await;
    let balanced = connected(address, ConnectionConfig::default()).await;
    let mut connection = balanced.pick(&()).unwrap().service;
    let held = Arc::new(());
    for path in ["/at-once", "/at-once-and-reads"] {
        let call = timeout(LONG, connection.call(to(path, endless(&held))));
        let answer = call.await.unwrap().unwrap().into_body().collect().await.unwrap();
        assert_eq!(answer.to_bytes(), "hello");
        until("the body is dropped", || Arc::strong_count(&held) == 1).await;
    }
    let mut calls =
        || -> Vec<_> { (0..50).map(|_| connection.call(to("/never", endless(&held)))).collect() };
    let dropped = calls();
    sleep(Duration::from_millis(50)).await;
    drop(dropped);
    until("the bodies are dropped", || Arc::strong_count(&held) == 1).await;
    // Whoever looks at the response, or nobody.
    let lost = calls();
    sleep(Duration::from_millis(50)).await;
    server.abort();
    until("the bodies are dropped", || Arc::strong_count(&held) == 1).await;
    for call in lost {
        let status = timeout(LONG, call).await.unwrap().unwrap_err().status().clone();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
}

/// Runs a future where there is no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn a_call_needs_no_runtime_around_it_and_ends_with_that_of_its_connection() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ConnectionConfig::default()
        .with_http2_keep_alive_interval(Duration::from_secs(1))
        .with_http2_adaptive_window(true);
    let balanced = runtime.block_on(async { connected(server().await.0, config).await });
    let mut connection = balanced.pick(&()).unwrap().service;
    let long = body(stream::iter((0..10).map(|_| data(100_000))));
    block_on(connection.call(request(long))).unwrap();
    let held = Arc::new(());
    let call = connection.call(to("/never", endless(&held)));
    drop(runtime);
    assert!(!block_on(call).unwrap_err().is_unprocessed());
    assert_eq!(Arc::strong_count(&held), 1);
    let late = block_on(connection.call(to("/never", endless(&held)))).unwrap_err();
    assert!(late.is_unprocessed() && late.take_request().is_some());
}

/// Empty frames cost no room at the server, so nothing holds up a body that has no end of them.
#[test]
fn a_body_of_endless_empty_frames_leaves_its_thread_to_others() {
    on_one_thread(|| async {
        let (address, _server) = server().await;
        let balanced = connected(address, ConnectionConfig::default()).await;
        let mut connection = balanced.pick(&()).unwrap().service;
        let empties = body(stream::repeat_with(|| data(0)));
        let call = connection.call(to("/never", empties));
        assert!(timeout(Duration::from_millis(100), call).await.is_err());

        // The same below a channel, which also keeps what may be sent again.
        let list = FixedInstancer::new("greeter", [Instance::new(address).unwrap()]);
        let channel = Channel::builder(list).timeout(Duration::from_millis(100)).build();
        let empties = body(stream::repeat_with(|| data(0)));
        let status = channel.oneshot(to("/never", empties)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    });
}
