//! Several servers, some of which are dead.

use fleetward_core::discovery::Source;
use fleetward_core::registration::{Keeper, Registrar, Registry};
use fleetward_core::{ErrorKind, Instance, RegisterOptions};
use fleetward_etcd::{EtcdConfig, EtcdRegistry};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::{Etcd, EtcdCluster};
use tokio::time::Instant;

use crate::support::*;

/// Counts the calls that fail.
async fn failures(registry: &EtcdRegistry, calls: usize) -> usize {
    let mut failed = 0;
    for call in 0..calls {
        if let Err(error) = registry.list(&service("a")).await {
            println!("call {call}: {error}");
            failed += 1;
        }
    }
    failed
}

/// A program that starts: it registers, with a time to live that leaves its keeper little time, it
/// looks for others, and it follows them. Nothing is tried twice.
async fn start(config: EtcdConfig, n: u32) -> Result<(), fleetward_core::Error> {
    let registry = std::sync::Arc::new(connect(config.clone()).await);
    let name = service("a");
    let options = RegisterOptions::default().with_ttl(2 * SECOND);
    let kept = Keeper::new(registry).register(&name, instance(n), options).await?;
    let fresh = connect(config).await;
    let cursor = fresh.list(&name).await?.cursor;
    Watch::begin(&fresh, "a", cursor).next(10 * SECOND).await?;
    kept.deregister().await
}

/// Many programs start at once, each of them with a server of its own to begin with.
async fn starts(cluster: &EtcdCluster, user: Option<&str>) {
    let config = || match user {
        Some(name) => EtcdConfig::new(cluster.endpoints()).with_user(name, "pw"),
        None => EtcdConfig::new(cluster.endpoints()),
    };
    let all = (0..24).map(|n| start(config(), n));
    let failed: Vec<_> =
        futures::future::join_all(all).await.into_iter().filter_map(Result::err).collect();
    let texts: Vec<_> = failed.iter().map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of 24: {texts:#?}", failed.len());
}

#[tokio::test]
async fn every_start_succeeds_while_one_of_three_is_down() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    // Of the leader too, and before the others have another one.
    for victim in [cluster.wait_for_leader().await, 0] {
        cluster.member(victim).kill().await;
        starts(&cluster, None).await;
        cluster.member(victim).start_again().await;
    }
}

#[tokio::test]
async fn every_start_succeeds_while_one_of_three_hangs() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    for victim in [cluster.wait_for_leader().await, 0] {
        cluster.member(victim).pause().await;
        starts(&cluster, None).await;
        cluster.member(victim).resume();
    }
}

#[tokio::test]
async fn every_login_succeeds_while_one_of_three_hangs_or_is_down() {
    // A login shall not take the machine's time.
    let builder = Etcd::builder().with_args(["--bcrypt-cost", "4"]);
    let Some(cluster) = builder.start_cluster_or_skip(3).await else { return };
    cluster.etcdctl(&["user", "add", "root:pw"]).await;
    cluster.etcdctl(&["user", "grant-role", "root", "root"]).await;
    cluster.member(0).etcdctl(&["auth", "enable"]).await;
    cluster.member(1).pause().await;
    starts(&cluster, Some("root")).await;
    cluster.member(1).resume();
    cluster.member(1).kill().await;
    starts(&cluster, Some("root")).await;
}

#[tokio::test]
async fn one_of_three_dead_fails_no_call() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let config = || EtcdConfig::new(cluster.endpoints());
    let warm = connect(config()).await;
    assert_eq!(failures(&warm, 1).await, 0);
    // Of the leader, too: the servers that are left elect another one.
    for victim in [cluster.wait_for_leader().await, 0] {
        cluster.member(victim).kill().await;
        eventually("another leader", 5 * SECOND, || async {
            cluster.leader().await.is_some_and(|leader| leader != victim)
        })
        .await;
        assert_eq!(failures(&warm, 30).await, 0);
        for _ in 0..6 {
            let fresh = connect(config()).await;
            assert_eq!(failures(&fresh, 10).await, 0);
            let leased = register(&fresh, 0).await;
            fresh.deregister(leased.lease).await.unwrap();
        }
        cluster.member(victim).start_again().await;
    }
}

#[tokio::test]
async fn a_stopped_server_is_left_after_one_deadline() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let follower = (cluster.wait_for_leader().await + 1) % 3;
    cluster.member(follower).pause().await;
    for _ in 0..4 {
        let config = EtcdConfig::new(cluster.endpoints()).with_request_timeout(SECOND);
        let registry = connect(config).await;
        let begun = Instant::now();
        // Many callers share the connection, so all of them may meet the stopped server once.
        let name = service("a");
        futures::future::join_all((0..20).map(|_| registry.list(&name))).await;
        assert_eq!(failures(&registry, 10).await, 0);
        assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    }
    cluster.member(follower).resume();
}

#[tokio::test]
async fn a_stopped_server_is_left_by_callers_with_less_patience_too() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let follower = (cluster.wait_for_leader().await + 1) % 3;
    cluster.member(follower).pause().await;
    for _ in 0..4 {
        let registry = connect(EtcdConfig::new(cluster.endpoints())).await;
        let name = service("a");
        // A keeper's deadline follows from the time to live, and may be shorter than ours.
        let mut cut_off = 0;
        for _ in 0..5 {
            let list = tokio::time::timeout(5 * SECOND, registry.list(&name)).await;
            cut_off += usize::from(list.is_err());
        }
        assert!(cut_off <= 1, "{cut_off} calls met the stopped server");
    }
    cluster.member(follower).resume();
}

#[tokio::test]
async fn a_killed_leader_costs_a_moment() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let registry = connect(EtcdConfig::new(cluster.endpoints())).await;
    let instance = Instance::new("10.0.0.1:80").unwrap();
    let mut leased = registry.register(&service("a"), &instance, 10 * SECOND).await.unwrap();
    let leader = cluster.wait_for_leader().await;
    cluster.member(leader).kill().await;
    let killed = Instant::now();
    // What a keeper and a reflector do, without their backoff.
    eventually("the lease is renewed", 5 * SECOND, || async {
        matches!(registry.list(&service("a")).await, Ok(listing) if listing.entries.len() == 1)
    })
    .await;
    println!("listed {:?} after the leader was killed", killed.elapsed());
    let (_, cursor) = ids(&registry, "a").await;
    let mut watch = Watch::open(&registry, "a", cursor).await;
    let address = "a/10.0.0.2:80";
    let survivor = cluster.member((leader + 1) % 3);
    put(survivor, address, &value("10.0.0.2:80")).await;
    assert_eq!(watch.change().await, Seen::Put("10.0.0.2:80".into()));
    println!("an event was seen {:?} after the leader was killed", killed.elapsed());
    assert!(killed.elapsed() < 5 * SECOND);
    let kept = renewed(&registry, &mut leased.lease).await;
    assert!(matches!(kept, fleetward_core::registration::KeptAlive::Alive { .. }), "{kept:?}");
}

#[tokio::test]
async fn pitfall_require_leader_ends_the_watch_of_a_server_without_one() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let survivor = cluster.member(0);
    let with = registry(survivor).await;
    let without = connect(config(survivor).with_require_leader(false)).await;
    let (_, cursor) = ids(&with, "a").await;
    let mut ends = Watch::open(&with, "a", cursor).await;
    let mut deaf = Watch::open(&without, "a", cursor).await;
    tokio::join!(cluster.member(1).kill(), cluster.member(2).kill());
    let killed = Instant::now();
    let error = ends.error(5 * SECOND).await;
    println!("{:?}: {error}", killed.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let silent = tokio::time::timeout(5 * SECOND, deaf.next(10 * SECOND)).await;
    assert!(silent.is_err(), "without it, nothing is heard: {silent:?}");
}

#[tokio::test]
async fn an_instance_is_removed_although_the_first_server_asked_is_dead() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let registry = connect(EtcdConfig::new(cluster.endpoints())).await;
    let leader = cluster.wait_for_leader().await;
    for n in 0..3 {
        let leased = register(&registry, n).await;
        let follower = (leader + 1 + n as usize % 2) % 3;
        cluster.member(follower).kill().await;
        registry.deregister(leased.lease).await.expect("the second server is asked");
        assert!(ids(&registry, "a").await.0.is_empty());
        cluster.member(follower).start_again().await;
    }
}
