//! A connection by itself, without a channel.

use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::endpoints::Readiness;
use fleetward_core::{Balanced, DefaultEndpointer, Factory, Instance};
use fleetward_grpc::{Connection, ConnectionConfig, Connector};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::Code;
use tonic::body::Body;
use tower::Service;

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

async fn connection(instance: &Instance) -> Connection {
    let instance = Arc::new(instance.clone());
    let readiness = Readiness::detached(&instance);
    Connector::new(ConnectionConfig::default()).make(&instance, readiness).await.unwrap()
}

#[tokio::test]
async fn a_request_that_cannot_leave_is_given_back_as_it_came() {
    let mut connection = connection(&dead_instance().await).await;
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"all of it")));
    let request = http::Request::post("/Greet/Morning").header("x-mine", "1").body(body).unwrap();
    let error = connection.call(request).await.unwrap_err();
    assert!(error.is_unprocessed());
    assert_eq!(error.instance(), connection.instance());
    assert_eq!(error.status().code(), Code::Unavailable);
    let request = error.take_request().unwrap();
    assert_eq!(request.uri(), "/Greet/Morning");
    assert_eq!(request.headers().len(), 1);
    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "all of it");
    assert!(error.take_request().is_none());
}

#[tokio::test]
async fn a_response_names_its_instance_and_has_nothing_of_the_request() {
    let server = Server::start().await;
    let connection = connection(&server.instance()).await;
    until("it is connected", || format!("{connection:?}").contains("connected: true")).await;
    let id = connection.instance().clone();
    // An interceptor, for it needs of a body what other clients do not.
    let mut client = GreetClient::with_interceptor(connection, Ok);
    let mut request = tonic::Request::new(named("you"));
    request.extensions_mut().insert("of the request");
    let response = client.morning(request).await.unwrap();
    assert_eq!(response.extensions().get::<fleetward_core::InstanceId>(), Some(&id));
    assert_eq!(response.extensions().get::<&str>(), None);
}

#[tokio::test]
async fn the_last_handle_closes_it() {
    let server = Server::start().await;
    let connection = connection(&server.instance()).await;
    until("it is connected", || server.connections() == 1).await;
    let other = connection.clone();
    drop(connection);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(server.connections(), 1);
    drop(other);
    until("it is closed", || server.connections() == 0).await;
}

/// Middleware between does not cost the client its status code.
#[tokio::test]
async fn the_code_survives_without_a_channel() {
    let server = Server::start().await;
    let list = FixedInstancer::new("greeter", [server.instance()]);
    let connector = Connector::new(ConnectionConfig::default());
    let endpointer = DefaultEndpointer::<Connection>::new(list, connector);
    let mut client = GreetClient::new(Balanced::new(endpointer, RoundRobin::new()));
    assert!(client.morning(named("you")).await.is_ok());
    let call = tokio::spawn(async move { client.morning(named("sleep 5000")).await });
    until("the call arrived", || server.running() == 1).await;
    server.kill();
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

/// A connection whose other end is silent is noticed by its pings.
#[tokio::test]
async fn pings_find_a_connection_that_is_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let config = ConnectionConfig::default()
        .with_http2_keep_alive_interval(Duration::from_secs(1))
        .with_keep_alive_timeout(Duration::from_millis(300))
        .with_keep_alive_while_idle(true);
    let list = FixedInstancer::new("greeter", [instance]);
    let channel = fleetward_grpc::Channel::builder(list).connection(config).build();
    let (mut socket, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();
    // SETTINGS, and never a word again.
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    ready(&channel, 1).await;
    let read_all = async { while socket.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {} };
    timeout(Duration::from_secs(4), read_all).await.expect("the connection is still up");
    timeout(LONG, listener.accept()).await.expect("not dialled again").unwrap();
}

#[tokio::test]
async fn only_so_many_connections_are_made_at_once() {
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hole.local_addr().unwrap();
    let instances = (0..20).map(|i| Instance::new(address).unwrap().with_id(&format!("{i}")));
    let list = FixedInstancer::new("greeter", instances.map(Result::unwrap));
    let config = ConnectionConfig::default().with_max_dials(3);
    let _channel = fleetward_grpc::Channel::builder(list).connection(config).build();
    let mut open = Vec::new();
    while let Ok(accepted) = timeout(Duration::from_millis(300), hole.accept()).await {
        open.push(accepted.unwrap());
    }
    assert_eq!(open.len(), 3);
    // As one gives up, the next begins.
    open.pop();
    timeout(LONG, hole.accept()).await.expect("nobody else dials").unwrap();
}

#[test]
fn bad_settings_are_errors() {
    let config = ConnectionConfig::default;
    assert!(config().with_max_frame_size(1).is_err());
    assert!(config().with_max_frame_size(1 << 24).is_err());
    assert!(config().with_max_frame_size(1 << 20).is_ok());
    assert!(config().with_initial_windows(u32::MAX, 1).is_err());
    assert!(config().with_initial_windows(1 << 16, 1 << 20).is_ok());
    assert!(config().with_user_agent("a\nb").is_err());
    assert!(config().with_authority("user@host").is_err());
    assert!(config().with_authority("a/b").is_err());
    assert!(config().with_authority("greeter.internal").is_ok());
}
