//! A greeter that can be killed, drained and made to fail; each in a runtime of its own, so that
//! killing it cuts its connections as the death of a process would.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::Instance;
use fleetward_testkit::HeldAddress;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::greet::greet_server::{Greet, GreetServer};
use crate::greet::{GreetRequest, GreetResponse};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    /// Another server may listen there when this one is gone, and nobody else.
    held: Option<HeldAddress>,
    runtime: Option<Runtime>,
    shutdown: Option<oneshot::Sender<()>>,
}

/// What a server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    pub(crate) accepted: AtomicUsize,
    /// How many of the next calls fail with `UNAVAILABLE`.
    pub(crate) failing: AtomicUsize,
    /// Handlers under way.
    pub(crate) running: AtomicUsize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, tonic::transport::Server::builder()).await
    }

    pub(crate) async fn start_with(address: SocketAddr, builder: tonic::transport::Server) -> Self {
        Self::start_beside(address, builder, Routes::default()).await
    }

    /// With other services beside the greeter.
    pub(crate) async fn start_beside(
        address: SocketAddr,
        builder: tonic::transport::Server,
        others: Routes,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Seen::default());
        // Where the port is given, whoever had it first holds it.
        let held = (address.port() == 0).then(|| HeldAddress::at(address).unwrap());
        let address = held.as_ref().map_or(address, HeldAddress::addr);
        let (bound, address_of) = oneshot::channel();
        let (shutdown, on_shutdown) = oneshot::channel();
        runtime.spawn(serve(address, builder, others, seen.clone(), bound, on_shutdown));
        let address = address_of.await.unwrap();
        Self { address, seen, held, runtime: Some(runtime), shutdown: Some(shutdown) }
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance::new(self.address).unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.seen.running.load(Ordering::SeqCst)
    }

    /// As SIGKILL: listener and connections are gone at once.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.runtime.take().unwrap().shutdown_background();
        self.held.take().map(HeldAddress::until_exit);
        self.address
    }

    /// As SIGTERM: GOAWAY, and the calls under way finish.
    pub(crate) fn go_away(&mut self) {
        let _ = self.shutdown.take().unwrap().send(());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(
    address: SocketAddr,
    mut builder: tonic::transport::Server,
    others: Routes,
    seen: Arc<Seen>,
    bound: oneshot::Sender<SocketAddr>,
    shutdown: oneshot::Receiver<()>,
) {
    // A port that a killed server held is free a moment later.
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let address = listener.local_addr().unwrap();
    bound.send(address).unwrap();
    let greeter = Greeter { id: address.to_string(), seen: seen.clone() };
    let incoming = TcpListenerStream::new(listener)
        .map(move |stream| stream.map(|stream| Counted::new(stream, seen.clone())));
    let _ = builder
        .add_routes(others.add_service(GreetServer::new(greeter)))
        .serve_with_incoming_shutdown(incoming, async {
            if shutdown.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await;
}

struct Greeter {
    id: String,
    seen: Arc<Seen>,
}

struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Greeter {
    fn begin(&self) -> Result<Running, Status> {
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        let fail = |n: usize| n.checked_sub(1);
        if self.seen.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail).is_ok() {
            return Err(Status::unavailable(format!("{} is 100% out of order", self.id)));
        }
        self.seen.running.fetch_add(1, Ordering::SeqCst);
        Ok(Running(self.seen.clone()))
    }

    fn greet(&self, name: &str) -> GreetResponse {
        GreetResponse { message: format!("{} greets {name}", self.id) }
    }
}

fn header(metadata: &MetadataMap, name: &str) -> String {
    metadata.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
}

type Responses = Pin<Box<dyn Stream<Item = Result<GreetResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Greet for Greeter {
    /// The name is a command: `sleep 50`, `header user-agent`, `fail`, `code 14`, or anybody.
    async fn morning(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        let _running = self.begin()?;
        let name = request.get_ref().name.clone();
        match name.split_once(' ') {
            Some(("sleep", ms)) => {
                tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
            }
            Some(("header", header_name)) => {
                let message = header(request.metadata(), header_name);
                return Ok(Response::new(GreetResponse { message }));
            }
            Some(("code", code)) => {
                let mut metadata = MetadataMap::new();
                metadata.insert("grpc-retry-pushback-ms", "9000".parse().unwrap());
                let code = Code::from_bytes(code.as_bytes());
                return Err(Status::with_metadata(code, "as you wish", metadata));
            }
            Some(("fail", _)) => {
                let mut metadata = MetadataMap::new();
                metadata.insert("x-reason", "because".parse().unwrap());
                return Err(Status::with_details_and_metadata(
                    Code::FailedPrecondition,
                    "not now – später",
                    bytes::Bytes::from_static(b"details"),
                    metadata,
                ));
            }
            _ => {}
        }
        Ok(Response::new(self.greet(&name)))
    }

    type CountdownStream = Responses;

    /// `<n> <ms> [<code>]`: n messages, each that long after the one before, then the code.
    async fn countdown(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<Responses>, Status> {
        let running = self.begin()?;
        let name = &request.get_ref().name;
        let mut words = name.split(' ');
        let n: u32 = words.next().unwrap().parse().unwrap();
        let pause: u64 = words.next().unwrap().parse().unwrap();
        let end =
            words.next().map(|code| Status::new(Code::from_bytes(code.as_bytes()), "the end"));
        let id = self.id.clone();
        let messages = tokio_stream::iter((0..n).rev()).then(move |i| {
            let _running = &running;
            let message = format!("{id} counts {i}");
            async move {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                Ok(GreetResponse { message })
            }
        });
        Ok(Response::new(Box::pin(messages.chain(tokio_stream::iter(end.map(Err))))))
    }

    async fn gather(
        &self,
        request: Request<Streaming<GreetRequest>>,
    ) -> Result<Response<GreetResponse>, Status> {
        let _running = self.begin()?;
        let mut names = Vec::new();
        let mut requests = request.into_inner();
        while let Some(request) = requests.message().await? {
            names.push(request.name);
        }
        Ok(Response::new(self.greet(&names.join(" and "))))
    }

    type ChatStream = Responses;

    async fn chat(
        &self,
        request: Request<Streaming<GreetRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let running = self.begin()?;
        let id = self.id.clone();
        let answers = request.into_inner().map(move |request| {
            let _running = &running;
            request.map(|r| GreetResponse { message: format!("{id} greets {}", r.name) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// A socket that is counted while it is open.
struct Counted {
    stream: TcpStream,
    seen: Arc<Seen>,
}

impl Counted {
    fn new(stream: TcpStream, seen: Arc<Seen>) -> Self {
        // Or a response of several frames waits for the acknowledgement of the first.
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        seen.accepted.fetch_add(1, Ordering::SeqCst);
        Self { stream, seen }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.seen.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
