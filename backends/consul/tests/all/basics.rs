//! Discovery and registration on one agent: what case 9 of go-kit's tests asserts, and more.

use fleetward_core::discovery::Source;
use fleetward_core::model::Tags;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_core::{ErrorKind, Health, Instance, Metadata};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::time::{Instant, sleep};

use crate::support::*;

async fn two_tagged(consul: &Consul) {
    for (id, host, tags) in
        [("a-1", "10.0.0.1", r#"["blue","v1"]"#), ("a-2", "10.0.0.2", r#"["blue","v2"]"#)]
    {
        let body =
            format!(r#"{{"ID":"{id}","Name":"a","Address":"{host}","Port":80,"Tags":{tags}}}"#);
        put(consul, &body).await;
    }
}

#[tokio::test]
async fn go_kit_case_9_one_tag_selects_two() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    two_tagged(&consul).await;
    let registry = connect(config(&consul).with_tag("blue")).await;
    assert_eq!(addresses(&registry, "a").await, ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[tokio::test]
async fn go_kit_case_9_an_unknown_service_is_empty_and_no_failure() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    assert!(list(&registry, "nobody").await.is_empty());
    let mut watch = follow(&registry);
    converged(&mut watch, 0, 10 * SECOND).await;
}

#[tokio::test]
async fn go_kit_case_9_two_tags_are_anded() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    two_tagged(&consul).await;
    let registry = connect(config(&consul).with_tag("blue").with_tag("v2")).await;
    assert_eq!(addresses(&registry, "a").await, ["10.0.0.2:80"]);
    let none = connect(config(&consul).with_tag("v1").with_tag("v2")).await;
    assert!(list(&none, "a").await.is_empty());
}

#[tokio::test]
async fn go_kit_case_9_a_service_address_overrides_the_nodes() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    put(&consul, r#"{"ID":"a-1","Name":"a","Address":"10.0.0.1","Port":80}"#).await;
    put(&consul, r#"{"ID":"a-2","Name":"a","Port":81}"#).await;
    let registry = registry(&consul).await;
    let node = format!("{}:81", consul.addr().ip());
    assert_eq!(addresses(&registry, "a").await, ["10.0.0.1:80".to_owned(), node]);
}

#[tokio::test]
async fn a_watch_sees_each_change() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut watch = Watch::open(&registry, "a").await;
    put_plain(&consul, "a", "a-1", "10.0.0.1").await;
    watch.full_of(1).await;
    put_plain(&consul, "a", "a-2", "10.0.0.2").await;
    watch.full_of(2).await;
    for left in [1, 0] {
        remove(&consul, &format!("a-{}", left + 1)).await;
        watch.full_of(left).await;
    }
}

#[tokio::test]
async fn everything_about_an_instance_comes_back() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry =
        connect(config(&consul).with_register_tag("blue,green").with_register_tag("v")).await;
    let metadata =
        [("protocol", "grpc"), ("odd key/ü", "x"), ("zone", "other"), ("fleetward_id", "y")];
    let metadata = Metadata::new(metadata).unwrap();
    for (n, address, weight) in
        [(1, "10.0.0.1:80", 7), (2, "http://[::1]:80", 0), (3, "grpc://host-1:80", 70_000)]
    {
        let instance = Instance::new(address).unwrap().with_id(&format!("id {n}/[ü]")).unwrap();
        let instance = instance.with_weight(weight).with_zone("z").with_version("v1");
        let tags = Tags::new(["v", "own"]);
        let instance = instance.with_metadata(metadata.clone()).with_tags(tags);
        registry.register(&service("a"), &instance, TTL).await.unwrap();
        let found = list(&registry, "a").await;
        let found = found.iter().find(|found| found.id() == instance.id()).expect("it is there");
        assert_eq!(found.address(), instance.address());
        assert_eq!(found.weight(), weight);
        assert_eq!((found.zone(), found.version()), (Some("z"), Some("v1")));
        for (key, value) in metadata.iter() {
            if (key, value) != ("zone", "z") {
                assert!(
                    found.metadata().iter().any(|(k, v)| k == key && v == value) || key == "zone",
                    "{found:?}"
                );
            }
        }
        assert!(found.metadata().get("fleetward_lease").is_none());
        assert_eq!(found.metadata().get("consul.node"), Some("consul"));
        assert_eq!(found.metadata().get("consul.datacenter"), Some("dc1"));
        assert_eq!(found.health(), Health::Healthy);
        let tags: Vec<_> = found.tags().iter().collect();
        assert_eq!(tags, ["blue,green", "v", "own"]);
    }
}

#[tokio::test]
async fn a_registration_is_renewed_past_three_ttls_and_leaves_at_once() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut watch = follow(&registry);
    let registration = keep(&registry, 0, SECOND).await;
    println!("seen after {:?}", converged(&mut watch, 1, 10 * SECOND).await);
    let before = watch.current().revision;
    sleep(SECOND * 7 / 2).await;
    assert_eq!((watch.current().revision, watch.current().instances.len()), (before, 1));
    registration.deregister().await.unwrap();
    println!("gone after {:?}", converged(&mut watch, 0, 10 * SECOND).await);
    assert!(services(&consul).await.is_empty());
}

#[tokio::test]
async fn a_dropped_lease_is_out_of_sight_after_its_ttl() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let leased = registry.register(&service("a"), &instance(0), SECOND).await.unwrap();
    assert_eq!(list(&registry, "a").await.len(), 1);
    drop(leased);
    let begun = Instant::now();
    let gone = || async { list(&registry, "a").await.is_empty() };
    // The agent's check runs out in time; on a busy machine Consul tells its catalogue later.
    eventually("it is critical", 10 * SECOND, gone).await;
    println!("out of sight {:?} after the last heartbeat", begun.elapsed());
}

#[tokio::test]
async fn only_what_is_ours_is_removed() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let (old, new) = (registry(&consul).await, registry(&consul).await);
    let mut first = register(&old, 0).await.lease;
    let mut second = register(&new, 0).await.lease;
    assert_eq!(services(&consul).await, ["a:10.0.0.1:80"], "exactly one");
    let kept = renewed(&old, &mut first).await;
    assert!(matches!(kept, KeptAlive::Superseded { .. }), "{kept:?}");
    old.deregister(first).await.unwrap();
    assert!(matches!(renewed(&new, &mut second).await, KeptAlive::Alive { .. }));
    new.deregister(second.clone()).await.unwrap();
    new.deregister(second).await.unwrap();
    assert!(services(&consul).await.is_empty());
}

#[tokio::test]
async fn sibling_names_are_apart_and_a_thousand_instances_are_listed() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    put_plain(&consul, "foo", "1", "10.0.0.1").await;
    put_plain(&consul, "foobar", "2", "10.0.0.2").await;
    put_plain(&consul, "Foo.b_a-r", "3", "10.0.0.3").await;
    assert_eq!(addresses(&registry, "foo").await, ["10.0.0.1:80"]);
    assert_eq!(addresses(&registry, "Foo.b_a-r").await, ["10.0.0.3:80"]);
    for n in 0..1000 {
        put_plain(&consul, "many", &format!("m{n}"), &format!("10.1.{}.{}", n / 250, n % 250))
            .await;
    }
    let all = || async { list(&registry, "many").await.len() == 1000 };
    eventually("all are there", 10 * SECOND, all).await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_spoils_no_other() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    put_plain(&consul, "a", "good", "10.0.0.1").await;
    put_plain(&consul, "a", "bad", "169.254.169.254").await;
    put(&consul, r#"{"ID":"portless","Name":"a","Address":"10.0.0.2"}"#).await;
    let registry = registry(&consul).await;
    let listing = registry.list(&service("a")).await.unwrap();
    assert_eq!((listing.entries.len(), readable(&listing).len()), (3, 1));
}

#[tokio::test]
async fn what_consul_refuses_is_said() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = connect(config(&consul).with_filter("Nonsense ==")).await;
    let error = registry.list(&service("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let filter = r#"Service.Meta.shard == "7" and "blue" in Service.Tags"#;
    for (id, shard) in [("1", "7"), ("2", "8")] {
        put(
            &consul,
            &format!(r#"{{"ID":"{id}","Name":"a","Port":8{id},"Meta":{{"shard":"{shard}"}},"Tags":["blue"]}}"#),
        )
        .await;
    }
    let registry = connect(config(&consul).with_filter(filter).with_near("_agent")).await;
    let found = list(&registry, "a").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].metadata().get("consul.rank"), Some("0"));
}
