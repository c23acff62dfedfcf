//! The HTTP probe.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::health::Probe;
use fleetward_core::{DefaultEndpointer, Endpointer, ErrorKind, Instance};
use fleetward_health::HttpProbe;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::*;

/// Answers with a status that can be changed; "/echo" with what was asked, in headers.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let (listener, address) = listen().await;
        Self::serve(listener, address)
    }

    fn serve(listener: TcpListener, address: SocketAddr) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (status.clone(), asked.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, count) = (answers.clone(), count.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        count.fetch_add(1, Ordering::SeqCst);
                        let expected = request.uri() == "/healthz?deep=1"
                            && request.headers()["host"] == "greeter.internal:81"
                            && request.headers()["user-agent"]
                                .as_bytes()
                                .starts_with(b"fleetward-");
                        let status = match (request.uri().path(), expected) {
                            ("/ok", _) | (_, true) => answers.load(Ordering::SeqCst),
                            _ => 404,
                        };
                        let body = Full::new(Bytes::from(vec![b'x'; 1 << 20]));
                        let response = Response::builder().status(status).body(body).unwrap();
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, status, asked, task }
    }

    async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

fn ok() -> HttpProbe {
    HttpProbe::new("/ok").unwrap()
}

#[tokio::test]
async fn an_instance_falls_ill_recovers_dies_and_comes_back() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (a, b) = (instance(first.address), instance(second.address));
    let endpointer = follow(builder(), [a.clone(), b.clone()], probing(ok()));
    until_ready(&endpointer, &[&a, &b]).await;
    first.status.store(503, Ordering::SeqCst);
    until_ready(&endpointer, &[&b]).await;
    first.status.store(200, Ordering::SeqCst);
    until_ready(&endpointer, &[&a, &b]).await;
    let address = second.kill().await;
    until_ready(&endpointer, &[&a]).await;
    let _back = Server::serve(TcpListener::bind(address).await.unwrap(), address);
    until_ready(&endpointer, &[&a, &b]).await;
    assert!(first.asked.load(Ordering::SeqCst) > 5);
}

#[tokio::test]
async fn path_query_host_port_and_status_are_as_configured() {
    let (server, dead) = (Server::start().await, dead_address().await);
    let probe = HttpProbe::new("/healthz?deep=1").unwrap();
    let probe = probe.with_host("greeter.internal:81").unwrap();
    let probe = probe.with_port(server.address.port()).unwrap();
    let at = instance(dead);
    assert!(probe.probe(&at, &()).await.is_ok());
    server.status.store(302, Ordering::SeqCst);
    let error = probe.probe(&at, &()).await.unwrap_err().to_string();
    let url = format!("http://{}/healthz?deep=1", server.address);
    assert!(error.contains("302 Found") && error.contains(&url), "{error}");
    assert!(probe.with_status(200..=399).unwrap().probe(&at, &()).await.is_ok());
    for bad in ["", "ok", "/a b", "http://10.0.0.1/"] {
        assert_eq!(HttpProbe::new(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
    }
    for bad in ["", "a b", "user@host", "a\r\nb: c"] {
        assert!(ok().with_host(bad).is_err(), "{bad}");
    }
    #[allow(clippy::reversed_empty_ranges)] // what a user might write
    for bad in [300..=200, 100..=200, 200..=600] {
        assert!(ok().with_status(bad).is_err());
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_unhealthy_by_the_timeout() {
    let (listener, address) = listen().await;
    let holds = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let well = Server::start().await;
    let (a, b) = (instance(well.address), instance(address));
    let endpointer = follow(DefaultEndpointer::builder(), [a.clone(), b.clone()], probing(ok()));
    let first = endpointer.endpoints().wait_for(|set| !set.ready().is_empty()).await;
    assert_eq!(first.ready()[0].instance().id(), a.id(), "it waits for the one that hangs");
    tokio::time::sleep(Duration::from_millis(500)).await;
    until_ready(&endpointer, &[&a]).await;
    // Alone it is used all the same, unless that is switched off.
    let endpointer = follow(DefaultEndpointer::builder(), [b.clone()], probing(ok()));
    until_ready(&endpointer, &[&b]).await;
    assert!(endpointer.endpoints().load().is_panicking());
    let endpointer = follow(builder(), [b.clone()], probing(ok()));
    let reason = reason(&endpointer).await;
    assert!(reason.contains("no answer within 300ms"), "{reason}");
    holds.abort();
}

/// What comes back from a server that answers these bytes.
async fn answer(bytes: &'static [u8]) -> Result<(), String> {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(bytes).await;
    });
    let at = instance(address);
    let probe = ok();
    let probed = tokio::time::timeout(LONG, probe.probe(&at, &())).await.unwrap();
    probed.map_err(|error| error.to_string())
}

#[tokio::test]
async fn hostile_answers_are_failures_with_a_reason() {
    assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
    assert_eq!(answer(b"HTTP/1.0 200 OK\r\n\r\nand a body").await, Ok(()));
    for bytes in [
        b"".as_slice(),
        b"HTTP/1.1 ",
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    ] {
        let error = answer(bytes).await.unwrap_err();
        assert!(error.contains("no answer: ") && error.contains("url=http://127."), "{error}");
    }
    // Longer than 16 KiB, and more than 100 headers.
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    assert!(answer(Box::leak(long.into_bytes().into())).await.is_err());
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(answer(Box::leak(many.into_bytes().into())).await.is_err());
}

#[tokio::test]
async fn https_is_never_asked_in_plaintext() {
    let server = Server::start().await;
    let tls = Instance::new(format!("https://{}", server.address)).unwrap();
    let error = ok().probe(&tls, &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    let probe = ok().with_port(server.address.port()).unwrap();
    assert!(probe.probe(&tls, &()).await.is_ok(), "another port was named for it");
}
