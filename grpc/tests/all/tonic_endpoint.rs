//! tonic's own connections as the endpoints of a balanced service.

use std::sync::Arc;

use fleetward_balancers::RoundRobin;
use fleetward_core::{Balanced, DefaultEndpointer, Endpointer, Instance};
use tonic::transport::Endpoint;

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
