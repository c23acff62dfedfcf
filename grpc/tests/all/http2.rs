//! What HTTP/2 servers may do to a stream, frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleetward_balancers::RoundRobin;
use fleetward_core::Instance;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::retry::RetryError;
use fleetward_grpc::{Channel, ConnectionConfig, ConnectionError, RetryPolicy};
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

/// Does the same to every stream, and counts them.
async fn resetting(reason: Reason) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let streams = Arc::new(AtomicUsize::new(0));
    let counted = streams.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    respond.send_reset(reason);
                }
            });
        }
    });
    (address, streams)
}

fn only(address: SocketAddr) -> FixedInstancer {
    FixedInstancer::new("greeter", [Instance::new(address).unwrap()])
}

#[tokio::test]
async fn a_refused_stream_is_tried_once_more_without_a_policy() {
    let (address, streams) = resetting(Reason::REFUSED_STREAM).await;
    let channel = Channel::new(only(address));
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(streams.load(Ordering::SeqCst), 2);

    // Elsewhere, where there is an elsewhere.
    let server = Server::start().await;
    let instances = [Instance::new(address).unwrap(), server.instance()];
    let channel = Channel::builder(FixedInstancer::new("greeter", instances))
        .balancer(RoundRobin::starting_at(0))
        .build();
    ready(&channel, 2).await;
    for _ in 0..20 {
        assert_eq!(who(&channel).await.unwrap(), server.id());
    }
}

#[tokio::test]
async fn a_reset_stream_has_the_code_of_its_reason() {
    for (reason, code) in [
        (Reason::CANCEL, Code::Cancelled),
        (Reason::INTERNAL_ERROR, Code::Internal),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
    ] {
        let (address, streams) = resetting(reason).await;
        let channel = Channel::builder(only(address)).retry(RetryPolicy::default()).build();
        let status = morning(&channel, "you").await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(&address.to_string()), "{status}");
        assert_eq!(streams.load(Ordering::SeqCst), 1, "the server may have acted on it");
    }
}

/// On every connection: SETTINGS, and after the first request GOAWAY with last stream id 0.
async fn going_away() -> SocketAddr {
    async fn serve(mut socket: TcpStream) -> std::io::Result<()> {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        const PREFACE: usize = 24;
        socket.write_all(&SETTINGS).await?;
        socket.read_exact(&mut [0; PREFACE]).await?;
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await?;
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            socket.read_exact(&mut payload).await?;
            // HEADERS
            if kind == 1 {
                socket.write_all(&GOAWAY).await?;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket));
        }
    });
    address
}

#[tokio::test]
async fn what_goaway_turns_away_goes_elsewhere_without_a_policy() {
    let server = Server::start().await;
    let instances = [Instance::new(going_away().await).unwrap(), server.instance()];
    let channel = Channel::builder(FixedInstancer::new("greeter", instances)).build();
    ready(&channel, 2).await;
    for _ in 0..50 {
        assert_eq!(who(&channel).await.unwrap(), server.id());
    }
}

/// A gateway that fails in HTTP, not in gRPC.
#[tokio::test]
async fn an_http_error_has_the_code_that_grpc_gives_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let response = http::Response::builder().status(503).body(()).unwrap();
                respond.send_response(response, true).unwrap();
            }
        }
    });
    let channel = Channel::builder(only(address)).retry(RetryPolicy::default()).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn requests_name_the_instance_unless_told_otherwise() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, mut uris) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tell.send(request.uri().to_string()).unwrap();
                    respond.send_reset(Reason::INTERNAL_ERROR);
                }
            });
        }
    });
    let channel = Channel::new(only(address));
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(uris.recv().await.unwrap(), format!("http://{address}/Greet/Morning"));

    // A client's own origin, then the channel's, which is the last word.
    let origin = "http://mine.test/api".parse::<http::Uri>().unwrap();
    GreetClient::with_origin(channel, origin.clone()).morning(named("you")).await.unwrap_err();
    assert_eq!(uris.recv().await.unwrap(), "http://mine.test/api/Greet/Morning");
    let config = ConnectionConfig::default().with_authority("greeter.test").unwrap();
    let channel = Channel::builder(only(address)).connection(config).build();
    GreetClient::with_origin(channel, origin).morning(named("you")).await.unwrap_err();
    assert_eq!(uris.recv().await.unwrap(), "http://greeter.test/api/Greet/Morning");
}

/// A body that still comes in goes elsewhere too, as long as it has not left.
#[tokio::test]
async fn a_stream_of_requests_survives_a_connection_that_went_down() {
    let mut servers = vec![Server::start().await, Server::start().await];
    let channel = builder(&servers).connection(quick()).build();
    for round in 0..30 {
        ready(&channel, 2).await;
        let address = servers.remove(0).kill();
        // At once: the endpointer may not know yet. A stream that did leave may fail; one that did
        // not must not, and none may hang.
        let (tell, told) = tokio::sync::mpsc::channel(1);
        let told = tokio_stream::wrappers::ReceiverStream::new(told);
        let mut client = GreetClient::new(channel.clone());
        let call = tokio::spawn(async move { client.gather(told).await });
        tokio::task::yield_now().await;
        let _ = tell.send(named("a")).await;
        drop(tell);
        match call.await.unwrap() {
            Ok(answer) => assert!(answer.into_inner().message.ends_with("greets a")),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "round {round}: {status}");
                let source = std::error::Error::source(&status).unwrap();
                let error = source.downcast_ref::<RetryError>().unwrap().final_error();
                let error = error.downcast_ref::<ConnectionError>().unwrap();
                assert!(!error.is_unprocessed(), "round {round}: {status}");
            }
        }
        servers.push(Server::start_at(address).await);
    }
}
