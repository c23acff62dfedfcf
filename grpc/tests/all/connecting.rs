//! Connections: when they count, and how they come back.

use std::time::Duration;

use fleetward_core::Instance;
use fleetward_grpc::Channel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::server::Server;
use crate::support::*;

#[tokio::test]
async fn a_restarted_server_is_found_again_without_any_call() {
    let server = Server::start().await;
    let channel = builder([&server]).connection(quick()).build();
    ready(&channel, 1).await;
    let address = server.kill();
    ready(&channel, 0).await;
    // Down long enough to fail a few times.
    sleep(Duration::from_millis(300)).await;
    let server = Server::start_at(address).await;
    ready(&channel, 1).await;
    assert_eq!(server.calls(), 0);
    assert_eq!(who(&channel).await.unwrap(), server.id());
}

/// A socket that only accepts is a black hole, not a server.
#[tokio::test]
async fn a_server_counts_when_its_settings_have_come() {
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hole.local_addr().unwrap();
    let list = fleetward_core::discovery::FixedInstancer::new(
        "greeter",
        [Instance::new(address).unwrap()],
    );
    let channel = Channel::builder(list)
        .connection(quick())
        .wait_for_ready(fleetward_core::balancing::WaitForReady::AtMost(Duration::from_secs(1)))
        .build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no HTTP/2 connection within 300ms"), "{status}");
    assert!(status.message().contains(&address.to_string()), "{status}");
    assert!(channel.endpoints().load().ready().is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_speak_http2_never_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            // The client's preface first: closing a socket with unread bytes resets it.
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let list = fleetward_core::discovery::FixedInstancer::new(
        "greeter",
        [Instance::new(address).unwrap()],
    );
    let channel = Channel::builder(list)
        .connection(quick())
        .wait_for_ready(fleetward_core::balancing::WaitForReady::AtMost(Duration::from_millis(500)))
        .build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("does not speak HTTP/2, but HTTP/1"), "{status}");
}

/// linkerd2-proxy #1289: reconnecting to defunct endpoints.
#[tokio::test]
async fn a_removed_instance_is_not_dialled_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let publisher = publisher([]);
    publisher.publish([instance]);
    let channel = Channel::builder(publisher.clone()).connection(quick()).build();
    // Accepted and closed at once: dialled with backoff, again and again.
    for _ in 0..3 {
        drop(timeout(LONG, listener.accept()).await.unwrap().unwrap());
    }
    publisher.publish([]);
    timeout(LONG, channel.endpoints().wait_for(|set| set.known() == 0)).await.unwrap();
    let quiet =
        async { while timeout(Duration::from_millis(400), listener.accept()).await.is_ok() {} };
    timeout(LONG, quiet).await.expect("dialled for ever");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_not_dialled_in_a_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let list = fleetward_core::discovery::FixedInstancer::new("greeter", [instance]);
    let _channel = Channel::builder(list).build();
    let (started, mut dials) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(1) {
        if let Ok(accepted) = timeout(Duration::from_millis(50), listener.accept()).await {
            let (mut socket, _) = accepted.unwrap();
            // SETTINGS, and goodbye.
            let _ = socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            dials += 1;
        }
    }
    assert!((2..40).contains(&dials), "{dials} dials in a second");
}

#[tokio::test]
async fn dropping_the_channel_closes_every_connection() {
    let servers = [Server::start().await, Server::start().await];
    let channel = builder(&servers).build();
    ready(&channel, 2).await;
    assert!(servers.iter().all(|server| server.connections() == 1));
    let other = channel.clone();
    drop(channel);
    assert!(morning(&other, "you").await.is_ok());
    drop(other);
    until("the connections are closed", || servers.iter().all(|s| s.connections() == 0)).await;
    assert!(servers.iter().all(|s| s.seen.accepted.load(std::sync::atomic::Ordering::SeqCst) == 1));
}

#[tokio::test]
async fn dropping_the_channel_stops_the_dialling() {
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = fleetward_core::discovery::FixedInstancer::new(
        "greeter",
        [Instance::new(hole.local_addr().unwrap()).unwrap()],
    );
    let channel = Channel::builder(list).build();
    let (mut socket, _) = timeout(LONG, hole.accept()).await.unwrap().unwrap();
    drop(channel);
    let mut seen = Vec::new();
    let closed = socket.read_to_end(&mut seen);
    // The preface was written; then the end, long before the connect timeout of 3 s.
    let _ = timeout(Duration::from_secs(1), closed).await.expect("the socket stays open");
}

#[tokio::test]
async fn https_without_tls_is_never_plaintext() {
    let server = Server::start().await;
    let instance = Instance::new(&*format!("https://{}", server.address)).unwrap();
    let list = fleetward_core::discovery::FixedInstancer::new("greeter", [instance]);
    let channel = Channel::builder(list)
        .wait_for_ready(fleetward_core::balancing::WaitForReady::AtMost(Duration::from_millis(200)))
        .build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert!(status.message().contains("no TLS is configured"), "{status}");
    assert_eq!(server.seen.accepted.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Every address that a name has is tried.
#[tokio::test]
async fn a_name_is_looked_up() {
    let server = Server::start().await;
    let instance = Instance::new(&*format!("localhost:{}", server.address.port())).unwrap();
    let list = fleetward_core::discovery::FixedInstancer::new("greeter", [instance]);
    assert_eq!(who(&Channel::new(list)).await.unwrap(), server.id());
}
