//! What is known to go wrong with lists and watches of etcd.

use std::time::Duration;

use fleetward_core::ErrorKind;
use fleetward_core::discovery::{Change, Source};
use fleetward_testkit::servers::Etcd;

use crate::support::*;

#[tokio::test]
async fn pitfall_compaction_loses_the_cursor_and_a_list_finds_it_again() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
        put(&etcd, "a/10.0.0.2:80", &value("10.0.0.2:80")).await;
        let (_, old) = ids(&registry, "a").await;
        etcd.etcdctl(&["del", "a/10.0.0.1:80"]).await;
        put(&etcd, "a/10.0.0.3:80", &value("10.0.0.3:80")).await;
        let (_, new) = ids(&registry, "a").await;
        etcd.etcdctl(&["compact", &new.revision().to_string()]).await;

        let error = Watch::begin(&registry, "a", old).error(SECOND).await;
        assert!(error.is_cursor_lost(), "{error}");
        let (found, cursor) = ids(&registry, "a").await;
        assert_eq!(found, ["10.0.0.2:80", "10.0.0.3:80"], "the missed delete is applied");
        let mut watch = Watch::open(&registry, "a", cursor).await;
        etcd.etcdctl(&["del", "a/10.0.0.2:80"]).await;
        assert_eq!(watch.change().await, Seen::Gone("a/10.0.0.2:80".into()));
    }
}

#[tokio::test]
async fn pitfall_future_revision_of_a_wiped_server() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        for _ in 0..5 {
            put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
        }
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        // Its history begins anew, under the same cluster id.
        etcd.wipe().await;
        etcd.start_again().await;
        watch.error(SECOND).await;
        let error = Watch::begin(&registry, "a", cursor).error(5 * SECOND).await;
        assert!(error.is_cursor_lost(), "{error}");
        assert_eq!(ids(&registry, "a").await.0, [""; 0]);
    }
}

#[tokio::test]
async fn pitfall_future_revision_of_another_cluster() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let (_, cursor) = ids(&registry, "a").await;
    etcd.wipe_as_new_cluster().await;
    etcd.start_again().await;
    for _ in 0..5 {
        put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
    }
    // The revision exists here too, and means something else.
    let error = Watch::begin(&registry, "a", cursor).error(5 * SECOND).await;
    assert!(error.is_cursor_lost(), "{error}");
    let (found, new) = ids(&registry, "a").await;
    assert_eq!(found, ["10.0.0.1:80"]);
    assert_ne!(new.cluster_id(), cursor.cluster_id());
}

#[tokio::test]
async fn pitfall_delete_carries_only_the_key() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        // The key does not tell the instance, and neither would the delete.
        put(&etcd, "a/some-key", &value("10.0.0.1:80")).await;
        let (found, cursor) = ids(&registry, "a").await;
        assert_eq!(found, ["10.0.0.1:80"]);
        let mut watch = Watch::open(&registry, "a", cursor).await;
        etcd.etcdctl(&["del", "a/some-key"]).await;
        assert_eq!(watch.change().await, Seen::Gone("a/some-key".into()));
    }
}

#[tokio::test]
async fn pitfall_prefix_foo_foobar() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        put(&etcd, "foo/10.0.0.1:80", &value("10.0.0.1:80")).await;
        put(&etcd, "foobar/10.0.0.2:80", &value("10.0.0.2:80")).await;
        put(&etcd, "foo", &value("10.0.0.3:80")).await;
        put(&etcd, "foo0", &value("10.0.0.4:80")).await;
        let listing = registry.list(&service("foo")).await.unwrap();
        assert_eq!(listing.entries.len(), 1);
        let mut watch = Watch::open(&registry, "foo", listing.cursor).await;
        for other in ["foobar/10.0.0.5:80", "foo", "foo0", "fo/10.0.0.6:80"] {
            put(&etcd, other, &value("10.0.0.5:80")).await;
        }
        put(&etcd, "foo/10.0.0.7:80", &value("10.0.0.7:80")).await;
        assert_eq!(watch.change().await, Seen::Put("10.0.0.7:80".into()));
    }
}

#[tokio::test]
async fn pitfall_progress_is_a_sign_of_life_and_no_bookmark() {
    let args = ["--experimental-watch-progress-notify-interval", "200ms"];
    let Some(etcd) = Etcd::builder().with_args(args).start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let (_, cursor) = ids(&registry, "a").await;
    let mut watch = Watch::open(&registry, "a", cursor).await;
    for _ in 0..3 {
        put(&etcd, "elsewhere", "x").await;
        let item = watch.next(2 * SECOND).await;
        assert!(matches!(item, Ok(Change::Progress)), "{item:?}");
    }
    put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
    assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
}

#[tokio::test]
async fn pitfall_watch_id_zero() {
    // Each watch has a stream of its own, where its id is 0; two on one connection do not mix.
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut a = Watch::open(&registry, "a", cursor).await;
        let mut b = Watch::open(&registry, "b", cursor).await;
        put(&etcd, "b/10.0.0.2:80", &value("10.0.0.2:80")).await;
        put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
        assert_eq!(a.change().await, Seen::Put("10.0.0.1:80".into()));
        assert_eq!(b.change().await, Seen::Put("10.0.0.2:80".into()));
    }
}

#[tokio::test]
async fn pitfall_watch_misses_nothing_between_list_and_watch() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        for n in 1..=3 {
            let address = format!("10.0.0.{n}:80");
            put(&etcd, &format!("a/{address}"), &value(&address)).await;
        }
        let mut watch = Watch::open(&registry, "a", cursor).await;
        let mut seen = Vec::new();
        let mut last = cursor;
        while seen.len() < 3 {
            let (changes, cursor) = watch.changes(SECOND).await;
            assert!(cursor.revision() > last.revision());
            last = cursor;
            seen.extend(changes.into_iter().map(Seen::from));
        }
        assert_eq!(
            seen,
            ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|id| Seen::Put(id.into()))
        );
        // The cursor that came with the last change is a place to go on from.
        drop(watch);
        put(&etcd, "a/10.0.0.4:80", &value("10.0.0.4:80")).await;
        let mut watch = Watch::open(&registry, "a", last).await;
        assert_eq!(watch.change().await, Seen::Put("10.0.0.4:80".into()));
    }
}

#[tokio::test]
async fn a_watch_of_a_server_that_ends_is_an_error_at_once() {
    for etcd in versions().await {
        let registry = registry(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        etcd.kill().await;
        let error = watch.error(SECOND).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.context("service"), Some("a"));
        etcd.start_again().await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
        assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
    }
}

#[tokio::test]
async fn a_watch_is_cancelled_at_any_await() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let (_, cursor) = ids(&registry, "a").await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(Watch::open(&registry, "a", cursor).await);
    }
    assert_eq!(watchers(&etcd).await, 20.0);
    drop(watches);
    for micros in 0..50 {
        let mut watch = Watch::begin(&registry, "a", cursor);
        let deadline = Duration::from_micros(micros * 40);
        let _cut_off = tokio::time::timeout(deadline, watch.next(TTL)).await;
    }
    let gone = || async { watchers(&etcd).await == 0.0 };
    fleetward_testkit::eventually("etcd has no watcher any more", 2 * SECOND, gone).await;
}
