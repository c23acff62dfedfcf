use std::pin::pin;
use std::time::Duration;

use fleetward_core::discovery::{Change, KeyChange, Source};
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_core::{Instance, ServiceName};
use futures::{FutureExt, StreamExt};

use crate::MemoryRegistry;

const TTL: Duration = Duration::from_secs(10);

fn greeter() -> ServiceName {
    ServiceName::new("greeter").unwrap()
}

fn instance(address: &str) -> Instance {
    Instance::new(address).unwrap()
}

async fn keys(registry: &MemoryRegistry) -> Vec<String> {
    let listing = registry.list(&greeter()).await.unwrap();
    listing.entries.iter().map(|entry| entry.key().to_string()).collect()
}

fn tell<C>(change: Change<C>) -> Vec<String> {
    let Change::Keys { changes, .. } = change else { panic!("only single changes") };
    let tell = |change: KeyChange| match change {
        KeyChange::Put(entry) => format!("+{}", entry.key()),
        KeyChange::Delete(key) => format!("-{key}"),
        _ => "?".to_owned(),
    };
    changes.into_iter().map(tell).collect()
}

#[tokio::test(start_paused = true)]
async fn an_entry_lives_as_long_as_its_lease_is_renewed() {
    let registry = MemoryRegistry::new();
    let mut leased = registry.register(&greeter(), &instance("10.0.0.1:1"), TTL).await.unwrap();
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(9)).await;
        let kept = registry.keep_alive(&mut leased.lease).await.unwrap();
        assert!(matches!(kept, KeptAlive::Alive { ttl: TTL }));
    }
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(keys(&registry).await, ["10.0.0.1:1"]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(keys(&registry).await.is_empty());
    let kept = registry.keep_alive(&mut leased.lease).await.unwrap();
    assert!(matches!(kept, KeptAlive::Lost { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_the_lists_cursor_misses_nothing_and_sees_expiry_in_time() {
    let registry = MemoryRegistry::new();
    let cursor = registry.list(&greeter()).await.unwrap().cursor;
    let _lease = registry.register(&greeter(), &instance("10.0.0.1:1"), TTL).await.unwrap();
    let service = greeter();
    let mut watch = pin!(registry.watch(&service, cursor));
    assert_eq!(tell(watch.next().await.unwrap().unwrap()), ["+10.0.0.1:1"]);
    let before = tokio::time::Instant::now();
    assert_eq!(tell(watch.next().await.unwrap().unwrap()), ["-10.0.0.1:1"]);
    let waited = before.elapsed();
    assert!(waited >= TTL && waited < TTL + Duration::from_millis(5), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_one_service_hears_nothing_of_another() {
    let registry = MemoryRegistry::new();
    let cursor = registry.list(&greeter()).await.unwrap().cursor;
    let service = greeter();
    let mut watch = pin!(registry.watch(&service, cursor));
    let other = ServiceName::new("greeter2").unwrap();
    let _lease = registry.register(&other, &instance("10.0.0.1:1"), TTL).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_older_than_the_history_is_lost() {
    let registry = MemoryRegistry::with_history(2);
    let cursor = registry.list(&greeter()).await.unwrap().cursor;
    for port in 1..=2 {
        let at = instance(&format!("10.0.0.1:{port}"));
        registry.register(&greeter(), &at, TTL).await.unwrap();
    }
    let service = greeter();
    let mut in_time = Box::pin(registry.watch(&service, cursor));
    assert_eq!(tell(in_time.next().await.unwrap().unwrap()).len(), 2);
    registry.register(&greeter(), &instance("10.0.0.1:3"), TTL).await.unwrap();
    let mut too_late = Box::pin(registry.watch(&service, cursor));
    let error = too_late.next().await.unwrap().unwrap_err();
    assert!(error.is_cursor_lost(), "{error}");
    assert!(too_late.next().await.is_none(), "an error is the last item");
}

#[tokio::test(start_paused = true)]
async fn an_older_lease_neither_renews_nor_removes_its_successors_entry() {
    let registry = MemoryRegistry::new();
    let mut old = registry.register(&greeter(), &instance("10.0.0.1:1"), TTL).await.unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    let new = registry.register(&greeter(), &instance("10.0.0.1:1"), TTL).await.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(keys(&registry).await.len(), 1, "the older lease's end does not remove it");
    let kept = registry.keep_alive(&mut old.lease).await.unwrap();
    assert!(matches!(kept, KeptAlive::Superseded { .. }));
    registry.deregister(old.lease).await.unwrap();
    assert_eq!(keys(&registry).await.len(), 1);
    registry.deregister(new.lease).await.unwrap();
    assert!(keys(&registry).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn registered_twice_in_one_moment_it_still_ends_with_its_time_to_live() {
    let registry = MemoryRegistry::new();
    for _ in 0..2 {
        registry.register(&greeter(), &instance("10.0.0.1:1"), TTL).await.unwrap();
    }
    tokio::time::advance(TTL).await;
    assert!(keys(&registry).await.is_empty());
}

#[tokio::test]
async fn a_shared_registry_is_one_by_name_and_gone_with_its_last_holder() {
    let one = MemoryRegistry::shared("one");
    one.register(&greeter(), &instance("10.0.0.1:1"), TTL).await.unwrap();
    assert_eq!(keys(&MemoryRegistry::shared("one")).await.len(), 1);
    assert!(keys(&MemoryRegistry::shared("two")).await.is_empty());
    drop(one);
    assert!(keys(&MemoryRegistry::shared("one")).await.is_empty());
}
