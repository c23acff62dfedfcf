//! The connections that a pool makes and keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::Instance;
use fleetward_http::Pool;
use futures::future::BoxFuture;
use http::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tower::Service;

use crate::server::Server;
use crate::support::*;
use crate::versions::{Agreed, Alpn};

/// Answers over HTTP/2, and tells of each connection that ends.
async fn ends() -> (Instance, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let (ended, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_response(Response::new(()), true).unwrap();
                }
                ended.send(()).unwrap();
            });
        }
    });
    (instance, heard)
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_closed_and_made_again() {
    let (instance, mut ended) = ends().await;
    let pool = Pool::new().with_http2_only().with_idle_timeout(Duration::from_millis(50));
    let client = builder([instance]).build_on(pool);
    ready(&client, 1).await;
    for _ in 0..2 {
        assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
        let closed = tokio::time::timeout(LONG, ended.recv()).await;
        closed.expect("it stays open").unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_a_response_is_read_from_is_not_idle() {
    let (go, going) = tokio::sync::oneshot::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let server = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move {
            going.await.unwrap();
            body.send_data(Bytes::from_static(b"late"), true).unwrap();
        });
        while connection.accept().await.is_some() {}
    };
    tokio::spawn(server);
    let pool = Pool::new().with_http2_only().with_idle_timeout(Duration::from_millis(20));
    let client = builder([instance]).build_on(pool);
    ready(&client, 1).await;
    let response = client.send(request("GET", "/")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    go.send(()).unwrap();
    assert_eq!(text(response).await, "late");
}

#[tokio::test]
async fn the_connection_that_shows_the_version_carries_the_first_request() {
    for http2 in [false, true] {
        let server = Server::start().await;
        let client = of([&server]).build_on(Pool::with_connector(Alpn(http2)));
        ready(&client, 1).await;
        for _ in 0..3 {
            text(client.send(request("POST", "/")).await.unwrap()).await;
        }
        assert_eq!((server.seen().len(), server.connections()), (3, 1), "HTTP/2: {http2}");
    }
}

/// Agrees on HTTP/2 from the second connection on.
#[derive(Clone, Default)]
struct Changes(Arc<AtomicUsize>);

impl Service<Uri> for Changes {
    type Response = Agreed;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Agreed>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let http2 = self.0.fetch_add(1, Ordering::SeqCst) > 0;
        Box::pin(async move {
            let stream = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
            Ok(Agreed(TokioIo::new(stream), http2))
        })
    }
}

#[tokio::test]
async fn a_server_that_changes_to_http_2_costs_no_call() {
    let server = Server::start().await;
    let pool = Pool::with_connector(Changes::default()).with_max_idle(0);
    let client = of([&server]).build_on(pool);
    ready(&client, 1).await;
    for version in [http::Version::HTTP_11, http::Version::HTTP_2, http::Version::HTTP_2] {
        let response = client.send(request("POST", "/")).await.unwrap();
        assert_eq!(response.version(), version);
        text(response).await;
    }
    assert_eq!(server.seen().len(), 3);
}

/// Panics at first.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicUsize>);

impl Service<Uri> for Panics {
    type Response = Agreed;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Agreed>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "the connector's own fault");
        Alpn(true).call(uri)
    }
}

#[tokio::test]
async fn a_connector_that_panics_is_asked_again() {
    let server = Server::start().await;
    let client = of([&server]).build_on(Pool::with_connector(Panics::default()));
    ready(&client, 1).await;
    // What never left is sent again as long as there is time; there is one instance only.
    let first = client.send(request("POST", "/")).await;
    if let Err(error) = first {
        assert!(error.to_string().contains("the connector panicked"), "{error}");
    }
    assert_eq!(client.send(request("POST", "/")).await.unwrap().status(), 200);
}
