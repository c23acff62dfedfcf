//! tonic's own connections as the endpoints of a balanced service.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fleetward_balancers::RoundRobin;
use fleetward_core::{Balanced, BoxError, DefaultEndpointer, Endpointer, Instance};
use fleetward_grpc::{Channel, RetryPolicy};
use http_body_util::BodyExt;
use tonic::Code;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::ServiceExt;

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

#[tokio::test]
async fn a_tonic_endpoint_is_a_factory_too() {
    let servers = [Server::start().await, Server::start().await];
    let endpointer =
        DefaultEndpointer::new(publisher(&servers), |instance: Arc<Instance>| async move {
            let uri = format!("http://{}", instance.address().authority());
            Ok::<_, tonic::transport::Error>(Endpoint::from_shared(uri)?.connect_lazy())
        });
    endpointer.endpoints().wait_for(|set| set.ready().len() == 2).await;
    let mut client = GreetClient::new(Balanced::new(endpointer, RoundRobin::new()));
    for _ in 0..10 {
        client.morning(named("you")).await.unwrap();
    }
    assert_eq!(servers.map(|server| server.calls()), [5, 5]);
}

/// Layers of one's own around each instance's client, with a body of their own: here around tonic's connections.
#[tokio::test]
async fn a_channel_retries_over_any_service_of_an_instance() {
    let servers = [Server::start().await, Server::start().await];
    let boxed = |response: http::Response<Body>| {
        response.map(|body| body.map_err(BoxError::from).boxed_unsync())
    };
    let tonic = move |instance: Arc<Instance>| async move {
        let uri = format!("http://{}", instance.address().authority());
        let channel = Endpoint::from_shared(uri)?.connect_lazy();
        Ok::<_, tonic::transport::Error>(channel.map_response(boxed))
    };
    let channel = Channel::builder(publisher(&servers))
        .balancer(RoundRobin::new())
        .retry(RetryPolicy::default())
        .build_on(tonic);
    channel.endpoints().wait_for(|set| set.ready().len() == 2).await;
    let mut client = GreetClient::new(channel);
    for _ in 0..10 {
        client.morning(named("you")).await.unwrap();
    }
    assert_eq!(servers.each_ref().map(Server::calls), [5, 5]);
    // A server's own status comes through as it is.
    let error = client.morning(named("code 7")).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    // What is UNAVAILABLE at one is tried at the other one.
    for server in &servers {
        server.seen.failing.store(1, Ordering::SeqCst);
        client.morning(named("you")).await.unwrap();
        server.seen.failing.store(0, Ordering::SeqCst);
    }
}
