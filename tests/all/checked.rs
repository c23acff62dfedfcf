//! A gRPC channel whose instances are checked by an HTTP page on another port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetward::Instance;
use fleetward::discovery::FixedInstancer;
use fleetward::grpc::Channel;
use fleetward::health::HttpProbe;
use fleetward::health::Probing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

#[tokio::test]
async fn a_channel_follows_a_health_page_on_another_port() {
    let page = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = page.local_addr().unwrap().port();
    let well = Arc::new(AtomicBool::new(false));
    let state = well.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = page.accept().await.unwrap();
            let read = stream.read(&mut [0; 1024]).await;
            let status = if state.load(Ordering::SeqCst) { "200 OK" } else { "503 Not Now" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            if read.is_ok() {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let (_, service) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));

    let probe = HttpProbe::new("/healthz").unwrap().with_port(port).unwrap();
    let check = Probing::new(probe).with_interval(Duration::from_millis(20));
    let channel = Channel::builder(FixedInstancer::new("greeter", [instance]))
        .endpointer(fleetward::DefaultEndpointer::builder().panic_threshold(0.0))
        .health_check(check)
        .build();
    let endpoints = channel.endpoints();
    let long = Duration::from_secs(20);
    let until = |n: usize| {
        let wait = endpoints.wait_for(move |set| {
            let reason = set.no_endpoints("greeter").to_string();
            set.ready().len() == n && (n == 1 || reason.contains("it answered 503"))
        });
        tokio::time::timeout(long, wait)
    };
    until(0).await.unwrap();
    well.store(true, Ordering::SeqCst);
    until(1).await.unwrap();
    well.store(false, Ordering::SeqCst);
    until(0).await.unwrap();
}
