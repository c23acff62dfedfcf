//! Servers that do what a test tells them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt;
use bytes::Bytes;
use fleetward_core::Instance;
use fleetward_testkit::HeldAddress;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;

/// What a request brought.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// Answers 200 with its own name, unless a reply stands in line; `/hang` never, `/later` after a while, `/slow`
/// with a body that never ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    name: String,
    replies: Mutex<VecDeque<Response>>,
    always: Mutex<Option<StatusCode>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { name: address.to_string(), ..State::default() });
        let (counted, handled) = (state.clone(), state.clone());
        let listener = listener.tap_io(move |connection| {
            connection.set_nodelay(true).unwrap();
            counted.connections.fetch_add(1, Ordering::SeqCst);
        });
        let router = axum::Router::new().fallback(move |request| handle(handled.clone(), request));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub(crate) fn id(&self) -> String {
        self.state.name.clone()
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance::new(self.address).unwrap()
    }

    /// The next replies, before all others.
    pub(crate) fn then(&self, reply: http::response::Builder) {
        self.state.replies.lock().unwrap().push_back(reply.body(Body::from("no")).unwrap());
    }

    pub(crate) fn always(&self, status: u16) {
        *self.state.always.lock().unwrap() = Some(StatusCode::from_u16(status).unwrap());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.seen.lock().unwrap())
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn handle(state: Arc<State>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (method, uri, headers) = (parts.method, parts.uri.to_string(), parts.headers);
    state.seen.lock().unwrap().push(Seen { method, uri, headers, body });
    if let Some(reply) = state.replies.lock().unwrap().pop_front() {
        return reply;
    }
    if let Some(status) = *state.always.lock().unwrap() {
        return Response::builder().status(status).body(Body::from("no")).unwrap();
    }
    match path.as_str() {
        "/hang" => std::future::pending().await,
        "/later" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Response::new(Body::from(state.name.clone()))
        }
        "/slow" => {
            let ticks = tokio_stream::iter(0..).then(|n: u32| async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok::<_, std::io::Error>(format!("{n}\n"))
            });
            Response::new(Body::from_stream(ticks))
        }
        "/three" => {
            let ticks = tokio_stream::iter(0..3).then(|n: u32| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(format!("{n}\n"))
            });
            Response::new(Body::from_stream(ticks))
        }
        _ => Response::new(Body::from(state.name.clone())),
    }
}

/// Answers the request number n of all with `answers[n]` as it is, and all further ones with the last; then
/// closes the connection.
pub(crate) async fn in_turn(answers: &'static [&'static str]) -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async move {
        let mut left = answers;
        while let Ok((mut stream, _)) = listener.accept().await {
            if !read_head(&mut stream).await {
                continue;
            }
            stream.write_all(left[0].as_bytes()).await.ok();
            if let [_, rest @ ..] = left
                && !rest.is_empty()
            {
                left = rest;
            }
        }
    });
    instance
}

/// Reads the head of each request, writes `answer` as it is, and closes the connection. Counts them.
pub(crate) async fn raw(answer: &'static str) -> (Instance, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if read_head(&mut stream).await {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    (instance, requests)
}

/// An address where nobody listens, nor will.
pub(crate) async fn dead_instance() -> Instance {
    let held = HeldAddress::at("127.0.0.1:0".parse().unwrap()).unwrap();
    Instance::new(held.until_exit()).unwrap()
}

/// Sends half of a body, then nothing more.
pub(crate) async fn silent() -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await.ok();
            open.push(stream);
        }
    });
    instance
}

/// Whether there was one.
async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

/// Answers one request and keeps the connection open; ends with what is read of it afterwards.
pub(crate) async fn one_connection() -> (Instance, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_head(&mut stream).await);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        stream.read(&mut [0]).await.unwrap()
    });
    (instance, task)
}
