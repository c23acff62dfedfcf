//! What a URL lets a client see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleetward::{Error, ErrorKind, Instance, Instancer, Metadata, Snapshot};

/// What is seen through a URL, as soon as `condition` holds.
async fn seen(url: &str, condition: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut view = fleetward::discover(url).await.unwrap().subscribe();
    let wait = view.wait_for(condition);
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("it is seen in time").unwrap()
}

async fn ids(url: &str, count: usize) -> Vec<String> {
    let set = seen(url, |set| set.instances.len() == count).await;
    set.instances.iter().map(|instance| instance.id().to_string()).collect()
}

fn instance(id: &str, version: &str, zone: &str, team: &str) -> Instance {
    let metadata = Metadata::new([("team", team), ("tags", "grpc,blue")]).unwrap();
    let instance = Instance::new("10.0.0.1:80").unwrap().with_id(id).unwrap();
    instance.with_version(version).with_zone(zone).with_metadata(metadata)
}

#[tokio::test]
async fn filters_in_a_url_choose_what_is_seen() {
    let url = "memory://filters/greeter";
    let mut held = Vec::new();
    for (id, version, zone, team) in
        [("a", "v1", "eu-1a", "shop"), ("b", "v2", "eu-1a", "shop"), ("c", "v2", "eu-1b", "a=b")]
    {
        held.push(fleetward::register(url, instance(id, version, zone, team)).await.unwrap());
    }
    for (query, expected) in [
        ("", "abc"),
        ("only=version=v2", "bc"),
        ("only=version!=v2", "a"),
        ("only=version=v2&only=zone=eu-1a", "b"),
        ("only=meta.team=a=b", "c"),
        ("only=meta.team%3Dshop", "ab"),
        ("only=tag=blue", "abc"),
        ("prefer=zone=eu-1b", "c"),
        ("prefer=zone=us-1a", "abc"),
        ("only=version=v1&prefer=zone=eu-1b", "a"),
        ("only=version=v2&subset=5", "bc"),
    ] {
        let found = ids(&format!("{url}?{query}"), expected.len()).await.concat();
        assert_eq!(found, expected, "{query}");
    }
    let none = seen(&format!("{url}?only=zone=us-1a"), |set| !set.freshness.is_pending()).await;
    assert!(none.instances.is_empty() && none.freshness.error().is_none(), "{none:?}");
    let registry = fleetward::connect(&format!("{url}?only=version=v2")).await.unwrap();
    held.push(registry.register("greeter", instance("d", "v1", "eu-1a", "shop")).await.unwrap());
    assert_eq!(ids(url, 4).await.concat(), "abcd", "what is registered is not filtered");
    let mut view = registry.service("greeter").unwrap().subscribe();
    view.wait_for(|set| set.instances.len() == 2).await.unwrap();
}

#[tokio::test]
async fn who_connects_to_the_same_url_is_shown_the_same_snapshot() {
    let url = "memory://views-shared/greeter?only=version=v2";
    let _registered = fleetward::register(url, instance("a", "v2", "z", "t")).await.unwrap();
    let mut view = fleetward::discover(url).await.unwrap().subscribe();
    let one = view.wait_for(|set| set.instances.len() == 1).await.unwrap();
    let two = fleetward::discover(url).await.unwrap().subscribe().current();
    assert!(Arc::ptr_eq(&one, &two));
}

#[tokio::test]
async fn a_subset_is_of_its_size_and_of_its_client() {
    let addresses: Vec<_> = (0..100).map(|i| format!("10.0.0.{i}:80")).collect();
    let url = format!("static:{}", addresses.join(","));
    let with = |query: &str| format!("{url}?{query}");
    assert_eq!(ids(&url, 100).await.len(), 100);
    assert_eq!(ids(&with("subset=200"), 100).await.len(), 100);
    let mine = ids(&with("subset=20"), 20).await;
    assert_eq!(mine, ids(&with("subset=20&empty_set=60s"), 20).await, "the same for the process");
    let named = ids(&with("subset=20&client_id=a"), 20).await;
    assert_ne!(named, ids(&with("subset=20&client_id=b"), 20).await);
    let mut covered = BTreeSet::new();
    for index in 0..10 {
        covered.extend(ids(&with(&format!("subset=10&client_index={index}")), 10).await);
    }
    assert_eq!(covered.len(), 100, "ten clients with ten each leave no instance out");
}

#[tokio::test]
async fn a_static_list_with_a_name_has_views_too() {
    let registry = fleetward::connect("static://10.0.0.1:80,10.0.0.2:80/greeter?subset=1").await;
    let set = registry.unwrap().service("greeter").unwrap().subscribe().current();
    assert_eq!(set.instances.len(), 1);
}

#[tokio::test]
async fn mistakes_are_named_and_say_what_there_is() {
    for (query, expected) in [
        (
            "only=team=shop",
            "fields are: health, meta.KEY, tag, version, zone (field=team, option=only",
        ),
        ("only=v2", "fields are: health, meta.KEY, tag, version, zone (option=only"),
        ("prefer=zones=a", "option=prefer"),
        ("filter=version=v2", "only, prefer, subset, ttl (option=no. 1 of 1"),
        ("subset=0", "at least one"),
        ("subset=many", "option=subset"),
        ("subset=2&client_index=first", "option=client_index"),
        ("subset=2&client_index=1&client_id=a", "not both"),
        ("subset=2&client_id=", "the option is empty"),
        ("client_index=1", "only a subset"),
        ("client_id=a", "only a subset"),
    ] {
        let error: Error =
            fleetward::connect(&format!("memory:greeter?{query}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(expected), "{query}: {error}");
    }
}
