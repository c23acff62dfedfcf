//! One id under two keys, on real servers.

use std::sync::Arc;

use fleetward_core::discovery::{Reflector, ReflectorConfig};
use fleetward_core::registration::{Keeper, Registrar};
use fleetward_core::{Instance, Instancer, Snapshot};
use fleetward_core::{RegisterOptions, Subscription};
use fleetward_etcd::EtcdRegistry;
use fleetward_testkit::servers::Etcd;
use tokio::time::{sleep, timeout};

use crate::support::*;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

fn follow(registry: &EtcdRegistry) -> Subscription {
    let source = Arc::new(registry.clone());
    Reflector::spawn(source, service("a"), ReflectorConfig::default()).unwrap().subscribe()
}

fn web(address: &str) -> Instance {
    Instance::new(address).unwrap().with_id("web").unwrap()
}

fn shown(snapshot: &Snapshot) -> Vec<String> {
    let all = snapshot.instances.iter();
    all.map(|one| format!("{} {} {}", one.id(), one.address(), one.weight())).collect()
}

async fn until(watch: &mut Subscription, expected: &[&str]) {
    let reached = watch.wait_for(|snapshot| shown(snapshot) == expected);
    let outcome = timeout(PATIENCE, reached).await;
    assert!(outcome.is_ok(), "{expected:?}: {:?}", shown(&watch.current()));
}

#[tokio::test]
async fn an_id_that_comes_back_at_another_address_is_seen_there_at_once() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let mut watch = follow(&registry);
        let keeper = Keeper::new(Arc::new(registry.clone()));
        let (keeper, service) = (&keeper, &service("a"));
        let options = || RegisterOptions::default().with_ttl(TTL);
        let keep = |address: &str| keeper.register(service, web(address), options());
        let first = keep("10.0.0.9:80").await.unwrap();
        until(&mut watch, &["web 10.0.0.9:80 1"]).await;
        // Its entry stands until the lease ends; the new one does not wait for that.
        let second = keep("10.0.0.1:80").await.unwrap();
        until(&mut watch, &["web 10.0.0.1:80 1", "web 10.0.0.9:80 1"]).await;
        let before = watch.current().revision;
        sleep(2 * TTL).await;
        assert_eq!(watch.current().revision, before, "two that live do not flap");
        assert!(first.status().is_registered() && second.status().is_registered());
        second.deregister().await.unwrap();
        until(&mut watch, &["web 10.0.0.9:80 1"]).await;
        first.deregister().await.unwrap();
        until(&mut watch, &[]).await;
    }
}

#[tokio::test]
async fn who_writes_the_id_of_another_does_not_hide_it() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let mut watch = follow(&registry);
    let keeper = Keeper::new(Arc::new(registry.clone()));
    let options = RegisterOptions::default().with_ttl(TTL);
    let honest = keeper.register(&service("a"), web("10.0.0.5:80"), options).await.unwrap();
    until(&mut watch, &["web 10.0.0.5:80 1"]).await;
    let claim = |address: &str, weight: u32| {
        format!(r#"{{"Op":0,"Addr":"{address}","Metadata":{{"id":"web","weight":{weight}}}}}"#)
    };
    // At another address, and at its own, under keys before and behind.
    put(&etcd, "a/0", &claim("10.0.0.6:80", 1)).await;
    put(&etcd, "a/1", &claim("10.0.0.5:80", 0)).await;
    put(&etcd, "a/z", &claim("10.0.0.5:80", 0)).await;
    until(&mut watch, &["web 10.0.0.5:80 1", "web 10.0.0.6:80 1"]).await;
    // A claim that is as healthy counts if it is newer, and no longer than it stands.
    put(&etcd, "a/z", &claim("10.0.0.5:80", 3)).await;
    until(&mut watch, &["web 10.0.0.5:80 3", "web 10.0.0.6:80 1"]).await;
    // Who begins to watch only now finds the same.
    until(&mut follow(&registry), &["web 10.0.0.5:80 3", "web 10.0.0.6:80 1"]).await;
    etcd.etcdctl(&["del", "--prefix", "a/z"]).await;
    until(&mut watch, &["web 10.0.0.5:80 1", "web 10.0.0.6:80 1"]).await;
    assert!(honest.status().is_registered());
}
