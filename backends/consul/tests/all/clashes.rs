//! One id under two keys, on a real agent.

use std::time::Duration;

use fleetward_core::{Instance, Snapshot, Subscription};
use fleetward_testkit::servers::Consul;
use tokio::time::timeout;

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn shown(snapshot: &Snapshot) -> Vec<String> {
    let all = snapshot.instances.iter();
    all.map(|one| format!("{} {} {}", one.id(), one.address(), one.weight())).collect()
}

async fn until(watch: &mut Subscription, expected: &[&str]) {
    let reached = watch.wait_for(|snapshot| shown(snapshot) == expected);
    let outcome = timeout(PATIENCE, reached).await;
    assert!(outcome.is_ok(), "{expected:?}: {:?}", shown(&watch.current()));
}

/// As a node whose agent has died leaves it, until somebody removes it.
async fn entry(consul: &Consul, node: &str, address: &str, status: &str) {
    let body = format!(
        r#"{{"Node":"{node}","Address":"10.0.9.9","SkipNodeUpdate":false,
            "Service":{{"ID":"a:web","Service":"a","Address":"{address}","Port":80,"Meta":{{"fleetward_id":"web"}}}},
            "Check":{{"Node":"{node}","CheckID":"service:a:web","Name":"x","Status":"{status}","ServiceID":"a:web"}}}}"#
    );
    let answer = consul.put("/v1/catalog/register", &body).await;
    assert!(answer.contains("true"), "{answer}");
}

#[tokio::test]
async fn the_entry_of_a_dead_agent_hides_no_instance_that_has_moved() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let all = connect(config(&consul).with_passing(false)).await;
    let mut watch = follow(&all);
    // Before and behind the living node's name.
    entry(&consul, "a-dead", "10.0.0.1", "critical").await;
    entry(&consul, "z-dead", "10.0.0.1", "critical").await;
    until(&mut watch, &["web 10.0.0.1:80 0"]).await;
    let instance = Instance::new("10.0.0.1:80").unwrap().with_id("web").unwrap();
    let options = fleetward_core::RegisterOptions::default().with_ttl(Duration::from_secs(5));
    let keeper =
        fleetward_core::registration::Keeper::new(std::sync::Arc::new(registry(&consul).await));
    let registration = fleetward_core::registration::Registrar::register(
        &keeper,
        &service("a"),
        instance,
        options,
    )
    .await;
    let registration = registration.unwrap();
    until(&mut watch, &["web 10.0.0.1:80 1"]).await;
    // What dies after that does not hide it either.
    entry(&consul, "b-dead", "10.0.0.1", "passing").await;
    entry(&consul, "b-dead", "10.0.0.1", "critical").await;
    until(&mut watch, &["web 10.0.0.1:80 1"]).await;
    registration.deregister().await.unwrap();
    until(&mut watch, &["web 10.0.0.1:80 0"]).await;
}

#[tokio::test]
async fn one_id_at_two_nodes_and_addresses_is_two_instances() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let all = connect(config(&consul).with_passing(false)).await;
    let mut watch = follow(&all);
    entry(&consul, "n1", "10.0.0.2", "passing").await;
    entry(&consul, "n2", "10.0.0.1", "passing").await;
    until(&mut watch, &["web 10.0.0.1:80 1", "web 10.0.0.2:80 1"]).await;
    entry(&consul, "n1", "10.0.0.2", "critical").await;
    until(&mut watch, &["web 10.0.0.1:80 1", "web 10.0.0.2:80 0"]).await;
}
