//! Registrations that are lost, and how soon their owners come back.

use std::time::Duration;

use fleetward_core::discovery::Source;
use fleetward_core::registration::{Keeper, Registrar, Status, StatusWatch};
use fleetward_core::{RegisterOptions, Registration};
use fleetward_etcd::{EtcdConfig, EtcdRegistry};
use fleetward_testkit::eventually;
use fleetward_testkit::proxy::FaultProxy;
use fleetward_testkit::servers::{Etcd, EtcdCluster, EtcdVersion};
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// A renewal is due after 20 s at the earliest.
const LONG: Duration = Duration::from_secs(66);
/// Much less than that, much more than it takes.
const SOON: Duration = Duration::from_secs(8);

async fn keep(registry: &EtcdRegistry, n: u32, ttl: Duration) -> Registration {
    let keeper = std::sync::Arc::new(registry.clone());
    let options = RegisterOptions::default().with_ttl(ttl);
    let kept = Keeper::new(keeper).register(&service("a"), instance(n), options).await;
    kept.expect("it is registered")
}

async fn until(status: &mut StatusWatch, condition: impl FnMut(&Status) -> bool) {
    timeout(SOON, status.wait_for(condition)).await.expect("soon").unwrap();
}

/// Waits until the server watches so many keys.
async fn watched(etcd: &Etcd, count: f64) {
    eventually("the keys are watched", 2 * SOON, || async { watchers(etcd).await == count }).await;
}

async fn streams(etcd: &Etcd) -> f64 {
    metric(etcd, "etcd_debugging_mvcc_watch_stream_total").await
}

/// The lease that a key stands under.
async fn lease_of(etcd: &Etcd, key: &str) -> String {
    let lease = field(etcd, key, "Lease").await;
    lease.map_or_else(String::new, |lease| format!("{lease:x}"))
}

#[tokio::test]
async fn a_key_deleted_or_a_lease_revoked_is_back_long_before_the_next_renewal() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let _registration = keep(&registry, 0, LONG).await;
        watched(&etcd, 1.0).await;
        let key = "a/10.0.0.1:80";
        for revoke in [false, true, false, true] {
            let lease = lease_of(&etcd, key).await;
            match revoke {
                true => drop(etcd.etcdctl(&["lease", "revoke", &lease]).await),
                false => drop(etcd.etcdctl(&["del", key]).await),
            }
            let begun = Instant::now();
            let back = || async {
                let now = lease_of(&etcd, key).await;
                !now.is_empty() && now != lease
            };
            eventually("it is registered again", SOON, back).await;
            println!("back after {:?}", begun.elapsed());
            assert_eq!((keys(&etcd, "a/").await.len(), leases(&etcd).await), (1, 1));
            watched(&etcd, 1.0).await;
        }
    }
}

#[tokio::test]
async fn a_key_that_somebody_else_overwrites_is_noticed_at_once_and_left_alone() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let registration = keep(&registry, 0, LONG).await;
    let mut status = registration.watch_status();
    watched(&etcd, 1.0).await;
    put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
    until(&mut status, Status::is_retrying).await;
    assert_eq!(lease_of(&etcd, "a/10.0.0.1:80").await, "0", "the other one's");
    etcd.etcdctl(&["del", "a/10.0.0.1:80"]).await;
    until(&mut status, Status::is_registered).await;
    assert_eq!(keys(&etcd, "a/").await.len(), 1);
}

#[tokio::test]
async fn a_thousand_registrations_share_one_stream_and_come_back_together() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let (before, many) = (streams(&etcd).await, 1000);
    // Due for renewal after some 1,000 s: what is back before was told of its loss.
    let kept = futures::future::join_all((0..many).map(|n| keep(&registry, n, 48 * LONG))).await;
    watched(&etcd, f64::from(many)).await;
    assert_eq!(streams(&etcd).await - before, 1.0);
    let gone = Instant::now();
    etcd.etcdctl(&["del", "--prefix", "a/"]).await;
    let all = || async { keys(&etcd, "a/").await.len() == many as usize };
    // A busy machine carries out a few registrations a second, so the last ones wait their turn.
    eventually("all are back", 40 * SOON, all).await;
    println!("{many} are back after {:?}", gone.elapsed());
    watched(&etcd, f64::from(many)).await;
    drop(kept);
    watched(&etcd, 0.0).await;
    let over = || async { streams(&etcd).await == before };
    eventually("the stream has ended", SOON, over).await;
}

#[tokio::test]
async fn a_stream_that_breaks_begins_again_where_it_was() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let proxy = FaultProxy::start(etcd.addr()).await;
    let registry = connect(EtcdConfig::new([proxy.endpoint()])).await;
    let registrations = [keep(&registry, 0, LONG).await, keep(&registry, 1, LONG).await];
    watched(&etcd, 2.0).await;
    proxy.refuse().await;
    proxy.reset();
    watched(&etcd, 0.0).await;
    // Deleted while nobody looks, and compacted: only the revision to begin from is left.
    etcd.etcdctl(&["del", "a/10.0.0.1:80"]).await;
    let fields = etcd.etcdctl(&["get", "x", "--write-out=fields"]).await;
    let revision = fields.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap();
    etcd.etcdctl(&["compact", revision]).await;
    proxy.accept().await;
    let back = || async { keys(&etcd, "a/").await.len() == 2 };
    eventually("it is registered again", SOON, back).await;
    watched(&etcd, 2.0).await;
    etcd.etcdctl(&["del", "a/10.0.0.2:80"]).await;
    eventually("so is the other one", SOON, back).await;
    drop(registrations);
}

#[tokio::test]
async fn a_stream_with_an_old_token_takes_new_keys() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        let builder = Etcd::builder().with_version(version).with_jwt(60 * SECOND);
        let Some(etcd) = builder.start_or_skip().await else { return };
        let root = |args: &[&'static str]| [&["--user", "root:pw"], args].concat();
        etcd.etcdctl(&["user", "add", "root:pw"]).await;
        etcd.etcdctl(&["user", "grant-role", "root", "root"]).await;
        etcd.etcdctl(&["auth", "enable"]).await;
        let registry = connect(config(&etcd).with_user("root", "pw")).await;
        let first = keep(&registry, 0, LONG).await;
        watched(&etcd, 1.0).await;
        etcd.etcdctl(&root(&["user", "add", "somebody:else"])).await;
        let second = keep(&registry, 1, LONG).await;
        watched(&etcd, 2.0).await;
        for (registration, key) in [(&first, "a/10.0.0.1:80"), (&second, "a/10.0.0.2:80")] {
            let mut status = registration.watch_status();
            let del = root(&["del", key]);
            // It may be back before etcdctl has ended.
            tokio::join!(etcd.etcdctl(&del), until(&mut status, Status::is_retrying));
            until(&mut status, Status::is_registered).await;
            assert_eq!(ids(&registry, "a").await.0.len(), 2);
        }
    }
}

/// etcd's leader of before still believes for a moment that it leads, and that the leases that were
/// renewed with its successor have run out.
#[tokio::test]
async fn an_old_leader_that_comes_back_costs_less_than_a_renewal() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let registry = connect(EtcdConfig::new(cluster.endpoints())).await;
    let ttl = 12 * SECOND;
    let mut kept = Vec::new();
    for n in 0..5 {
        kept.push(keep(&registry, n, ttl).await);
    }
    let leader = cluster.wait_for_leader().await;
    let survivor = cluster.member((leader + 1) % 3);
    cluster.member(leader).pause().await;
    sleep(ttl + 3 * SECOND).await;
    let all = || async { keys(survivor, "a/").await.len() == 5 };
    eventually("all are kept through the change of leaders", SOON, all).await;
    let reader = connect(config(survivor)).await;
    let cursor = reader.list(&service("a")).await.unwrap().cursor;
    let mut watch = Watch::open(&reader, "a", cursor).await;
    cluster.member(leader).resume();
    let resumed = Instant::now();
    let (mut gone, mut longest) = (std::collections::HashMap::new(), Duration::ZERO);
    while resumed.elapsed() < 6 * SECOND || !gone.is_empty() {
        let Ok(item) = timeout(5 * SECOND, watch.next(60 * SECOND)).await else {
            assert!(resumed.elapsed() < ttl, "not back: {gone:?}");
            continue;
        };
        let fleetward_core::discovery::Change::Keys { changes, .. } = item.unwrap() else {
            continue;
        };
        for change in changes.into_iter().map(Seen::from) {
            match change {
                Seen::Gone(key) => drop(gone.insert(key, Instant::now())),
                Seen::Put(id) => {
                    let since = gone.remove(&format!("a/{id}"));
                    longest = longest.max(since.map_or(Duration::ZERO, |since| since.elapsed()));
                }
                Seen::Bad(key) => panic!("{key}"),
            }
        }
    }
    println!("the longest was gone for {longest:?}");
    assert!(longest < 2 * SECOND, "{longest:?}; a renewal is due each 4 s");
    assert_eq!(keys(survivor, "a/").await.len(), 5);
}
