//! HTTP/1.1 or HTTP/2: what the connection says.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::{ErrorKind, Instance};
use fleetward_http::Pool;
use futures::future::BoxFuture;
use http::{Request, Uri, Version};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::Service;

use crate::server::{Server, raw};
use crate::support::*;

/// As a TLS connector that agrees on HTTP/2, or not, with whom it connects to.
#[derive(Clone)]
pub(crate) struct Alpn(pub(crate) bool);

pub(crate) struct Agreed(pub(crate) TokioIo<TcpStream>, pub(crate) bool);

impl Service<Uri> for Alpn {
    type Response = Agreed;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Agreed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self(http2) = *self;
        Box::pin(async move {
            let stream = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
            Ok(Agreed(TokioIo::new(stream), http2))
        })
    }
}

impl Connection for Agreed {
    fn connected(&self) -> Connected {
        if self.1 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Agreed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Agreed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_host_header_is_what_is_asked_for_in_the_version_that_the_connection_has() {
    for (http2, only) in [(false, false), (true, false), (true, true)] {
        let server = Server::start().await;
        let pool = Pool::with_connector(Alpn(http2));
        let pool = if only { pool.with_http2_only() } else { pool };
        let client = of([&server]).build_on(pool);
        ready(&client, 1).await;
        for (uri, host, asked) in [
            ("/a", Some("mine"), "mine"),
            ("http://shop/a", Some("mine:8080"), "mine:8080"),
            ("http://shop/a", None, "shop"),
            ("http://me@shop:81/a", None, "shop:81"),
            ("/a", Some("not a host"), server.id().as_str()),
            ("/a", None, server.id().as_str()),
        ] {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let response = client.send(request.body(String::new()).unwrap()).await.unwrap();
            let seen = server.seen();
            if http2 {
                assert_eq!(response.version(), Version::HTTP_2);
                assert_eq!(seen[0].uri, format!("http://{asked}/a"));
                assert!(!seen[0].headers.contains_key("host"));
            } else {
                assert_eq!(response.version(), Version::HTTP_11);
                assert_eq!(seen[0].uri, "/a");
                assert_eq!(seen[0].headers.get_all("host").iter().collect::<Vec<_>>(), [asked]);
            }
        }
    }
}

/// A connect timeout.
const MOMENT: Duration = Duration::from_millis(200);

/// Accepts connections and says nothing; counts them.
async fn silent() -> (Instance, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            open.push(stream);
        }
    });
    (instance, accepted)
}

#[tokio::test]
async fn servers_that_say_nothing_cost_a_call_one_connect_timeout_each() {
    // The second connector is one of TLS whose server does not answer.
    for http2 in [true, false] {
        for method in ["POST", "GET"] {
            let servers = [silent().await, silent().await];
            let builder = builder(servers.iter().map(|(instance, _)| instance.clone()))
                .retry(fleetward_http::RetryPolicy::default());
            let error = if http2 {
                let client =
                    builder.build_on(Pool::new().with_connect_timeout(MOMENT).with_http2_only());
                ready(&client, 2).await;
                client.send(request(method, "/")).await.unwrap_err()
            } else {
                let tls = Pool::with_connector(Hangs).with_connect_timeout(MOMENT);
                let client = builder.build_on(tls);
                ready(&client, 2).await;
                client.send(request(method, "/")).await.unwrap_err()
            };
            assert!(error.to_string().contains("in time"), "{error}");
            for (_, accepted) in &servers {
                assert_eq!(accepted.load(Ordering::SeqCst), 1, "{method}: {error}");
            }
        }
    }
}

/// Connects, and never has done with its handshake.
#[derive(Clone)]
struct Hangs;

impl Service<Uri> for Hangs {
    type Response = Agreed;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Agreed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let _connected = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn http_2_without_asking_at_a_server_of_http_1_says_what_is_wrong() {
    let (answers, _) = raw("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let (closes, _) = raw("").await;
    for (instance, what) in [(answers, "the server speaks HTTP/1"), (closes, "was closed before")] {
        let client = builder([instance]).build_on(Pool::new().with_http2_only());
        ready(&client, 1).await;
        let error = client.send(request("POST", "/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        for what in [what, "prior knowledge", "ALPN", "with_http2_only"] {
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}

#[tokio::test]
async fn http_2_by_agreement_at_a_server_of_http_1_says_what_is_wrong() {
    let (lies, _) = raw("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let client = builder([lies]).build_on(Pool::with_connector(Alpn(true)));
    ready(&client, 1).await;
    let error = client.send(request("GET", "/")).await.unwrap_err();
    assert!(error.to_string().contains("had agreed on HTTP/2 by ALPN"), "{error}");
}
