//! What is known to go wrong with leases of etcd.

use std::time::Duration;

use fleetward_core::ErrorKind;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Etcd;

use crate::support::*;

fn lost(kept: &KeptAlive) -> &str {
    match kept {
        KeptAlive::Lost { reason } => reason.message(),
        other => panic!("not lost: {other:?}"),
    }
}

fn superseded(kept: &KeptAlive) -> &str {
    match kept {
        KeptAlive::Superseded { reason } => {
            assert_eq!(reason.kind(), ErrorKind::Conflict);
            reason.message()
        }
        other => panic!("not superseded: {other:?}"),
    }
}

async fn revoke(etcd: &Etcd, lease: i64) {
    etcd.etcdctl(&["lease", "revoke", &format!("{lease:x}")]).await;
}

#[tokio::test]
async fn pitfall_ttl_1_is_raised_and_what_was_granted_is_returned() {
    // The shortest lease follows from the election timeout: 2 s with etcd's own default of 1 s.
    let args = ["--heartbeat-interval", "100", "--election-timeout", "1000"];
    let Some(etcd) = Etcd::builder().with_args(args).start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let asked = Duration::from_millis(700);
    let mut leased = registry.register(&service("a"), &instance(0), asked).await.unwrap();
    assert_eq!(leased.ttl, 2 * SECOND);
    let kept = renewed(&registry, &mut leased.lease).await;
    assert!(matches!(kept, KeptAlive::Alive { ttl } if ttl == 2 * SECOND), "{kept:?}");
}

#[tokio::test]
async fn pitfall_keepalive_dead_lease_ttl_0() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let mut leased = register(&registry, 0).await;
        revoke(&etcd, leased.lease.id()).await;
        let kept = renewed(&registry, &mut leased.lease).await;
        assert!(lost(&kept).contains("lease has ended"), "{kept:?}");
        // The same when it has run out by itself.
        let mut short = registry.register(&service("a"), &instance(1), SECOND).await.unwrap();
        let key = short.lease.key().to_owned();
        let gone = || async { keys(&etcd, &key).await.is_empty() };
        eventually("the lease runs out", 5 * SECOND, gone).await;
        let kept = renewed(&registry, &mut short.lease).await;
        assert!(lost(&kept).contains("lease has ended"), "{kept:?}");
        registry.deregister(short.lease).await.expect("gone is as good as removed");
    }
}

#[tokio::test]
async fn pitfall_put_dead_lease_is_an_error_and_leaves_no_key() {
    // Revoked between the grant and the put: nothing may stand there for ever.
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let hunter = etcd_lease_hunter(&etcd);
    let mut refused = 0;
    for n in 0..50 {
        match registry.register(&service("a"), &instance(n), TTL).await {
            Ok(mut leased) => {
                // Revoked after the put: found out at the next renewal.
                if let KeptAlive::Alive { .. } = renewed(&registry, &mut leased.lease).await {
                    registry.deregister(leased.lease).await.unwrap();
                }
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            }
        }
    }
    drop(hunter);
    println!("{refused} of 50 were revoked between the grant and the put");
    assert_eq!(keys(&etcd, "a/").await, [""; 0], "a key without a lease is for ever");
}

/// Revokes every lease that it sees, as fast as it can.
fn etcd_lease_hunter(etcd: &Etcd) -> tokio::task::JoinSet<()> {
    let mut set = tokio::task::JoinSet::new();
    let url = etcd.client_url();
    set.spawn(async move {
        let mut client = etcd_client::Client::connect([url], None).await.unwrap();
        loop {
            let leases = client.leases().await.unwrap();
            for lease in leases.leases() {
                let _gone = client.lease_revoke(lease.id()).await;
            }
        }
    });
    set
}

#[tokio::test]
async fn pitfall_key_verified_while_its_lease_lives() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let mut leased = register(&registry, 0).await;
        etcd.etcdctl(&["del", leased.lease.key()]).await;
        let kept = renewed(&registry, &mut leased.lease).await;
        assert!(lost(&kept).contains("key was deleted"), "{kept:?}");
        assert_eq!(leases(&etcd).await, 0, "the lease without a key is tidied up");
        // Registering again leaves exactly one key and one lease.
        let again = register(&registry, 0).await;
        assert_eq!(keys(&etcd, "a/").await, [again.lease.key()]);
        assert_eq!(leases(&etcd).await, 1);
    }
}

#[tokio::test]
async fn pitfall_ownership_the_successors_key_survives() {
    for etcd in versions().await {
        let (old, new) = (registry(&etcd).await, registry(&etcd).await);
        let mut first = register(&old, 0).await;
        let mut second = register(&new, 0).await;
        let kept = renewed(&old, &mut first.lease).await;
        assert!(superseded(&kept).contains(&format!("{:x}", second.lease.id())), "{kept:?}");
        // Its lease runs out or is revoked: it is still superseded, not lost.
        revoke(&etcd, first.lease.id()).await;
        superseded(&renewed(&old, &mut first.lease).await);
        old.deregister(first.lease).await.unwrap();
        assert_eq!(keys(&etcd, "a/").await, [second.lease.key()], "the successor's key survives");
        let kept = renewed(&new, &mut second.lease).await;
        assert!(matches!(kept, KeptAlive::Alive { .. }), "{kept:?}");
    }
}

#[tokio::test]
async fn pitfall_ownership_a_put_without_a_lease_is_noticed() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let mut leased = register(&registry, 0).await;
        let key = leased.lease.key().to_owned();
        put(&etcd, &key, &value("10.0.0.1:80")).await;
        let kept = renewed(&registry, &mut leased.lease).await;
        assert!(superseded(&kept).contains("without a lease"), "{kept:?}");
        etcd.etcdctl(&["del", &key]).await;
        lost(&renewed(&registry, &mut leased.lease).await);
    }
}

#[tokio::test]
async fn registering_again_takes_the_key_over_with_one_lease() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        // A process that was killed: nobody revokes its lease.
        let killed = registry.register(&service("a"), &instance(0), SECOND).await.unwrap();
        let leased = register(&registry, 0).await;
        assert_ne!(killed.lease.id(), leased.lease.id());
        let ended = || async { leases(&etcd).await == 1 };
        eventually("the old lease runs out", 5 * SECOND, ended).await;
        assert_eq!(keys(&etcd, "a/").await, [leased.lease.key()], "and leaves the key alone");
    }
}

#[tokio::test]
async fn a_dropped_registration_leaves_nothing_for_longer_than_its_ttl() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let (name, instance) = (service("a"), instance(0));
    for micros in 0..100 {
        let registering = registry.register(&name, &instance, SECOND);
        let _cut_off = tokio::time::timeout(Duration::from_micros(micros * 20), registering).await;
    }
    let gone = || async { keys(&etcd, "a/").await.is_empty() && leases(&etcd).await == 0 };
    eventually("nothing is left", 5 * SECOND, gone).await;
}

#[tokio::test]
async fn a_time_to_live_that_etcd_has_not_is_refused() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    for ttl in [Duration::ZERO, Duration::MAX] {
        let error = registry.register(&service("a"), &instance(0), ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let century = Duration::from_secs(3_000_000_000);
    assert_eq!(registry.register(&service("a"), &instance(0), century).await.unwrap().ttl, century);
}
