//! The plain way: list, watch, register, renew, deregister; and go-kit's case 11.

use fleetward_core::discovery::Source;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_core::{ErrorKind, Instance, Metadata, ServiceName};
use fleetward_etcd::{EtcdCodec, EtcdConfig, EtcdRegistry};
use fleetward_testkit::servers::Etcd;
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn a_registration_is_listed_seen_renewed_and_removed() {
    for etcd in versions().await {
        for codec in [EtcdCodec::Grpc, EtcdCodec::Plain] {
            let registry = connect(config(&etcd).with_codec(codec)).await;
            let (before, cursor) = ids(&registry, "a").await;
            assert!(before.is_empty());
            let mut watch = Watch::open(&registry, "a", cursor).await;

            let mut leased = register(&registry, 0).await;
            assert_eq!(leased.ttl, TTL);
            let key = leased.lease.key().to_owned();
            assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
            assert_eq!(ids(&registry, "a").await.0, ["10.0.0.1:80"]);
            let kept = renewed(&registry, &mut leased.lease).await;
            assert!(matches!(kept, KeptAlive::Alive { ttl } if ttl == TTL), "{kept:?}");

            registry.deregister(leased.lease).await.unwrap();
            assert_eq!(watch.change().await, Seen::Gone(key));
            assert_eq!(ids(&registry, "a").await.0, [""; 0]);
            assert_eq!(leases(&etcd).await, 0);
        }
    }
}

#[tokio::test]
async fn keys_and_values_are_those_of_others() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let plain = config(&etcd).with_codec(EtcdCodec::Plain).with_schema("grpclb");
    let lease = registry(&etcd).await;
    let grpc = connect(config(&etcd).with_prefix("foo")).await;
    let plain = connect(plain).await;
    let _leases = (register(&lease, 0).await, register(&grpc, 0).await, register(&plain, 0).await);
    let all = etcd.etcdctl(&["get", "--prefix", ""]).await;
    let json = r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}"#;
    let expected = format!(
        "/grpclb/a/10.0.0.1:80\n10.0.0.1:80\na/10.0.0.1:80\n{json}\nfoo/a/10.0.0.1:80\n{json}\n"
    );
    assert_eq!(all, expected);
}

#[tokio::test]
async fn what_is_put_by_hand_is_seen_at_once() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let plain = config(&etcd).with_codec(EtcdCodec::Plain).with_schema("grpclb");
    for (registry, key, value) in [
        (registry(&etcd).await, "a/10.0.0.1:80", value("10.0.0.1:80")),
        (connect(plain).await, "/grpclb/a/10.0.0.1:80", "10.0.0.1:80".to_owned()),
    ] {
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        let begun = Instant::now();
        let (_, seen) = tokio::join!(put(&etcd, key, &value), async {
            assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
            begun.elapsed()
        });
        println!("seen {seen:?} after etcdctl was started");
    }
}

#[tokio::test]
async fn everything_that_an_instance_says_comes_back() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let metadata = Metadata::new([("protocol", "grpc")]).unwrap();
    let instance = Instance::new("http://[::1]:8080")
        .unwrap()
        .with_id("a-1")
        .unwrap()
        .with_weight(0)
        .with_zone("eu-1a")
        .with_version("1.2")
        .with_metadata(metadata);
    let _leased = registry.register(&service("a"), &instance, TTL).await.unwrap();
    let listing = registry.list(&service("a")).await.unwrap();
    assert_eq!(**listing.entries[0].readable().next().unwrap(), instance);
}

#[tokio::test]
async fn a_bad_entry_is_one_entry_with_an_error() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
        put(&etcd, "a/bad", "not JSON").await;
        put(&etcd, "a/b/10.0.0.2:80", &value("10.0.0.2:80")).await;
        put(&etcd, "a/gone", r#"{"Op":1,"Addr":"10.0.0.3:80"}"#).await;
        put(&etcd, "a/big", &" ".repeat(100_000)).await;
        let listing = registry.list(&service("a")).await.unwrap();
        let (good, bad): (Vec<_>, Vec<_>) =
            listing.entries.iter().partition(|entry| entry.readable().count() == 1);
        assert_eq!(good.len(), 1);
        let keys: Vec<_> = bad.iter().map(|entry| &**entry.key()).collect();
        assert_eq!(keys, ["a/b/10.0.0.2:80", "a/bad", "a/big"]);

        let mut watch = Watch::open(&registry, "a", listing.cursor).await;
        put(&etcd, "a/bad", "still not").await;
        assert_eq!(watch.change().await, Seen::Bad("a/bad".into()));
        put(&etcd, "a/10.0.0.1:80", r#"{"Op":1}"#).await;
        assert_eq!(watch.change().await, Seen::Gone("a/10.0.0.1:80".into()));
    }
}

#[tokio::test]
async fn go_kit_case_11_the_client_is_made_lazily() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    etcd.kill().await;
    let begun = Instant::now();
    let registry = registry(&etcd).await;
    assert!(begun.elapsed() < 3 * SECOND, "building does not wait for the server");
    assert!(registry.list(&service("a")).await.is_err());
    etcd.start_again().await;
    assert!(registry.list(&service("a")).await.is_ok(), "the same client works once etcd is up");
}

#[tokio::test]
async fn go_kit_case_11_no_endpoints() {
    let error = EtcdRegistry::connect(EtcdConfig::new([""; 0])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no etcd endpoint is given"), "{error}");
}

#[tokio::test]
async fn go_kit_case_11_missing_tls_files() {
    let at = || EtcdConfig::new(["10.0.0.1:2379"]);
    for (config, option) in [
        (at().with_ca_file("/nowhere/ca.pem"), "ca"),
        (at().with_client_certificate("/nowhere/cert.pem", "/nowhere/key.pem"), "cert"),
        (at().with_ca_pem("not a certificate"), "ca"),
        (at().with_ca_file("/etc/hostname"), "ca"),
    ] {
        let error = EtcdRegistry::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(error.context("option"), Some(option), "{error}");
    }
}

#[tokio::test]
async fn go_kit_case_11_a_dead_host() {
    // Refused, and never answered (a network that is reserved for documentation).
    for endpoint in ["127.0.0.1:1", "192.0.2.1:2379"] {
        let config = EtcdConfig::new([endpoint])
            .with_connect_timeout(SECOND / 2)
            .with_request_timeout(SECOND);
        let registry = connect(config).await;
        let begun = Instant::now();
        let list = registry.list(&service("a")).await.unwrap_err();
        let register = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
        assert!(begun.elapsed() < 3 * SECOND);
        for error in [list, register] {
            println!("{error}");
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
            assert_eq!(error.context("endpoint"), Some(&*format!("http://{endpoint}")));
            assert_eq!(error.context("service"), Some("a"));
        }
    }
}

#[tokio::test]
async fn go_kit_case_11_an_empty_key_or_value() {
    assert!(ServiceName::new("").is_err());
    assert!(Instance::new("").is_err());
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    put(&etcd, "a/", &value("10.0.0.1:80")).await;
    put(&etcd, "a/10.0.0.2:80", "").await;
    let listing = registry(&etcd).await.list(&service("a")).await.unwrap();
    assert_eq!(listing.entries.len(), 2);
    assert!(listing.entries.iter().all(|entry| entry.readable().count() == 0));
}

#[tokio::test]
async fn go_kit_case_11_registered_seen_deregistered_gone() {
    for etcd in versions().await {
        let (server, client) = (registry(&etcd).await, registry(&etcd).await);
        let (_, cursor) = ids(&client, "a").await;
        let mut watch = Watch::open(&client, "a", cursor).await;
        let leased = register(&server, 0).await;
        let (changes, _) = watch.changes(SECOND).await;
        assert_eq!(changes.len(), 1);
        server.deregister(leased.lease).await.unwrap();
        let (changes, cursor) = watch.changes(SECOND).await;
        assert_eq!(changes.len(), 1);
        assert!(cursor.revision() > 0 && cursor.cluster_id() != 0);
    }
}
