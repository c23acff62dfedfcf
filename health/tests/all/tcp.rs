//! The TCP probe.

use fleetward_core::Instance;
use fleetward_core::health::Probe;
use fleetward_health::TcpProbe;
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn an_instance_that_dies_leaves_the_set_and_comes_back() {
    let (stays, first) = listen().await;
    let (dies, second) = listen().await;
    let (a, b) = (instance(first), instance(second));
    let endpointer = follow(builder(), [a.clone(), b.clone()], probing(TcpProbe::new()));
    until_ready(&endpointer, &[&a, &b]).await;
    drop(dies);
    until_ready(&endpointer, &[&a]).await;
    let back = TcpListener::bind(second).await.unwrap();
    until_ready(&endpointer, &[&a, &b]).await;
    drop((stays, back));
}

#[tokio::test]
async fn another_port_can_be_asked_and_the_error_names_it() {
    let ((_admin, admin), dead) = (listen().await, dead_address().await);
    let probe = TcpProbe::new().with_port(admin.port()).unwrap();
    assert!(probe.probe(&instance(dead), &()).await.is_ok());
    let error = TcpProbe::new().probe(&instance(dead), &()).await.unwrap_err().to_string();
    assert!(error.contains("refused") && error.contains(&dead.to_string()), "{error}");
    let probe = TcpProbe::new().with_port(dead.port()).unwrap();
    let error = probe.probe(&instance(admin), &()).await.unwrap_err().to_string();
    assert!(error.contains(&dead.to_string()), "{error}");
    assert!(TcpProbe::new().with_port(0).is_err());
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let (_listener, address) = listen().await;
    let named = Instance::new(format!("localhost:{}", address.port())).unwrap();
    assert!(TcpProbe::new().probe(&named, &()).await.is_ok());
    let nowhere = Instance::new("nowhere.invalid:80").unwrap();
    let error = TcpProbe::new().probe(&nowhere, &()).await.unwrap_err().to_string();
    assert!(error.contains("nowhere.invalid"), "{error}");
}
